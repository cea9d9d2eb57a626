import { constants } from 'node:os';
import { BerthError } from '../base/errors';
import { Signal } from '../cri';

/** Linux's first and last real-time signals, as programs see them (glibc keeps 32 and 33). */
const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** Names that the CRI lists and Node does not. */
const MORE: Readonly<Record<string, number>> = { SIGCLD: 17, SIGIOT: 6, SIGPOLL: 29, SIGPWR: 30, SIGSTKFLT: 16 };

/** The number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `SIGRTMAX-1`; undefined for anything else. */
export function signalNumber(name: string): number | undefined {
  const upper = name.trim().toUpperCase();
  if (/^\d+$/.test(upper)) {
    const number = Number(upper);
    return number >= 1 && number <= SIGRTMAX ? number : undefined;
  }
  const full = upper.startsWith('SIG') ? upper : `SIG${upper}`;
  const realtime = /^SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(full);
  if (realtime) {
    const offset = Number(realtime[3] ?? 0) * (realtime[2] === '-' ? -1 : 1);
    const number = (realtime[1] === 'MIN' ? SIGRTMIN : SIGRTMAX) + offset;
    return number >= SIGRTMIN && number <= SIGRTMAX ? number : undefined;
  }
  const known: Readonly<Record<string, number>> = constants.signals;
  return known[full] ?? MORE[full];
}

/** The name a person would use for a number: `SIGTERM`, or `signal 40`. */
export function signalName(number: number): string {
  for (const [name, value] of Object.entries(constants.signals)) if (value === number) return name;
  return `signal ${number}`;
}

/** The CRI numbers its signals alphabetically: they are mapped by name. Undefined for "the runtime's default". */
export function numberOfCriSignal(signal: Signal): number | undefined {
  if (signal === Signal.SIGNAL_RUNTIME_DEFAULT) return undefined;
  const name = (Signal[signal] ?? '')
    .replace(/^SIGNAL_/, '')
    .replace('PLUS', '+')
    .replace('MINUS', '-');
  const number = signalNumber(name);
  if (number === undefined) throw new BerthError('invalid_argument', `unknown stop signal ${signal}`);
  return number;
}

/** The CRI's value for a signal number, for ContainerStatus. */
export function criSignalOf(number: number): Signal {
  for (const value of Object.values(Signal)) {
    if (typeof value === 'number' && numberOfCriSignal(value) === number) return value;
  }
  return Signal.SIGNAL_RUNTIME_DEFAULT;
}
