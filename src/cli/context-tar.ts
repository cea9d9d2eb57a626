import type { Stats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, errnoOf } from '../base/errors';
import type { IgnorePatterns } from '../base/patterns';

const block = 512;
const pieceBytes = 256 * 1024;

/**
 * A directory as a tar, without what is ignored: files, directories, links and FIFOs, with their modes and times, and
 * root as the owner of all. Files are read as they are when their turn comes.
 */
export async function* contextTar(root: string, ignored: IgnorePatterns): AsyncGenerator<Buffer> {
  const batch = new Batch();
  for await (const { path, stats } of walk(root, '', ignored)) {
    for await (const bytes of entry(root, path, stats)) {
      const full = batch.add(bytes);
      if (full) yield full;
    }
  }
  yield Buffer.concat([batch.rest(), Buffer.alloc(2 * block)]);
}

/** Small pieces together: each message has its price. */
class Batch {
  private pieces: Buffer[] = [];
  private bytes = 0;

  add(bytes: Buffer): Buffer | undefined {
    this.pieces.push(bytes);
    this.bytes += bytes.length;
    return this.bytes < pieceBytes ? undefined : this.rest();
  }

  rest(): Buffer {
    const all = Buffer.concat(this.pieces);
    this.pieces = [];
    this.bytes = 0;
    return all;
  }
}

interface Walked {
  readonly path: string;
  readonly stats: Stats;
}

/** Parents before children, by name. A directory is there if something in it is, or if it is not ignored itself. */
async function* walk(root: string, above: string, ignored: IgnorePatterns): AsyncGenerator<Walked> {
  const names = await readdir(join(root, above));
  for (const name of names.sort()) {
    const path = above === '' ? name : `${above}/${name}`;
    const stats = await lstat(join(root, path));
    const isIgnored = ignored.matches(path);
    if (!stats.isDirectory()) {
      if (!isIgnored) yield { path, stats };
      continue;
    }
    if (!isIgnored) yield { path, stats };
    if (isIgnored && !ignored.mayExceptBelow(path)) continue;
    let isThere = !isIgnored;
    for await (const below of walk(root, path, ignored)) {
      if (!isThere) yield { path, stats };
      isThere = true;
      yield below;
    }
  }
}

async function* entry(root: string, path: string, stats: Stats): AsyncGenerator<Buffer> {
  if (stats.isDirectory()) yield header(`${path}/`, '5', stats, 0);
  else if (stats.isSymbolicLink()) yield header(path, '2', stats, 0, await readlink(join(root, path)));
  else if (stats.isFIFO()) yield header(path, '6', stats, 0);
  else if (stats.isFile()) yield* file(root, path, stats);
  // Sockets are nothing without their server, and devices are no part of a context.
}

async function* file(root: string, path: string, stats: Stats): AsyncGenerator<Buffer> {
  yield header(path, '0', stats, stats.size);
  let left = stats.size;
  try {
    await using handle = await open(join(root, path), 'r');
    while (left > 0) {
      const buffer = Buffer.allocUnsafe(Math.min(left, pieceBytes));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) break;
      left -= bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } catch (error) {
    throw new BerthError(
      'failed_precondition',
      `read ${path} of the context: ${errnoOf(error) ?? 'it cannot be read'}`,
      {
        cause: error,
        hint: 'make it readable, or name it in .dockerignore',
      },
    );
  }
  if (left > 0)
    throw new BerthError('failed_precondition', `${path} of the context has become shorter while it was read`);
  yield Buffer.alloc((block - (stats.size % block)) % block);
}

/** ustar, with a PAX header before it for what it has no room for. */
function header(path: string, type: string, stats: Stats, size: number, target = ''): Buffer {
  const records = [
    ...(Buffer.byteLength(path) > 100 ? [record('path', path)] : []),
    ...(Buffer.byteLength(target) > 100 ? [record('linkpath', target)] : []),
    ...(size >= 8 ** 11 ? [record('size', String(size))] : []),
  ];
  const pax = Buffer.from(records.join(''));
  const mtime = Math.max(0, Math.floor(stats.mtimeMs / 1000));
  return Buffer.concat([
    ...(records.length > 0
      ? [ustar('PaxHeader', 'x', 0o644, pax.length, 0, ''), pax, Buffer.alloc((block - (pax.length % block)) % block)]
      : []),
    ustar(path, type, stats.mode & 0o7777, size >= 8 ** 11 ? 0 : size, mtime, target),
  ]);
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
  Buffer.from(name).copy(bytes, 0, 0, 100);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(mtime, 136, 12);
  bytes.write(type, 156, 'latin1');
  Buffer.from(target).copy(bytes, 157, 0, 100);
  bytes.write('ustar\x0000', 257, 'latin1');
  bytes.fill(' ', 148, 156);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}
