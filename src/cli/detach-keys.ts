const CTRL_P = 0x10;
const CTRL_Q = 0x11;

/** Watches what is typed for Ctrl-P Ctrl-Q. A Ctrl-P is held back until the next key shows what it was. */
export class DetachKeys {
  private isHeld = false;

  /** What is to be sent of it, and whether the keys came then. */
  take(typed: Buffer): { send: Buffer; isLeaving: boolean } {
    const sent: number[] = [];
    for (const key of typed) {
      if (this.isHeld && key === CTRL_Q) return { send: Buffer.from(sent), isLeaving: true };
      if (this.isHeld) sent.push(CTRL_P);
      this.isHeld = key === CTRL_P;
      if (!this.isHeld) sent.push(key);
    }
    return { send: Buffer.from(sent), isLeaving: false };
  }
}
