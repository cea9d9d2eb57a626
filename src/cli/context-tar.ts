import { closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BerthError, errnoOf } from '../base/errors';
import type { IgnorePatterns } from '../base/patterns';

const block = 512;
/** Of what is used of a header. */
const fieldsEnd = 265;
const pieceBytes = 256 * 1024;
/** What has become a FIFO meanwhile must not hold everything up, and what has become a link must not lead out. */
const asItWasSeen = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
/** Of what is ignored: some milliseconds of work. */
const ignoredInTurn = 1000;

/**
 * A directory as a tar, without what is ignored: files, directories, links and FIFOs, with their modes and times, and
 * root as the owner of all. Files are read as they are when their turn comes, between two pieces and at once: a call
 * that goes by the thread pool takes ten times as long as most files do.
 */
export async function* contextTar(root: string, ignored: IgnorePatterns): AsyncGenerator<Buffer> {
  const out = new Pieces();
  let passed = 0;
  for (const walked of walk(root, '', ignored)) {
    if (walked) yield* entry(out, root, walked);
    else if (++passed % ignoredInTurn === 0) await nextTurn();
  }
  yield* out.add(Buffer.alloc(2 * block));
  yield out.rest();
}

/** Small pieces together: each message has its price. */
class Pieces {
  private piece = Buffer.allocUnsafe(pieceBytes);
  private used = 0;

  /** Those that are full. */
  *add(bytes: Buffer): Generator<Buffer> {
    for (let from = 0; from < bytes.length;) {
      const taken = bytes.copy(this.piece, this.used, from);
      from += taken;
      yield* this.advance(taken);
    }
  }

  *addZeros(length: number): Generator<Buffer> {
    yield* this.add(Buffer.alloc(length));
  }

  /** At most `length` bytes from where the file is; says how many there were, 0 at its end. */
  *read(fd: number, length: number): Generator<Buffer, number> {
    const read = readSync(fd, this.piece, this.used, Math.min(length, pieceBytes - this.used), null);
    yield* this.advance(read);
    return read;
  }

  rest(): Buffer {
    return this.piece.subarray(0, this.used);
  }

  private *advance(bytes: number): Generator<Buffer> {
    this.used += bytes;
    if (this.used < pieceBytes) return;
    const full = this.piece;
    this.piece = Buffer.allocUnsafe(pieceBytes);
    this.used = 0;
    yield full;
  }
}

interface Walked {
  readonly path: string;
  readonly stats: Stats;
}

/**
 * Parents before children, by name; undefined for what is ignored. A directory is there if something in it is, or if it
 * is not ignored itself.
 */
function* walk(root: string, above: string, ignored: IgnorePatterns): Generator<Walked | undefined> {
  for (const name of looked(above, () => readdirSync(join(root, above))).sort()) {
    const path = above === '' ? name : `${above}/${name}`;
    const stats = looked(path, () => lstatSync(join(root, path)));
    const isIgnored = ignored.matches(path);
    yield isIgnored ? undefined : { path, stats };
    if (!stats.isDirectory() || (isIgnored && !ignored.mayExceptBelow(path))) continue;
    let isThere = !isIgnored;
    for (const below of walk(root, path, ignored)) {
      if (below && !isThere) yield { path, stats };
      isThere ||= below !== undefined;
      yield below;
    }
  }
}

function* entry(out: Pieces, root: string, { path, stats }: Walked): Generator<Buffer> {
  if (stats.isDirectory()) yield* out.add(header(`${path}/`, '5', stats, 0));
  else if (stats.isSymbolicLink()) yield* out.add(header(path, '2', stats, 0, targetOf(root, path)));
  else if (stats.isFIFO()) yield* out.add(header(path, '6', stats, 0));
  else if (stats.isFile()) yield* file(out, root, path, stats);
  // Sockets are nothing without their server, and devices are no part of a context.
}

function targetOf(root: string, path: string): string {
  return looked(path, () => readlinkSync(join(root, path)));
}

function* file(out: Pieces, root: string, path: string, stats: Stats): Generator<Buffer> {
  yield* out.add(header(path, '0', stats, stats.size));
  const left = yield* contents(out, root, path, stats.size);
  if (left > 0)
    throw new BerthError('failed_precondition', `${path} of the context has become shorter while it was read`);
  yield* out.addZeros((block - (stats.size % block)) % block);
}

/** Says how many of the bytes are missing. */
function* contents(out: Pieces, root: string, path: string, size: number): Generator<Buffer, number> {
  let fd: number | undefined;
  let left = size;
  try {
    fd = openSync(join(root, path), asItWasSeen);
    for (let read = -1; left > 0 && read !== 0; left -= read) read = yield* out.read(fd, left);
    return left;
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function looked<T>(path: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    throw unreadable(path, error);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'it has gone meanwhile, or its name is not UTF-8',
  ELOOP: 'it has become a link meanwhile',
};

function unreadable(path: string, error: unknown): BerthError {
  const code = errnoOf(error) ?? 'it cannot be read';
  return new BerthError('failed_precondition', `read ${path || '/'} of the context: ${reasons[code] ?? code}`, {
    cause: error,
    hint: 'make it readable, or name it in .dockerignore',
  });
}

/** ustar, with a PAX header before it for what it has no room for. */
function header(path: string, type: string, stats: Stats, size: number, target = ''): Buffer {
  const mtime = Math.max(0, Math.floor(stats.mtimeMs / 1000));
  const records = [
    ...(Buffer.byteLength(path) > 100 ? [record('path', path)] : []),
    ...(Buffer.byteLength(target) > 100 ? [record('linkpath', target)] : []),
    ...(size >= 8 ** 11 ? [record('size', String(size))] : []),
  ];
  const own = ustar(path, type, stats.mode & 0o7777, size >= 8 ** 11 ? 0 : size, mtime, target);
  if (records.length === 0) return own;
  const pax = Buffer.from(records.join(''));
  const padding = Buffer.alloc((block - (pax.length % block)) % block);
  return Buffer.concat([ustar('PaxHeader', 'x', 0o644, pax.length, 0, ''), pax, padding, own]);
}

/** The length of a record counts its own digits. */
function record(key: string, value: string): string {
  const rest = Buffer.byteLength(key) + Buffer.byteLength(value) + 3;
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

function ustar(name: string, type: string, mode: number, size: number, mtime: number, target: string): Buffer {
  const bytes = Buffer.alloc(block);
  const octal = (value: number, at: number, length: number) =>
    bytes.write(value.toString(8).padStart(length - 1, '0'), at, length - 1, 'latin1');
  bytes.write(name, 0, 100);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(mtime, 136, 12);
  bytes.write(type, 156, 'latin1');
  bytes.write(target, 157, 100);
  bytes.write('ustar\x0000', 257, 'latin1');
  bytes.fill(' ', 148, 156);
  let sum = 0;
  for (let i = 0; i < fieldsEnd; i++) sum += bytes[i] ?? 0;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}
