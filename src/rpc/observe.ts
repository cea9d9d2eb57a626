import {
  ResponderBuilder,
  ServerInterceptingCall,
  status,
  type Metadata,
  type ServerInterceptor,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import type { Steps } from '../base/steps';
import type { Metrics } from '../metrics/metrics';
import type { CallTrace, Traces } from '../metrics/traces';

/** Who wants to know how calls go; nobody, mostly. */
export interface Observers {
  metrics?: Metrics | undefined;
  traces?: Traces | undefined;
}

/** Of the calls under way that somebody observes. A call's handler gets the very metadata that the interceptor saw. */
const observed = new WeakMap<Metadata, Steps>();

/** Who hears of the steps of a call. */
export function stepsOf(metadata: Metadata): Steps | undefined {
  return observed.get(metadata);
}

/**
 * Counts every call as it ends, makes a trace of each that is to have one, and tells the steps of both. What a client
 * calls is its own invention unless it is one of `services`.
 */
export function observing({ metrics, traces }: Observers, services: readonly ServiceDefinition[]): ServerInterceptor {
  const known = new Set(services.flatMap(service => Object.values(service).map(({ path }) => path)));
  return ({ path }, call) => {
    const [, service = '', method = ''] = known.has(path) ? path.split('/') : ['', 'other', 'other'];
    const startedAt = performance.now();
    let trace: CallTrace | undefined;
    let isOpen = true;
    const begin = (metadata: Metadata) => {
      const [parent] = metadata.get('traceparent');
      const [state] = metadata.get('tracestate');
      trace = traces?.begin(service, method, parent?.toString(), state?.toString());
      observed.set(metadata, tee(metrics, trace));
    };
    const end = (code: status, details: string) => {
      if (!isOpen) return;
      isOpen = false;
      metrics?.rpcEnded(service, method, status[code], (performance.now() - startedAt) / 1000);
      trace?.end(code, details);
    };
    const responder = new ResponderBuilder()
      .withStart(next =>
        next({
          onReceiveMetadata: (metadata, go) => {
            begin(metadata);
            go(metadata);
          },
          onReceiveMessage: (message, go) => go(message),
          onReceiveHalfClose: go => go(),
          onCancel: () => end(status.CANCELLED, 'the caller went away'),
        }),
      )
      .withSendStatus((sent, next) => {
        end(sent.code, sent.details);
        next(sent);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}

function tee(metrics: Metrics | undefined, trace: Steps | undefined): Steps {
  return {
    step: (work, name, fromNs, toNs) => {
      metrics?.stepEnded(work, name, Number(toNs - fromNs) / 1e9);
      trace?.step(work, name, fromNs, toNs);
    },
    stage: text => trace?.stage(text),
  };
}
