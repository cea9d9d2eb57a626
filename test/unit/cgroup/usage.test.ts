import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Cgroups } from '../../../src/cgroup/groups';
import type { Hierarchies } from '../../../src/cgroup/hierarchies';
import type { Usage } from '../../../src/cgroup/usage';

const PRESSURE = `some avg10=1.25 avg60=0.50 avg300=0.07 total=1234567
full avg10=0.00 avg60=0.10 avg300=0.00 total=890
`;

/** Of a container of busybox with a limit of 64 MiB, under Linux 6.18. */
const V1 = {
  'cpuacct/pod/c/cpuacct.usage': '10733912\n',
  'memory/pod/c/memory.usage_in_bytes': '7483392\n',
  'memory/pod/c/memory.stat': `cache 6619136
rss 135168
swap 0
pgfault 10
inactive_file 1
hierarchical_memory_limit 67108864
hierarchical_memsw_limit 100663296
total_cache 6619136
total_rss 135168
total_swap 4096
total_pgfault 1147
total_pgmajfault 3
total_inactive_file 2416640
total_active_file 4202496
`,
  'pids/pod/c/pids.current': '2\n',
};

const V2 = {
  'pod/c/cpu.stat': 'usage_usec 10733\nuser_usec 4000\nsystem_usec 6733\nnice_usec 0\n',
  'pod/c/memory.current': '7483392\n',
  'pod/c/memory.max': '67108864\n',
  'pod/c/memory.swap.current': '4096\n',
  'pod/c/memory.swap.max': '33554432\n',
  'pod/c/memory.stat': `anon 135168
file 6619136
kernel 725000
inactive_anon 131072
active_anon 4096
inactive_file 2416640
active_file 4202496
pgfault 1147
pgmajfault 3
`,
  'pod/c/pids.current': '2\n',
};

const PRESSURES = {
  'cpu.pressure': '',
  'memory.pressure': '',
  'io.pressure': '',
  'pod/c/cpu.pressure': PRESSURE,
  'pod/c/memory.pressure': PRESSURE,
  'pod/c/io.pressure': PRESSURE,
};

const USED: Partial<Usage> = {
  memoryBytes: 7483392,
  inactiveFileBytes: 2416640,
  memoryLimitBytes: 67108864,
  anonBytes: 135168,
  pageFaults: 1147,
  majorPageFaults: 3,
  swapBytes: 4096,
  swapLimitBytes: 33554432,
  tasks: 2,
};

const STALLED = {
  some: { avg10: 1.25, avg60: 0.5, avg300: 0.07, totalNs: 1234567000 },
  full: { avg10: 0, avg60: 0.1, avg300: 0, totalNs: 890000 },
};

/** Plain files in place of a kernel's, as it writes them. */
describe('what a cgroup uses', () => {
  let root: string;
  const files = (content: Record<string, string>) => {
    for (const [file, text] of Object.entries(content)) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), text);
    }
  };
  const v1 = (): Hierarchies['v1'] =>
    ['cpuacct', 'memory', 'pids'].map(name => ({ controllers: [name], mountpoint: join(root, name) }));
  const usageOf = async (hierarchies: Hierarchies, path = '/pod/c') => {
    const [usage] = await new Cgroups(hierarchies).usage([path]);
    assert.ok(usage);
    return usage;
  };
  const about = (wanted: Partial<Usage>, usage: Usage) =>
    Object.fromEntries(Object.keys(wanted).map(key => [key, usage[key as keyof Usage]]));

  beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'berth-usage-'))));
  afterEach(() => rmSync(root, { recursive: true }));

  it('is read from v1, all below it included', async () => {
    files(V1);
    const usage = await usageOf({ v1: v1(), v2: undefined, v2Controllers: [] });
    const wanted = { ...USED, cpuNs: 10733912, cpuPressure: undefined };
    assert.deepEqual(about(wanted, usage), wanted);
  });

  it('is read from v2, with its pressure', async () => {
    files({ ...V2, ...PRESSURES });
    const usage = await usageOf({ v1: [], v2: root, v2Controllers: ['cpu', 'memory', 'pids', 'io'] });
    const stalled = { cpuPressure: STALLED, memoryPressure: STALLED, ioPressure: STALLED };
    const wanted = { ...USED, cpuNs: 10733000, ...stalled };
    assert.deepEqual(about(wanted, usage), wanted);
  });

  it('is read from both where v1 has the controllers and v2 the pressure', async () => {
    files({ ...V1, ...PRESSURES });
    const usage = await usageOf({ v1: v1(), v2: root, v2Controllers: [] });
    const wanted = { ...USED, cpuNs: 10733912, ioPressure: STALLED };
    assert.deepEqual(about(wanted, usage), wanted);
  });

  it('has no limits where there are none', async () => {
    const none = '9223372036854771712';
    files({
      'memory/pod/c/memory.stat': `hierarchical_memory_limit ${none}\nhierarchical_memsw_limit ${none}\n`,
      'pod/c/memory.max': 'max\n',
      'pod/c/memory.swap.max': 'max\n',
    });
    for (const hierarchies of [
      { v1: v1(), v2: undefined, v2Controllers: [] },
      { v1: [], v2: root, v2Controllers: ['memory'] },
    ]) {
      const wanted = { memoryLimitBytes: undefined, swapLimitBytes: undefined };
      assert.deepEqual(about(wanted, await usageOf(hierarchies)), wanted);
    }
  });

  it('is nothing for a cgroup that is not there, and for a host that counts nothing', async () => {
    files(PRESSURES);
    const gone = await usageOf({ v1: v1(), v2: root, v2Controllers: [] }, '/gone');
    assert.deepEqual(new Set(Object.values(gone)), new Set([undefined]));
    const uncounted = await usageOf({ v1: [], v2: undefined, v2Controllers: [] });
    assert.deepEqual(new Set(Object.values(uncounted)), new Set([undefined]));
  });

  it('comes in the order of the question, of hundreds at a time', async () => {
    const paths = Array.from({ length: 300 }, (_, i) => `/pod/${i}`);
    files(Object.fromEntries(paths.map((path, i) => [`pids${path}/pids.current`, `${i}\n`])));
    const cgroups = new Cgroups({ v1: v1(), v2: undefined, v2Controllers: [] });
    for (let round = 0; round < 2; round++) {
      const usages = await cgroups.usage(paths);
      assert.deepEqual(
        usages.map(({ tasks }) => tasks),
        paths.map((_, i) => i),
      );
    }
  });
});
