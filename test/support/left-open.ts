/** What keeps this process from ending, after its last test; node:process has names of it, its internals say which. */
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';

/** A line for each thing that is open: its class, and by what it can be told from others. */
export function leftOpen(): string[] {
  const handles = (Reflect.get(process, '_getActiveHandles') as () => object[]).call(process);
  const requests = (Reflect.get(process, '_getActiveRequests') as () => object[]).call(process);
  return [
    `in all: ${process.getActiveResourcesInfo().join(', ')}`,
    ...handles.map(handle => `${handle.constructor.name} ${traitsOf(handle)}`),
    ...requests.map(request => `${request.constructor.name} under way`),
  ];
}

function traitsOf(handle: object): string {
  const { fd, localPort, remotePort, destroyed, listening } = handle as Partial<
    Socket & { fd: number; listening: boolean }
  >;
  const { pid, spawnargs } = handle as Partial<ChildProcess>;
  const all = { fd, localPort, remotePort, destroyed, listening, pid, spawnargs };
  return JSON.stringify(Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));
}
