/** What each signal of anySignal() is made of, for as long as it is there itself. */
const sources = new WeakMap<AbortSignal, readonly AbortSignal[]>();

/**
 * A signal that aborts with the first of these. AbortSignal.any knows them by weak references only (Node 20): a time-out
 * that nobody else holds is collected as garbage, and never comes.
 */
export function anySignal(signals: readonly AbortSignal[]): AbortSignal {
  // eslint-disable-next-line no-restricted-properties -- the one place
  const any = AbortSignal.any([...signals]);
  sources.set(any, signals);
  return any;
}
