import { basename } from 'node:path';
import { timeMethods } from './base/timed';
import type { Cgroups } from './cgroup/groups';
import type { Containers } from './container/containers';
import { LogGrowth } from './container/log-growth';
import type { Events } from './events/events';
import type { Images } from './image/images';
import type { Metrics, Readings } from './metrics/metrics';
import type { RunProgram } from './network/cni/plugin';

/** Who is asked when somebody reads the metrics. */
interface Measured {
  images: Images;
  containers: Containers;
  growth: LogGrowth;
}

/** `parts` are there by the time that somebody reads. */
export function readingsOf(parts: () => Measured): Readings {
  return {
    images: () => {
      const { images } = parts();
      const { usedBytes, inodesUsed } = images.usage();
      return { count: images.list().length, usedBytes, inodes: inodesUsed };
    },
    pulls: () => {
      const running = parts()
        .images.book.list()
        .filter(({ outcome }) => outcome === undefined);
      return {
        receivedBytes: running.reduce((sum, { doneBytes }) => sum + doneBytes, 0),
        expectedBytes: running.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
      };
    },
    pods: () =>
      parts()
        .containers.sandboxes.list()
        .map(({ record }) => record.state),
    containers: () =>
      parts()
        .containers.list()
        .map(({ record }) => record.state),
    monitors: () =>
      parts()
        .containers.list()
        .filter(({ monitor }) => monitor !== undefined).length,
    logBytes: () => parts().growth.total(),
    droppedLogBytes: () => Number(parts().containers.logDrops.totalBytes),
  };
}

/** Counts what is told, and times what cgroups do. Only for a daemon with metrics: objects are changed for it. */
export function measure(metrics: Metrics, cgroups: Cgroups, containers: Containers, growth: LogGrowth): void {
  const tell = (operation: string, seconds: number) => metrics.cgroupCallEnded(operation, seconds);
  timeMethods(cgroups, ['create', 'limit', 'limitDevices', 'kill', 'remove'], tell);
  if (cgroups.units) timeMethods(cgroups.units, ['startScope', 'startSlice', 'stop'], tell);
  countEvents(metrics, containers.events, id => {
    const container = containers.find(id);
    // Its last output: when somebody reads the metrics next, it may be gone.
    if (container) void growth.look(container);
  });
}

function countEvents(metrics: Metrics, events: Events, died: (id: string) => void): void {
  events.subscribe(({ type, action, id }) => {
    metrics.eventTold(type, action);
    if (type === 'container' && action === 'die') died(id);
    return undefined;
  });
}

/** Runs network plugins and tells how long they take. */
export function timedPlugins(run: RunProgram, metrics: Metrics): RunProgram {
  return async (path, args, options) => {
    const from = performance.now();
    let outcome: 'succeeded' | 'failed' = 'failed';
    try {
      const ended = await run(path, args, options);
      if (ended.status === 0) outcome = 'succeeded';
      return ended;
    } finally {
      const command = options.env['CNI_COMMAND'] ?? '';
      metrics.cniPluginEnded(command, basename(path), outcome, (performance.now() - from) / 1000);
    }
  };
}
