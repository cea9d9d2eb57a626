import { readFile } from 'node:fs/promises';
import type { Process } from '../cri/generated/berth/v1/stats';

/** How many processes are looked at together. */
const AT_A_TIME = 32;

/** The kernel's unit of times in /proc (USER_HZ), the same on all of berth's machines. */
const TICK_NS = 10_000_000n;

/**
 * What /proc tells of processes, those left out that have ended meanwhile. A command line is in the process's own memory,
 * whose lock one in state D may keep for good, together with the thread of the pool that asks for it: such a one has no
 * command line, unless all are `paused` and so in state D for that alone, which keeps no lock.
 */
export async function lookAt(pids: readonly number[], paused = false): Promise<Process[]> {
  const bootedAtNs = await bootTimeNs();
  const found: Process[] = [];
  for (let i = 0; i < pids.length; i += AT_A_TIME) {
    const some = await Promise.all(pids.slice(i, i + AT_A_TIME).map(pid => lookAtOne(pid, paused, bootedAtNs)));
    found.push(...some.flatMap(process => process ?? []));
  }
  return found;
}

async function lookAtOne(pid: number, paused: boolean, bootedAtNs: bigint): Promise<Process | undefined> {
  const read = async (file: string) => readFile(`/proc/${pid}/${file}`, 'utf8');
  try {
    const [stat, status] = await Promise.all([read('stat'), read('status')]);
    const found = parseProcess(stat, status, '', bootedAtNs);
    if (found.state === 'D' && !paused) return found;
    return parseProcess(stat, status, await read('cmdline'), bootedAtNs);
  } catch {
    return undefined; // it has ended
  }
}

/** proc_pid_stat(5): the name in parentheses may have any bytes in it, so that fields are counted from its end. */
export function parseProcess(stat: string, status: string, commandLine: string, bootedAtNs: bigint): Process {
  const nameEnd = stat.lastIndexOf(')');
  const name = stat.slice(stat.indexOf('(') + 1, nameEnd);
  // The first of these is field 3.
  const fields = stat
    .slice(nameEnd + 2)
    .trim()
    .split(' ');
  const field = (number: number) => fields[number - 3] ?? '0';
  const words = commandLine.replace(/\0$/, '').split('\0');
  return {
    pid: Number(stat.slice(0, stat.indexOf(' '))),
    parentPid: Number(field(4)),
    uid: Number(/^Uid:\t(\d+)/m.exec(status)?.[1] ?? 0),
    startedAtNs: bootedAtNs + BigInt(field(22)) * TICK_NS,
    cpuNs: (BigInt(field(14)) + BigInt(field(15))) * TICK_NS,
    terminal: terminalName(Number(field(7))),
    state: field(3),
    rssBytes: BigInt(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024n,
    command: commandLine === '' ? [`[${name}]`] : words,
  };
}

/** Of a dev_t in the kernel's old form: 136 to 143 are the majors of pseudoterminals. */
function terminalName(device: number): string {
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  if (device === 0) return '';
  return major >= 136 && major <= 143 ? `pts/${(major - 136) * 256 + minor}` : `${major}:${minor}`;
}

async function bootTimeNs(): Promise<bigint> {
  const seconds = /^btime (\d+)/m.exec(await readFile('/proc/stat', 'utf8'))?.[1];
  return BigInt(seconds ?? 0) * 1_000_000_000n;
}
