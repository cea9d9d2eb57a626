import { once } from 'node:events';

/** Ends the process with the code that SIGPIPE would give it, silently, once nobody reads its output: `| head`. */
export function endQuietlyOnBrokenPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 128 + 13 : 1);
  });
  // Without a reader for the complaint itself there is nothing left to say.
  process.stderr.on('error', () => undefined);
}

/** Writes, and waits while the reader is slow; what a reader that has gone would get is dropped. */
export async function write(stream: NodeJS.WriteStream, data: string | Uint8Array): Promise<void> {
  if (!stream.writable || stream.write(data)) return;
  await once(stream, 'drain').catch(() => undefined);
}

export async function print(text: string): Promise<void> {
  await write(process.stdout, text);
}

/** Waits until everything that was written has left the process. */
export async function flush(): Promise<void> {
  await Promise.all([process.stdout, process.stderr].map(flushed));
}

async function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writable) await new Promise<void>(resolve => stream.write('', () => resolve()));
}
