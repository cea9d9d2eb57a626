import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Context } from '../base/context';
import { BerthError, redact } from '../base/errors';
import { streamOf } from './blob-stream';
import { algorithmOf, type Digest } from './digest';
import { fullDisk } from './incoming';
import { networkReason } from './registry/client';
import type { StreamedAnswer, Transport } from './registry/transport';

/** No file that a build downloads may be longer. */
const bytesMax = 128 * 1024 ** 3;

/** Brings what a URL has into the new file `path`, with the time that the server says, and compares it with its digest. */
export async function downloadFile(
  transport: Transport,
  ctx: Context,
  url: string,
  path: string,
  expected: Digest | undefined,
): Promise<void> {
  const what = `download ${redact(url)}`;
  const answer = await ask(transport, ctx, url, what);
  const hash = createHash(algorithmOf(expected ?? ('sha256:' as Digest)));
  await using file = await open(path, 'wx', 0o600);
  const bytes = { offset: 0, from: url, pipeTo: answer.pipeTo.bind(answer), close: async () => answer.drop() };
  try {
    for await (const chunk of streamOf(bytes, ctx.signal) as AsyncIterable<Buffer>) {
      ctx.throwIfEnded();
      hash.update(chunk);
      await file.writeFile(chunk);
    }
  } catch (error) {
    ctx.throwIfEnded();
    const cause = fullDisk(error, what);
    if (cause instanceof BerthError) throw cause;
    throw new BerthError('unavailable', `${what}: ${networkReason(error).reason}`, { cause: error });
  }
  const found = `${algorithmOf(expected ?? ('sha256:' as Digest))}:${hash.digest('hex')}`;
  if (expected !== undefined && found !== expected)
    throw new BerthError('data_loss', `${what}: it has the digest ${found}, and ${expected} is asked for`);
  const modified = Date.parse([answer.headers['last-modified'] ?? ''].flat()[0] ?? '');
  if (!Number.isNaN(modified)) await file.utimes(modified / 1000, modified / 1000);
}

async function ask(transport: Transport, ctx: Context, url: string, what: string): Promise<StreamedAnswer> {
  let answer: StreamedAnswer;
  try {
    answer = await transport.open({ method: 'GET', url, headers: {}, bodyBytesMax: bytesMax }, ctx.signal);
  } catch (error) {
    ctx.throwIfEnded();
    throw new BerthError('unavailable', `${what}: ${networkReason(error).reason}`, { cause: error });
  }
  if (answer.streamed) return answer;
  answer.drop();
  throw new BerthError(
    answer.status === 404 ? 'not_found' : 'unavailable',
    `${what}: the server answers ${answer.status}`,
  );
}
