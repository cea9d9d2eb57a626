import { BerthError } from '../base/errors';

const DEFAULT_KEYS = 'ctrl-p,ctrl-q';

/**
 * Watches what is typed for the keys that leave. What may be their beginning is held back until the next key shows what
 * it was.
 */
export class DetachKeys {
  private held = 0;
  private readonly keys: readonly number[];

  /** `keys` is like `ctrl-p,ctrl-q` or `a,b`; a comma parts them. */
  constructor(keys = DEFAULT_KEYS) {
    this.keys = keys.split(',').map(key => codeOf(key, keys));
  }

  /** What is to be sent of it, and whether the keys came then. */
  take(typed: Buffer): { send: Buffer; isLeaving: boolean } {
    const sent: number[] = [];
    for (const key of typed) {
      while (this.held > 0 && key !== this.keys[this.held]) this.letGo(sent);
      if (key !== this.keys[this.held]) {
        sent.push(key);
        continue;
      }
      this.held++;
      if (this.held === this.keys.length) return { send: Buffer.from(sent), isLeaving: true };
    }
    return { send: Buffer.from(sent), isLeaving: false };
  }

  /** The first key that is held was none of them; of those behind it, as many as can be stay held. */
  private letGo(sent: number[]): void {
    const held = this.keys.slice(0, this.held);
    let drop = 1;
    while (drop < held.length && !held.slice(drop).every((key, i) => key === this.keys[i])) drop++;
    sent.push(...held.slice(0, drop));
    this.held -= drop;
  }
}

function codeOf(key: string, all: string): number {
  const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)?.[1];
  if (control !== undefined) return control.toUpperCase().charCodeAt(0) - 0x40;
  if (/^[\x20-\x7e]$/.test(key)) return key.charCodeAt(0);
  throw new BerthError('invalid_argument', `--detach-keys "${all}" are no keys`, {
    hint: 'write them like ctrl-p,ctrl-q or a,b',
  });
}
