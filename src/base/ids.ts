import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;

/** A string that only the parser of its kind can make. */
export type Branded<Name extends string> = string & { readonly [brand]: Name };

/** 64 lower-case hex digits. */
export type SandboxId = Branded<'SandboxId'>;
/** 64 lower-case hex digits. */
export type ContainerId = Branded<'ContainerId'>;

/** 32 random bytes as 64 hex digits, the length that crictl and log parsers expect. */
export function randomHexId(): string {
  return randomBytes(32).toString('hex');
}
