import { Metadata } from '@grpc/grpc-js';
import type { Containers } from '../container/containers';
import { ContainerEventResponse, ContainerEventType, type RuntimeServiceServer } from '../cri';
import type { BerthEvent } from '../events/events';
import { forward } from '../events/subscription';
import { encoded } from './encoded';
import { serverStream } from './handler';
import type { RuntimeServiceParts } from './runtime-service';
import { containerStatus, podSandboxStatus } from './to-cri';

/**
 * GetContainerEvents: what happens to the kubelet's pods and containers from now on, without end. Initial metadata says
 * that nothing will be missed from here on. A subscriber that does not read is ended with RESOURCE_EXHAUSTED.
 */
export function eventRpcs({ log, containers }: RuntimeServiceParts) {
  const responseTo = once(event => encodedEvent(containers, event));
  return {
    getContainerEvents: serverStream(log, 'GetContainerEvents', async (_request, ctx, send, call) => {
      using subscription = containers.events.subscribe(responseTo);
      call.sendMetadata(new Metadata());
      ctx.stage('send what happens');
      await forward(subscription, ctx, async responses => {
        for (const response of responses) await send(response);
        return true;
      });
    }),
  } satisfies Partial<RuntimeServiceServer>;
}

/** All subscribers hear of an event one after the other, before the next: what is made of it is made once. */
function once<Made>(make: (event: BerthEvent) => Made): (event: BerthEvent) => Made {
  let last: { event: BerthEvent; made: Made } | undefined;
  return event => {
    if (last?.event !== event) last = { event, made: make(event) };
    return last.made;
  };
}

/** As bytes, which is what waits for a subscriber, and is less than the objects. */
function encodedEvent(containers: Containers, event: BerthEvent): ContainerEventResponse | undefined {
  const response = criEvent(containers, event);
  return response && encoded(Buffer.from(ContainerEventResponse.encode(response).finish()));
}

const CONTAINER_EVENTS: Readonly<Record<string, ContainerEventType>> = {
  create: ContainerEventType.CONTAINER_CREATED_EVENT,
  start: ContainerEventType.CONTAINER_STARTED_EVENT,
  die: ContainerEventType.CONTAINER_STOPPED_EVENT,
  destroy: ContainerEventType.CONTAINER_DELETED_EVENT,
};

const POD_EVENTS: Readonly<Record<string, ContainerEventType>> = {
  create: ContainerEventType.CONTAINER_CREATED_EVENT,
  start: ContainerEventType.CONTAINER_STARTED_EVENT,
  stop: ContainerEventType.CONTAINER_STOPPED_EVENT,
  destroy: ContainerEventType.CONTAINER_DELETED_EVENT,
};

/**
 * With the statuses as they are at the event, which is when this is called. A pod that is deleted has its last status:
 * the kubelet knows by its metadata whose event it is, and passes over one without.
 */
function criEvent(containers: Containers, event: BerthEvent): ContainerEventResponse | undefined {
  const types = event.type === 'container' ? CONTAINER_EVENTS : event.type === 'pod' ? POD_EVENTS : {};
  const containerEventType = types[event.action];
  const sandbox = containerEventType === undefined ? undefined : containers.sandboxes.find(event.podId);
  if (containerEventType === undefined || sandbox?.record.owner !== 'cri') return undefined;
  return {
    containerId: event.id,
    containerEventType,
    createdAt: event.timeNs,
    podSandboxStatus: podSandboxStatus(sandbox),
    containersStatuses: containers
      .ofSandbox(sandbox.record.id)
      .filter(({ record }) => record.state !== 'creating')
      .map(containerStatus),
  };
}
