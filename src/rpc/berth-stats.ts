import { setTimeout as sleep } from 'node:timers/promises';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import type { Cgroups } from '../cgroup/groups';
import type { Container, Containers } from '../container/containers';
import { containerByName } from '../container/find';
import { StatsService, type StatsServer, type WatchUsageRequest } from '../cri/generated/berth/v1/stats';
import { lookAt } from '../stats/processes';
import type { Readings } from '../stats/readings';
import { usageForPeople } from '../stats/usage-for-people';
import { nameOf } from './berth-containers';
import type { BerthParts } from './berth-service';
import { complete, serverStream, unary } from './handler';

const EVERY_MS = 1000;

export interface UsageParts extends Pick<BerthParts, 'log' | 'containers'> {
  readings: Readings;
  cgroups: Cgroups;
}

/** berth.v1.Stats: what containers use and what runs in them, those of the kubelet's and of people. */
export function statsService({ log, containers, readings, cgroups }: UsageParts): UntypedServiceImplementation {
  const built = {
    watchUsage: serverStream(log, 'WatchUsage', async (request, ctx, send) => {
      // A mistyped name is an error; one that goes away later is not.
      request.containers.forEach(name => containerByName(containers, name));
      for (;;) {
        const some = asked(containers, request);
        await send({ containers: await usageForPeople(containers, readings, cgroups, some) });
        await ctx.race(sleep(EVERY_MS, undefined, { ref: false }));
      }
    }),
    top: unary(log, 'Top', async ({ container }, ctx) => {
      const found = containerByName(containers, container);
      if (found.record.state !== 'running') {
        throw new BerthError('failed_precondition', `container ${nameOf(found)} is ${found.record.state}`, {
          hint: 'only in a running one are there processes',
        });
      }
      const { cgroupPath } = found.record;
      const pids = cgroups.processes(cgroupPath).sort((a, b) => a - b);
      ctx.stage('look at its processes');
      return { processes: await ctx.race(lookAt(pids, cgroups.isPaused(cgroupPath))) };
    }),
  } satisfies Partial<StatsServer>;
  return complete(StatsService, built);
}

function asked(containers: Containers, { containers: names, all }: WatchUsageRequest): Container[] {
  if (names.length > 0) {
    return names.flatMap(name => {
      try {
        return containerByName(containers, name);
      } catch {
        return []; // it was removed
      }
    });
  }
  const states = all ? ['created', 'running', 'exited'] : ['running'];
  return containers.list().filter(({ record }) => states.includes(record.state));
}
