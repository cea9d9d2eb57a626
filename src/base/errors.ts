/**
 * The one error class of the project. An error is typed where it is born and
 * translated once, in `rpc/handler.ts`, which alone knows gRPC codes.
 */

export type ErrorKind =
  | 'invalid_argument'
  | 'not_found'
  | 'already_exists'
  | 'failed_precondition'
  | 'unauthenticated'
  | 'permission_denied'
  | 'resource_exhausted'
  | 'deadline_exceeded'
  | 'cancelled'
  | 'aborted'
  | 'unavailable'
  | 'unimplemented'
  | 'data_loss'
  | 'internal';

export interface ErrorOptions {
  /** What made this happen; kept for the log, not repeated in the message. */
  cause?: unknown;
  /** What the reader can do next, one clause; appended to the message. */
  hint?: string;
}

export class BerthError extends Error {
  readonly kind: ErrorKind;
  readonly hint: string | undefined;

  /** @param message what failed, on what, and why, without a final full stop; secrets in URLs are removed here. */
  constructor(kind: ErrorKind, message: string, options: ErrorOptions = {}) {
    const text = options.hint === undefined ? message : `${message}; ${options.hint}`;
    super(redact(text), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BerthError';
    this.kind = kind;
    this.hint = options.hint;
  }
}

/** Removes user info and query strings from URLs, values of what looks like a query, and bearer or basic tokens, wherever they stand in a text. */
export function redact(text: string): string {
  return text
    .replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s'"]*@/gi, '$1')
    .replace(/\b((?:https?|wss?):\/\/[^\s?'"]+)\?[^\s'"]*/gi, '$1?…')
    .replace(/([?&][\w.-]+=)[^\s'"&]+/g, '$1…')
    .replace(/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, '$1 …');
}

/** The sentence of anything that was thrown. */
export function messageOf(error: unknown): string {
  return redact(error instanceof Error ? error.message : String(error));
}

/** The kind of anything that was thrown: errors not made by us are `internal`. */
export function kindOf(error: unknown): ErrorKind {
  return error instanceof BerthError ? error.kind : 'internal';
}

/** The errno name (`ENOENT`) of an error from Node or the addon, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** True for the two errnos that say a path is not there. */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
