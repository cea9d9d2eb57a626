import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  deviceProperties,
  limitProperties,
  type Property,
  type UnitKind,
} from '../../../src/cgroup/systemd/properties';
import { Writer } from '../../../src/dbus/writer';

const INFINITY = 2n ** 64n - 1n;
const scope: UnitKind = { versionOf: () => 2, isScope: true };
const slice: UnitKind = { ...scope, isScope: false };
const values = (properties: readonly Property[]) =>
  Object.fromEntries(properties.map(([name, { value }]) => [name, value instanceof Uint8Array ? [...value] : value]));

describe("systemd's properties", () => {
  it('say what limits of a container say', () => {
    const limits = {
      cpu: { shares: 1024n, quota: 25_000n, period: 50_000n, cpus: '0-3,9', mems: '0' },
      memory: { limit: 4096n, swap: 6144n },
      pids: { limit: 10n },
    };
    assert.deepEqual(values(limitProperties(limits, scope)), {
      CPUWeight: 100n,
      CPUQuotaPerSecUSec: 500_000n,
      CPUQuotaPeriodUSec: 50_000n,
      AllowedCPUs: [0b1111, 0b10],
      AllowedMemoryNodes: [1],
      MemoryMax: 4096n,
      MemorySwapMax: 2048n,
      TasksMax: 11n,
    });
    assert.deepEqual(limitProperties({}, scope), []);
  });

  it('are those that systemd has on v1, where a quota is the container’s alone and shares are no weight', () => {
    const limits = {
      cpu: { shares: 512n, quota: 25_000n, period: 50_000n, cpus: '0', mems: '0' },
      memory: { limit: 4096n, swap: 6144n },
    };
    const onV1 = { versionOf: () => 1 as const };
    assert.deepEqual(values(limitProperties(limits, { ...scope, ...onV1 })), { CPUShares: 512n, MemoryMax: 4096n });
    assert.deepEqual(values(limitProperties(limits, { ...slice, ...onV1 })), {
      CPUShares: 512n,
      CPUQuotaPerSecUSec: 500_000n,
      CPUQuotaPeriodUSec: 50_000n,
      MemoryMax: 4096n,
    });
    for (const [asked, given] of [
      [1n, 2n],
      [300_000n, 262_144n],
    ] as const) {
      const properties = limitProperties({ cpu: { shares: asked } }, { ...scope, ...onV1 });
      assert.deepEqual(values(properties), { CPUShares: given });
    }
  });

  it('have no limit where none was asked for', () => {
    const limits = { cpu: { quota: -1n }, memory: { limit: -1n, swap: -1n }, pids: { limit: -1n } };
    assert.deepEqual(values(limitProperties(limits, scope)), {
      CPUQuotaPerSecUSec: INFINITY,
      MemoryMax: INFINITY,
      MemorySwapMax: INFINITY,
      TasksMax: INFINITY,
    });
  });

  it('never hold a container to less CPU than its own cgroup does', () => {
    const quotas = fc.bigInt({ min: 1000n, max: 10n ** 9n });
    fc.assert(
      fc.property(quotas, fc.bigInt({ min: 1000n, max: 1_000_000n }), (quota, period) => {
        const { CPUQuotaPerSecUSec } = values(limitProperties({ cpu: { quota, period } }, scope));
        assert.ok((CPUQuotaPerSecUSec as bigint) * period >= quota * 1_000_000n);
        assert.equal((CPUQuotaPerSecUSec as bigint) % 10_000n, 0n);
      }),
    );
  });

  it('say what unified keys say, as far as systemd has a word for them', () => {
    const unified = {
      'memory.high': '1048576',
      'memory.low': 'max',
      'memory.min': '4096',
      'memory.swap.max': '0',
      'cpu.weight': '50',
      'cpu.max': 'max 20000',
      'cpuset.cpus': '1',
      'pids.max': 'max',
      'io.weight': 'default 200',
      'io.max': '8:0 rbps=1000 wiops=max',
      'io.latency': '8:16 target=5000',
      'memory.oom.group': '1',
      'hugetlb.2MB.max': '0',
    };
    assert.deepEqual(values(limitProperties({ unified }, slice)), {
      MemoryHigh: 1048576n,
      MemoryLow: INFINITY,
      MemoryMin: 4096n,
      MemorySwapMax: 0n,
      CPUWeight: 50n,
      CPUQuotaPerSecUSec: INFINITY,
      CPUQuotaPeriodUSec: 20_000n,
      AllowedCPUs: [2],
      TasksMax: INFINITY,
      IOWeight: 200n,
      IOReadBandwidthMax: [['/dev/block/8:0', 1000n]],
      IOWriteIOPSMax: [['/dev/block/8:0', INFINITY]],
      IODeviceLatencyTargetUSec: [['/dev/block/8:16', 5000n]],
    });
  });

  it('leave values that are none to the kernel', () => {
    const unified = { 'memory.high': 'much', 'cpu.max': '', 'io.max': 'sda', 'cpuset.cpus': 'all', 'pids.max': '-1' };
    assert.deepEqual(limitProperties({ unified }, slice), []);
  });

  it('have groups of CPUs as cpuset(7) counts them', () => {
    assert.deepEqual(values(limitProperties({ cpu: { cpus: '0-7:2/4,16' } }, scope)), {
      AllowedCPUs: [0b0011_0011, 0, 1],
    });
  });

  it('allow the devices of a list, and nothing where the rules are no list', () => {
    const deny = { allow: false, type: 'a', access: 'rwm' } as const;
    const rules = [
      deny,
      { allow: true, type: 'c', access: 'm' },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
      { allow: true, type: 'c', major: 136, access: 'rwm' },
      { allow: true, type: 'b', major: 8, minor: 0, access: 'r' },
    ] as const;
    assert.deepEqual(values(deviceProperties(rules)), {
      DevicePolicy: 'strict',
      DeviceAllow: [
        ['char-*', 'm'],
        ['/dev/char/1:3', 'rwm'],
        ['char-136', 'rwm'],
        ['/dev/block/8:0', 'r'],
      ],
    });
    assert.deepEqual(deviceProperties([{ allow: true, type: 'a', access: 'rwm' }]), []);
    assert.deepEqual(deviceProperties([...rules, { allow: false, type: 'c', major: 1, minor: 3, access: 'w' }]), []);
  });

  it('are of the types that they say', () => {
    const limits = { cpu: { shares: 2n, quota: 1000n, cpus: '0' }, unified: { 'io.max': '8:0 rbps=1' } };
    const rules = [
      { allow: false, type: 'a', access: 'rwm' },
      { allow: true, type: 'c', access: 'm' },
    ] as const;
    new Writer().values('a(sv)', [[...limitProperties(limits, scope), ...deviceProperties(rules)]]);
  });
});
