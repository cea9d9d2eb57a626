import { join } from 'node:path';
import { addon } from '../native/addon';
import { homeOf, type Hierarchies, type Home } from './hierarchies';

/** What a cgroup and all below it have read from a block device and written to it. */
export interface DeviceIo {
  /** `major:minor` */
  device: string;
  readBytes: number;
  writtenBytes: number;
  reads: number;
  writes: number;
}

/** By paths of cgroups, in their order; none where this host does not count. */
export async function readIo(hierarchies: Hierarchies, paths: readonly string[]): Promise<DeviceIo[][]> {
  const home = homeOf(hierarchies, 'blkio') ?? homeOf(hierarchies, 'io');
  if (!home || paths.length === 0) return paths.map(() => []);
  const files = filesOf(home);
  const all = paths.flatMap(path => files.map(file => join(home.mountpoint, path, file)));
  const texts = (await addon().readFiles(all.join('\0'), '')).split('\0');
  return paths.map((_, i) => {
    const [first = '', second = ''] = texts.slice(i * files.length, (i + 1) * files.length);
    return home.version === 1 ? parseBlkio(first, second) : parseIoStat(first);
  });
}

function filesOf({ version }: Home): string[] {
  if (version === 2) return ['io.stat'];
  // Counted for every device, whoever schedules it.
  return ['blkio.throttle.io_service_bytes_recursive', 'blkio.throttle.io_serviced_recursive'];
}

/** `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` */
export function parseIoStat(text: string): DeviceIo[] {
  return text.split('\n').flatMap(line => {
    const [device = '', ...fields] = line.split(' ');
    const values = new Map(fields.map(field => field.split('=') as [string, string]));
    const of = (key: string) => Number(values.get(key) ?? 0);
    if (!/^\d+:\d+$/.test(device)) return [];
    return [{ device, readBytes: of('rbytes'), writtenBytes: of('wbytes'), reads: of('rios'), writes: of('wios') }];
  });
}

/** `8:0 Read 1`, a line an operation, in a file for bytes and one for operations. */
export function parseBlkio(bytes: string, operations: string): DeviceIo[] {
  const [moved, done] = [bytes, operations].map(byDevice) as [Counters, Counters];
  return [...moved].map(([device, counts]) => ({
    device,
    readBytes: counts.get('Read') ?? 0,
    writtenBytes: counts.get('Write') ?? 0,
    reads: done.get(device)?.get('Read') ?? 0,
    writes: done.get(device)?.get('Write') ?? 0,
  }));
}

type Counters = Map<string, Map<string, number>>;

function byDevice(text: string): Counters {
  const found: Counters = new Map();
  for (const line of text.split('\n')) {
    const [device = '', operation = '', value = ''] = line.split(' ');
    if (!/^\d+:\d+$/.test(device)) continue;
    const counts = found.get(device) ?? new Map<string, number>();
    found.set(device, counts.set(operation, Number(value)));
  }
  return found;
}
