import assert from 'node:assert/strict';
import type { Cgroups } from '../../../src/cgroup/groups';
import { measure } from '../../../src/measure';

describe('what is measured of cgroups', () => {
  it('is how long it takes to make and remove them, systemd’s units among them', async () => {
    const told: string[] = [];
    const done = () => Promise.resolve();
    const cgroups = {
      ...{ create: done, limit: done, limitDevices: done, kill: done, remove: done },
      units: { startScope: done, startSlice: done, stop: done },
    } as unknown as Cgroups;
    const [metrics, containers, growth] = [
      { cgroupCallEnded: (operation: string) => told.push(operation) },
      { events: { subscribe: () => undefined } },
      {},
    ] as unknown as [Parameters<typeof measure>[0], Parameters<typeof measure>[2], Parameters<typeof measure>[3]];
    measure(metrics, cgroups, containers, growth);
    const units = cgroups.units as unknown as Record<string, () => Promise<void>>;
    await cgroups.remove('/c');
    for (const operation of ['startScope', 'startSlice', 'stop']) await units[operation]?.();
    assert.deepEqual(told, ['remove', 'startScope', 'startSlice', 'stop']);
  });
});
