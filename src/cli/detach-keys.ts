const CTRL_P = 0x10;
const CTRL_Q = 0x11;

/** Watches what is typed for Ctrl-P Ctrl-Q. A Ctrl-P is held back until the next key shows what it was. */
export class DetachKeys {
  private isHeld = false;

  /** What is to be sent; undefined once the keys were typed. */
  take(typed: Buffer): Buffer | undefined {
    const sent: number[] = [];
    for (const key of typed) {
      if (this.isHeld && key === CTRL_Q) return undefined;
      if (this.isHeld) sent.push(CTRL_P);
      this.isHeld = key === CTRL_P;
      if (!this.isHeld) sent.push(key);
    }
    return Buffer.from(sent);
  }
}
