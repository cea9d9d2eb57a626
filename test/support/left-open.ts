/** What keeps this process from ending, after its last test; node:process has names of it, its internals say which. */
import { spawnSync, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';

/** A line for each thing that is open: its class, and by what it can be told from others. */
export function leftOpen(): string[] {
  const handles = (Reflect.get(process, '_getActiveHandles') as () => object[]).call(process);
  const requests = (Reflect.get(process, '_getActiveRequests') as () => object[]).call(process);
  return [
    `in all: ${process.getActiveResourcesInfo().join(', ')}`,
    ...handles.map(handle => `${handle.constructor.name} ${traitsOf(handle)}`),
    ...requests.map(request => `${request.constructor.name} under way`),
    ...unixSockets(),
  ];
}

/** This process's Unix sockets, which pipes to children are, too, and those that they are connected to, with their owners. */
function unixSockets(): string[] {
  const lines = spawnSync('ss', ['-xapnH'], { encoding: 'utf8' }).stdout?.split('\n') ?? [];
  const inodesOf = (line: string) => / (\d+) +\S+ (\d+) *(?:users|$)/.exec(line)?.slice(1) ?? [];
  const own = new Set(lines.filter(line => line.includes(`pid=${process.pid},`)).flatMap(inodesOf));
  own.delete('0'); // connected to nothing
  return lines.filter(line => inodesOf(line).some(inode => own.has(inode))).map(line => line.replace(/ +/g, ' '));
}

function traitsOf(handle: object): string {
  const { fd, localPort, remotePort, destroyed, listening } = handle as Partial<
    Socket & { fd: number; listening: boolean }
  >;
  const { pid, spawnargs } = handle as Partial<ChildProcess>;
  const all = { fd, localPort, remotePort, destroyed, listening, pid, spawnargs };
  return JSON.stringify(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));
}
