import type { FileHandle } from 'node:fs/promises';
import { sortInBatches } from '../../base/batches';
import { BerthError } from '../../base/errors';
import { scanProgram, UnpackFailure } from '../../native/unpack-process';
import { notConfined } from './unpack';

type EntryType = 'file' | 'directory' | 'link' | 'character' | 'block' | 'fifo' | 'socket';

/** What a name in a directory is. */
export interface ScannedEntry {
  readonly type: EntryType;
  /** Below the path that was asked for, `.` for itself. */
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** `seconds.nanoseconds` */
  readonly mtime: string;
  readonly sizeBytes: number;
  /** Names of one file have the same. */
  readonly inode: string;
  readonly links: number;
  /** `major:minor` */
  readonly device: string;
  /** Of the extended attributes that are an image's; zeros for none. */
  readonly xattrs: string;
  /** Of what a file holds, when it was asked for. */
  readonly sha256?: string;
  /** Of a link. */
  readonly target?: string;
}

/** Whoever asks holds all of them in memory, some 300 bytes each. */
const NAMES_MAX = 1_000_000;

export interface ScanRequest {
  /** One directory, or several, top first, as an overlay shows them. */
  readonly dirs: readonly string[];
  /** Links in them are followed within; empty for all. */
  readonly paths: readonly string[];
  /** The paths alone, not what is below. */
  readonly shallow?: boolean;
  readonly hash?: boolean;
  /** How many names there may be in all. */
  readonly namesMax?: number;
}

/** What is at each path, sorted by name; undefined where nothing is. */
export type Scanned = ReadonlyMap<string, readonly ScannedEntry[] | undefined>;

export async function scan(request: ScanRequest, signal: AbortSignal): Promise<Scanned> {
  const { found } = await runScan(request, undefined, signal);
  return found;
}

/**
 * What would be at each path if the plain tar in `file` were unpacked; undefined when only unpacking can tell. Sizes are
 * those of files alone. The request's directory is not looked at: it is what the process may see.
 */
export async function scanArchive(
  file: FileHandle,
  request: ScanRequest,
  signal: AbortSignal,
): Promise<Scanned | undefined> {
  const { found, isRegular } = await runScan(request, file, signal);
  return isRegular ? found : undefined;
}

async function runScan(
  { dirs, paths, shallow, hash, namesMax = NAMES_MAX }: ScanRequest,
  archive: FileHandle | undefined,
  signal: AbortSignal,
): Promise<{ found: Scanned; isRegular: boolean }> {
  const args = [
    'scan',
    ...(archive ? ['--tar', '0'] : []),
    ...dirs.flatMap(dir => ['--lower', dir]),
    ...(shallow ? ['--shallow'] : []),
    ...(hash ? ['--hash'] : []),
    ...['--most', String(namesMax)],
    ...paths.flatMap(path => ['--path', path || '.']),
  ];
  const found = new Map<string, ScannedEntry[] | undefined>();
  let entries: ScannedEntry[] = [];
  let isRegular = true;
  const words = new Words();
  const take = (line: string) => {
    const parts = line.split(' ');
    if (parts.length > 2) return void entries.push(toEntry(parts, words));
    if (parts[0] === 'irregular') return void (isRegular = false);
    const path = parts[1] === '.' ? '' : text(parts[1] ?? '');
    entries = [];
    found.set(path, parts[0] === 'at' ? entries : undefined);
  };
  try {
    await scanProgram(args, { onLine: take, signal, stdin: archive?.fd });
  } catch (error) {
    throw error instanceof UnpackFailure ? explain(error, namesMax) : error;
  }
  for (const [path, list] of found)
    if (list) found.set(path, await sortInBatches(list, (a, b) => (a.name < b.name ? -1 : 1)));
  return { found, isRegular };
}

const types: Readonly<Record<string, EntryType>> = {
  f: 'file',
  d: 'directory',
  l: 'link',
  c: 'character',
  b: 'block',
  p: 'fifo',
  s: 'socket',
};

/** Most files have one of few times. */
class Words {
  private readonly known = new Map<string, string>();

  own(part: string): string {
    const known = this.known.get(part);
    if (known !== undefined) return known;
    const own = alone(part);
    if (this.known.size < 10_000) this.known.set(own, own);
    return own;
  }
}

/** A part of a line would keep all of the line in memory. */
function alone(part: string): string {
  return Buffer.from(part, 'latin1').toString('latin1');
}

function toEntry(parts: readonly string[], words: Words): ScannedEntry {
  const [
    letter = '',
    mode = '',
    uid,
    gid,
    mtime = '',
    size,
    inode = '',
    links,
    device = '',
    xattrs = '',
    sha256 = '-',
  ] = parts;
  const [name = '', target] = parts.slice(11).map(text);
  return {
    type: types[letter] ?? 'socket',
    name,
    mode: parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    mtime: words.own(mtime),
    sizeBytes: Number(size),
    inode,
    links: Number(links),
    device: words.own(device),
    xattrs: words.own(xattrs),
    ...(sha256 === '-' ? {} : { sha256: alone(sha256) }),
    ...(target === undefined ? {} : { target }),
  };
}

/** Bytes of a word, read as UTF-8: names that are not are told apart no more, and refused when they are used. */
function text(word: string): string {
  const bytes = word.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function explain(failure: UnpackFailure, namesMax: number): BerthError {
  const { step, errno, path } = failure;
  if (step === 'confine') return notConfined('look at files', failure);
  if (step === 'entries') {
    const what = `look at files: there are more than ${namesMax}, and their names are held in memory`;
    return new BerthError('resource_exhausted', what, {
      cause: failure,
      hint: 'copy a smaller directory, or several one after the other',
    });
  }
  return new BerthError('failed_precondition', `look at ${JSON.stringify(path || '/')}: ${step} ${errno}`, {
    cause: failure,
  });
}
