import { createHash } from 'node:crypto';
import { BerthError } from '../base/errors';
import type { Branded } from '../base/ids';

/** `sha256:<64 hex digits>` or `sha512:<128 hex digits>`, lower case; safe in a path and in a URL. */
export type Digest = Branded<'Digest'>;

export type DigestAlgorithm = 'sha256' | 'sha512';

const grammar = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** The only way to make a Digest of a text; `what` names, in the error, where the text came from. */
export function parseDigest(text: string, what: string): Digest {
  if (isDigest(text)) return text;
  throw new BerthError('invalid_argument', `${what}: ${JSON.stringify(shortened(text))} is not a digest`, {
    hint: 'sha256:<64 hex digits> and sha512:<128 hex digits> are',
  });
}

export function isDigest(text: string): text is Digest {
  return grammar.test(text);
}

export function sha256(hex: string): Digest {
  return parseDigest(`sha256:${hex}`, 'sha256');
}

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512';
}

export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/**
 * The name of a layer on top of those below it (OCI image-spec, config.md, "Layer ChainID");
 * `diffIds` from the base up, at least one.
 */
export function chainIdOf(diffIds: readonly Digest[]): Digest {
  const [base, ...rest] = diffIds;
  if (base === undefined) throw new BerthError('internal', 'no layers have no chain id');
  return rest.reduce((chain, diffId) => digestOf(Buffer.from(`${chain} ${diffId}`)), base);
}

function shortened(text: string): string {
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
