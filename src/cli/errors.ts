/**
 * What goes wrong, as one sentence on stderr and one exit code. This file alone
 * knows gRPC's status codes on the client's side.
 */
import type { ServiceError } from '@grpc/grpc-js';
import { BerthError, errnoOf, kindOf, messageOf, type ErrorKind } from '../base/errors';
import { printable } from './format/printable';

/** By gRPC status code. */
const kinds: readonly ErrorKind[] = [
  'internal', // OK, which is no error
  'cancelled',
  'internal', // UNKNOWN
  'invalid_argument',
  'deadline_exceeded',
  'not_found',
  'already_exists',
  'permission_denied',
  'resource_exhausted',
  'failed_precondition',
  'aborted',
  'invalid_argument', // OUT_OF_RANGE
  'unimplemented',
  'internal',
  'unavailable',
  'data_loss',
  'unauthenticated',
];

/** Exit codes of a shell for a command that did not start, by the daemon's trailer `berth-reason`. */
const exitCodes: Readonly<Record<string, number>> = { command_not_invokable: 126, command_not_found: 127 };

/** An answer of the daemon's that is an error. */
class CallError extends BerthError {
  /** @param reason the trailer `berth-reason`, when there was one */
  constructor(
    kind: ErrorKind,
    message: string,
    readonly reason: string | undefined,
    options: { cause: unknown },
  ) {
    super(kind, message, options);
  }
}

/** What a failed call means to the person who made it. */
export function fromStatus(status: ServiceError, socket: string): BerthError {
  const kind = kinds[status.code] ?? 'internal';
  const unreached = fromConnection(status.details, socket);
  if (unreached) return unreached;
  if (kind === 'unimplemented') {
    return new BerthError(kind, `the daemon on ${socket} cannot do this: ${status.details}`, {
      cause: status,
      hint: 'compare the two with: berth version',
    });
  }
  const [reason] = status.metadata.get('berth-reason');
  return new CallError(kind, status.details, reason?.toString(), { cause: status });
}

/**
 * The errors of the connection, which the gRPC library makes itself, under several codes and in words of its own. They
 * are known by how they begin: a daemon's sentence may well quote the ECONNREFUSED of a registry.
 */
function fromConnection(details: string, socket: string): BerthError | undefined {
  if (details.startsWith('No connection established')) {
    if (/ENOENT|ENOTDIR/.test(details)) return nobody(socket, 'no such file');
    if (details.includes('ECONNREFUSED')) return nobody(socket, 'the socket is there, nobody listens');
    if (/EACCES|EPERM/.test(details)) {
      return new BerthError('permission_denied', `${socket} does not open (permission denied)`, {
        hint: 'only root may use it: sudo berth',
      });
    }
    return nobody(socket, 'what listens there does not speak gRPC, or ended at once');
  }
  // Cancelled is what a daemon's orderly end makes of the calls under way: berth cancels only what it has the end of.
  if (!/^(Connection dropped|Call cancelled|Stream refused|Received RST_STREAM)/.test(details)) return undefined;
  return lost(socket);
}

/** What the stream of a call says itself when it is destroyed before the library has made a status of that. */
export function fromStream(error: unknown, socket: string): BerthError {
  const code = errnoOf(error) ?? '';
  if (['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code)) return lost(socket);
  return new BerthError('internal', messageOf(error), { cause: error });
}

function lost(socket: string): BerthError {
  return new BerthError('unavailable', `the connection to the daemon on ${socket} was lost`, {
    hint: 'containers run on; see whether berthd does',
  });
}

function nobody(socket: string, why: string): BerthError {
  return new BerthError('unavailable', `no daemon answers on ${socket} (${why})`, { hint: 'start it with: berthd' });
}

/** The line for stderr; what the daemon quotes from images and registries cannot steer the terminal. */
export function sentenceOf(error: unknown): string {
  return `berth: ${printable(messageOf(error).replace(/\s*\n\s*/g, '; '))}\n`;
}

/** Commander's complaints, `error: …` and a suggestion on a line of its own, as our one sentence. */
export function oneSentence(text: string, help: string): string {
  const [complaint = '', suggestion] = text.trim().split('\n');
  const meant = /^\(Did you mean (.*)\?\)$/.exec(suggestion ?? '')?.[1];
  const next = meant === undefined ? `see: ${help}` : `did you mean ${meant}?`;
  return sentenceOf(`${complaint.replace(/^error: /, '').replace(/\.$/, '')}; ${next}`);
}

/** The exit code for an error: a command that did not start has its own, everything else is `otherwise`. */
export function exitCodeOf(error: unknown, otherwise: number): number {
  if (!(error instanceof CallError) || error.reason === undefined) return otherwise;
  return exitCodes[error.reason] ?? otherwise;
}

/** True for an error that says that the thing is not there. */
export function isNotFound(error: unknown): boolean {
  return kindOf(error) === 'not_found';
}
