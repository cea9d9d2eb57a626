import type { Writable } from 'node:stream';
import type { RemoteProcess, TerminalSize } from './backend';
import { drained } from './drained';

/** So much of a client's input is held while the process does not read it; then the client waits. */
const STDIN_BUFFER_BYTES = 256 * 1024;

/** Hands a client's bytes to a process's stdin. A process that does not read, or has ended, is no error. */
export function writeInput(stdin: Writable | undefined, bytes: Buffer): void | Promise<void> {
  if (!stdin || stdin.destroyed || stdin.writableEnded) return;
  stdin.write(bytes);
  if (stdin.writableLength > STDIN_BUFFER_BYTES) return drained(stdin);
}

/** No size takes more than this, with a JSON object around it. */
const MAX_PENDING = 1024;

/** Reads sizes of a terminal, JSON objects one after the other; what is none is passed over. */
export class ResizeReader {
  private text = '';

  constructor(private readonly process: Pick<RemoteProcess, 'resize'>) {}

  take(bytes: Buffer): void {
    this.text += bytes.toString('latin1');
    let end: number;
    while ((end = this.text.indexOf('}')) >= 0) {
      const size = parseSize(this.text.slice(this.text.indexOf('{'), end + 1));
      this.text = this.text.slice(end + 1);
      if (size) this.process.resize(size);
    }
    if (this.text.length > MAX_PENDING) this.text = '';
  }
}

function parseSize(text: string): TerminalSize | undefined {
  const columns = /"width"\s*:\s*(\d{1,5})\b/i.exec(text)?.[1];
  const rows = /"height"\s*:\s*(\d{1,5})\b/i.exec(text)?.[1];
  const size = { columns: Number(columns), rows: Number(rows) };
  const isOne = (n: number) => n > 0 && n < 65536;
  return isOne(size.columns) && isOne(size.rows) ? size : undefined;
}
