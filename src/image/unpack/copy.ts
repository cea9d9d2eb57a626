import { mkdir, open } from 'node:fs/promises';
import { inBatches } from '../../base/batches';
import { BerthError } from '../../base/errors';
import { runUnpack, UnpackFailure } from '../../native/unpack-process';
import { notConfined } from './unpack';

/** uid and gid; absent: what the last `owner` said, or root. */
interface Owned {
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** `seconds.nanoseconds`; absent: now. */
  readonly mtime?: string;
}

/** One step of a copy. Paths of the target are resolved within it, and so are those of the source. */
export type CopyOp =
  /** Names or numbers, looked up in the target. */
  | { readonly op: 'owner'; readonly user: string; readonly group: string }
  /** A directory, unless there is one already; attributes that no mode tells come from the directory `from`. */
  | ({ readonly op: 'directory'; readonly path: string; readonly mode: number; readonly from?: string } & Owned)
  | ({ readonly op: 'file'; readonly path: string; readonly mode: number; readonly from: string } & Owned)
  | ({ readonly op: 'link'; readonly path: string; readonly target: string } & Owned)
  | { readonly op: 'again'; readonly path: string; readonly existing: string }
  /** A device or FIFO; the mode has the type. */
  | ({ readonly op: 'node'; readonly path: string; readonly mode: number; readonly device: string } & Owned);

export interface CopyRequest {
  readonly ops: readonly CopyOp[];
  /** One directory, or several, top first, as an overlay shows them; none where no operation has a source. */
  readonly source: readonly string[];
  /** Top first, at least one; they are not changed. */
  readonly lowers: readonly string[];
  /** Gets what changes; exists. */
  readonly upper: string;
  /** Empty, of the same file system. */
  readonly work: string;
  /** Where the list of operations is written: a file that does not exist yet. */
  readonly listPath: string;
}

export async function copyFiles(request: CopyRequest, signal: AbortSignal): Promise<void> {
  const { ops, source, lowers, upper, work, listPath } = request;
  await mkdir(work, { recursive: true, mode: 0o700 });
  await using list = await open(listPath, 'wx+', 0o600);
  for await (const batch of inBatches(ops))
    await list.appendFile(`${batch.flatMap(fieldsOf).map(checked).join('\0')}\0`);
  const args = [
    ...['copy', '--list', '3', '--upper', upper, '--work', work],
    ...lowers.flatMap(lower => ['--lower', lower]),
    ...source.flatMap(dir => ['--from', dir]),
  ];
  try {
    await runUnpack(args, { fds: [list.fd], signal });
  } catch (error) {
    throw error instanceof UnpackFailure ? explain(error) : error;
  }
}

/** native/unpack/copy.h */
function fieldsOf(op: CopyOp): string[] {
  switch (op.op) {
    case 'owner':
      return ['o', op.user, op.group];
    case 'directory':
      return ['d', op.path, op.mode.toString(8), ...owned(op), op.from ?? ''];
    case 'file':
      return ['f', op.path, op.mode.toString(8), ...owned(op), op.from];
    case 'link':
      return ['l', op.path, op.target, ...owned(op)];
    case 'again':
      return ['h', op.path, op.existing];
    case 'node':
      return ['n', op.path, op.mode.toString(8), ...owned(op), op.device];
  }
}

function owned({ owner, mtime }: Owned): string[] {
  return [owner ? String(owner.uid) : '', owner ? String(owner.gid) : '', mtime ?? ''];
}

function checked(field: string): string {
  if (!field.includes('\0') && !field.includes('\ufffd')) return field;
  throw new BerthError('invalid_argument', `copy ${JSON.stringify(field)}: the name is not UTF-8`, {
    hint: 'give the file another name',
  });
}

function explain(failure: UnpackFailure): BerthError {
  const { step, errno, path } = failure;
  const say = (why: string) => new BerthError('invalid_argument', why, { cause: failure });
  if (step === 'confine' || step === 'overlay') return notConfined('copy files', failure);
  if (step === 'user' || step === 'group') return say(`the image has no ${step} ${JSON.stringify(path)}`);
  const where = JSON.stringify(path);
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new BerthError('resource_exhausted', `copy to ${where}: no space left on device`, {
      cause: failure,
      hint: 'free some space and try again',
    });
  if (step === 'mkdir' && errno === 'ENOTDIR') return say(`copy a directory to ${where}: a file is there`);
  if (step === 'replace' && (errno === 'EISDIR' || errno === 'EPERM'))
    return say(`copy a file to ${where}: a directory is there`);
  return say(`copy to ${where}: ${step} ${errno}`);
}
