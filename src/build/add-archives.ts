import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../base/errors';
import { NoArchive, type Source } from '../image/workshop';
import type { Found } from './files';
import type { StepTools } from './steps';

/** The directory with what an archive holds; undefined for what is no archive. */
export async function extracted(
  { workshop, ctx }: StepTools,
  source: Source,
  { path, entries }: Found,
): Promise<string | undefined> {
  if (entries[0]?.type !== 'file') return undefined;
  // Its path may go through links of the context: the confined copy follows them within, this process would not.
  const copied = await workshop.copied(
    ctx,
    [{ source, ops: [{ op: 'file', path: 'archive', mode: 0o600, from: path }] }],
    [],
  );
  const archive = join(copied, 'archive');
  await using file = await open(archive, 'r');
  if (!(await isArchive(file))) return undefined;
  const dir = workshop.fresh('extracted');
  try {
    await workshop.extract(ctx, archive, (await file.stat()).size, `the archive /${path}`, dir);
    return dir;
  } catch (error) {
    if (error instanceof NoArchive) return undefined; // a compressed file of another kind
    if (!(error instanceof BerthError) || ctx.signal.aborted) throw error;
    throw new BerthError(error.kind, error.message, {
      cause: error,
      hint: 'COPY, or ADD --unpack=false, takes it as it is',
    });
  }
}

/** By how its bytes begin: gzip, bzip2, xz, zstd, or a tar header. */
async function isArchive(file: FileHandle): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(512), 0, 512, 0);
  const head = buffer.subarray(0, bytesRead);
  const begins = (hex: string) => head.toString('hex', 0, hex.length / 2) === hex;
  return ['1f8b', '425a68', 'fd377a585a00', '28b52ffd'].some(begins) || head.toString('latin1', 257, 262) === 'ustar';
}
