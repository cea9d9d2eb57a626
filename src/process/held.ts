import { readFileSync } from 'node:fs';
import { errnoOf, isAbsent } from '../base/errors';

/** A process that was killed and is still there, as the kernel shows it. */
export interface HeldProcess {
  pid: number;
  name: string;
  /** Of proc_pid_stat(5): `D` waits in the kernel and hears no signal, `Z` waits for its parent. */
  state: string;
  /** The kernel's function that it waits in; undefined where the kernel does not say. */
  wchan: string | undefined;
}

/** What is known of each; who has ended meanwhile is left out. */
export function heldProcesses(pids: readonly number[]): HeldProcess[] {
  return pids.flatMap(pid => {
    const stat = readIfThere(`/proc/${pid}/stat`);
    if (stat === undefined) return [];
    const nameEnd = stat.lastIndexOf(')'); // the name may hold anything
    const wchan = readIfThere(`/proc/${pid}/wchan`);
    return [
      {
        pid,
        name: stat.slice(stat.indexOf('(') + 1, nameEnd),
        state: stat.charAt(nameEnd + 2),
        wchan: wchan === undefined || wchan === '' || wchan === '0' ? undefined : wchan,
      },
    ];
  });
}

const SHOWN = 3;

/** A clause for people: who does not end, its state, and where it waits. */
export function heldText(held: readonly HeldProcess[]): string {
  if (held.length === 0) return 'none of its processes is there any more, and its monitor has not said so yet';
  // Those that wait in the kernel are what the others wait for.
  const byState = [...held].sort((a, b) => Number(b.state === 'D') - Number(a.state === 'D'));
  const shown = byState.slice(0, SHOWN).map(oneText).join(', ');
  const more = held.length > SHOWN ? `, and ${held.length - SHOWN} more` : '';
  return `the kernel holds ${shown}${more}`;
}

function oneText({ pid, name, state, wchan }: HeldProcess): string {
  return `process ${pid} (${name}) in state ${state}${wchan === undefined ? '' : `, waiting in ${wchan}`}`;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch (error) {
    if (isAbsent(error) || errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  }
}
