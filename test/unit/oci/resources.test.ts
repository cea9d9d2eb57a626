import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LinuxContainerResources } from '../../../src/cri';
import { mergedResources, podResources, resourcesSpec, touchedResources } from '../../../src/oci/resources';
import { jsonWithResources } from '../../../src/oci/spec';

const of = (resources: Partial<LinuxContainerResources>) => LinuxContainerResources.fromPartial(resources);
const NOTHING = { cpu: {}, memory: {}, hugepageLimits: [], unified: {} };

describe('resources', () => {
  it('are not set where the request has 0 or nothing', () => {
    assert.deepEqual(resourcesSpec(undefined), NOTHING);
    assert.deepEqual(resourcesSpec(of({})), NOTHING);
  });

  it('are in the OCI spec’s shape', () => {
    const spec = resourcesSpec(
      of({
        cpuShares: 2n,
        cpuQuota: -1n,
        cpuPeriod: 1000n,
        cpusetCpus: '0-3,7,8-15:1/2',
        cpusetMems: '0',
        memoryLimitInBytes: 10n,
        memorySwapLimitInBytes: 30n,
        hugepageLimits: [{ pageSize: '1GB', limit: 0n }],
        unified: { 'memory.high': '5' },
      }),
    );
    assert.deepEqual(spec, {
      cpu: { shares: 2n, quota: -1n, period: 1000n, cpus: '0-3,7,8-15:1/2', mems: '0' },
      memory: { limit: 10n, swap: 30n },
      hugepageLimits: [{ pageSize: '1GB', limit: 0n }],
      unified: { 'memory.high': '5' },
    });
  });

  it('have no swap beside a memory limit unless it is asked for', () => {
    const memory = (limit: bigint, swap: bigint) =>
      resourcesSpec(of({ memoryLimitInBytes: limit, memorySwapLimitInBytes: swap })).memory;
    assert.deepEqual(memory(10n, 0n), { limit: 10n, swap: 10n });
    assert.deepEqual(memory(10n, 10n), { limit: 10n, swap: 10n });
    assert.deepEqual(memory(10n, -1n), { limit: 10n, swap: -1n });
    assert.deepEqual(memory(-1n, 0n), { limit: -1n, swap: -1n });
    assert.deepEqual(memory(0n, -1n), { swap: -1n });
    for (const [limit, swap] of [
      [10n, 9n],
      [0n, 9n],
      [-1n, 9n],
      [-2n, 0n],
      [10n, -2n],
    ] as const) {
      assert.throws(() => memory(limit, swap), /memory/, `${limit} and ${swap}`);
    }
  });

  describe('after an update', () => {
    const present = of({ cpuShares: 100n, cpuQuota: 5000n, memoryLimitInBytes: 50n, unified: { 'io.weight': '1' } });

    it('are what it sets, and else what they were', () => {
      const merged = mergedResources(
        present,
        of({
          cpuShares: 200n,
          memorySwapLimitInBytes: 60n,
          hugepageLimits: [{ pageSize: '2MB', limit: 1n }],
          unified: { 'memory.high': '2' },
        }),
      );
      assert.equal(merged.cpuShares, 200n);
      assert.equal(merged.cpuQuota, 5000n);
      assert.equal(merged.memoryLimitInBytes, 50n);
      assert.equal(merged.memorySwapLimitInBytes, 60n);
      assert.deepEqual(merged.unified, { 'io.weight': '1', 'memory.high': '2' });
      const again = mergedResources(merged, of({ hugepageLimits: [{ pageSize: '2MB', limit: 0n }] }));
      assert.deepEqual(again.hugepageLimits, [{ pageSize: '2MB', limit: 0n }]);
    });

    it('are written where it touches them, with the other half of a pair', () => {
      const touched = (asked: Partial<LinuxContainerResources>) =>
        touchedResources(resourcesSpec(mergedResources(present, of(asked))), of(asked));
      assert.deepEqual(touched({}), NOTHING);
      assert.deepEqual(touched({ cpuShares: 3n }), { ...NOTHING, cpu: { shares: 3n } });
      assert.deepEqual(touched({ cpuPeriod: 2000n }), { ...NOTHING, cpu: { quota: 5000n, period: 2000n } });
      assert.deepEqual(touched({ memorySwapLimitInBytes: 70n }), { ...NOTHING, memory: { limit: 50n, swap: 70n } });
      assert.deepEqual(touched({ memoryLimitInBytes: 70n }), { ...NOTHING, memory: { limit: 70n, swap: 70n } });
      assert.deepEqual(touched({ unified: { 'pids.max': '3' } }), { ...NOTHING, unified: { 'pids.max': '3' } });
    });

    it('are the same when it sets nothing, or what there is', () => {
      const limit = fc.bigInt(0n, 1n << 40n);
      const resources = fc.record({
        cpuShares: limit,
        cpuQuota: limit,
        cpuPeriod: limit,
        memoryLimitInBytes: limit,
        memorySwapLimitInBytes: limit,
        oomScoreAdj: limit,
        cpusetCpus: fc.constantFrom('', '0', '1-2'),
      });
      fc.assert(
        fc.property(resources, some => {
          assert.deepEqual(mergedResources(of(some), of({})), of(some));
          assert.deepEqual(mergedResources(of(some), of(some)), of(some));
          assert.deepEqual(mergedResources(of({}), of(some)), of(some));
        }),
      );
    });
  });

  describe('of a pod', () => {
    it('are those of its containers and its overhead', () => {
      const sum = podResources(
        of({
          cpuShares: 100n,
          cpuQuota: 50_000n,
          memoryLimitInBytes: 100n,
          hugepageLimits: [
            { pageSize: '2MB', limit: 5n },
            { pageSize: '1GB', limit: 0n },
          ],
        }),
        of({
          cpuShares: 10n,
          cpuQuota: 10_000n,
          cpuPeriod: 50_000n,
          memoryLimitInBytes: 7n,
          hugepageLimits: [{ pageSize: '2MB', limit: 2n }],
        }),
      );
      assert.equal(sum?.cpuShares, 110n);
      assert.equal(sum?.cpuQuota, 70_000n);
      assert.equal(sum?.memoryLimitInBytes, 107n);
      assert.deepEqual(sum?.hugepageLimits, [
        { pageSize: '2MB', limit: 7n },
        { pageSize: '1GB', limit: 0n },
      ]);
    });

    it('stay unlimited where the containers are', () => {
      const overhead = of({ cpuShares: 1n, cpuQuota: 2000n, memoryLimitInBytes: 7n });
      assert.deepEqual(podResources(of({ cpuQuota: -1n, memoryLimitInBytes: -1n }), overhead), {
        ...of({ cpuQuota: -1n, memoryLimitInBytes: -1n }),
      });
      assert.equal(podResources(undefined, overhead), undefined);
      assert.equal(podResources(undefined, undefined), undefined);
    });
  });
});

describe('a spec as text', () => {
  it('gets other limits and keeps everything else, numbers of 64 bits and texts of digits, too', () => {
    const json = JSON.stringify(
      {
        process: { args: ['12345678901234567890', 'a\n12345678901234567890'], oomScoreAdj: 0 },
        linux: {
          resources: { devices: [{ allow: true }], memory: { limit: 5 } },
          seccomp: { args: [{ value: 'BIG' }] },
        },
      },
      null,
      2,
    ).replace('"BIG"', '18446744073709551615');
    const changed = jsonWithResources(json, resourcesSpec(of({ cpuQuota: -1n, memoryLimitInBytes: 1n << 62n })), -7);
    assert.match(changed, /"value": 18446744073709551615$/m);
    assert.match(changed, /"limit": 4611686018427387904,$/m);
    assert.match(changed, /"quota": -1$/m);
    const { process, linux } = JSON.parse(changed) as {
      process: { args: string[]; oomScoreAdj: number };
      linux: { resources: { devices: unknown[] } };
    };
    assert.deepEqual(process, { args: ['12345678901234567890', 'a\n12345678901234567890'], oomScoreAdj: -7 });
    assert.deepEqual(linux.resources.devices, [{ allow: true }]);
  });
});
