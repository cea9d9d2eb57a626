import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../base/log';
import type { RuntimeServiceServer } from '../cri';
import type { Sandboxes } from '../sandbox/sandboxes';
import { metricDescriptors, podMetricsMessage } from '../stats/metrics/encode';
import type { Facts } from '../stats/metrics/facts';
import { sendItems } from './batches';
import { encoded } from './encoded';
import { serverStream, unary } from './handler';
import { listedSandboxes } from './runtime-lists';

export interface MetricsParts {
  log: Logger;
  sandboxes: Sandboxes;
  facts: Facts;
}

/** Pods whose metrics are written in one turn of the event loop: about 20 kB each. */
const AT_A_TURN = 16;

/** What the kubelet otherwise has of cAdvisor (KEP-2371), of pods that are ready. */
export function metricsRpcs({ log, sandboxes, facts }: MetricsParts) {
  const items = async () => {
    const pods = await facts.of(listedSandboxes(sandboxes.list()).filter(({ record }) => record.state === 'ready'));
    const written: Buffer[] = [];
    for (const pod of pods) {
      if (written.length % AT_A_TURN === AT_A_TURN - 1) await nextTurn();
      written.push(podMetricsMessage(pod));
    }
    return written;
  };
  return {
    listMetricDescriptors: unary(log, 'ListMetricDescriptors', () => ({ descriptors: metricDescriptors() })),
    listPodSandboxMetrics: unary(log, 'ListPodSandboxMetrics', async () => encoded(Buffer.concat(await items()))),
    streamPodSandboxMetrics: serverStream(log, 'StreamPodSandboxMetrics', async (_request, _ctx, send) => {
      await sendItems(send, await items());
    }),
  } satisfies Partial<RuntimeServiceServer>;
}
