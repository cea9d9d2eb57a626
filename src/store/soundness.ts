import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { isAbsent } from '../base/errors';

/*
 * LMDB maps its file and believes what it finds there: a file that was cut off
 * or overwritten ends the process by SIGBUS or SIGSEGV instead of an error. So
 * the two meta pages are read first. Layout: lmdb.h, struct MDB_meta, in the
 * 64-bit, data version 2 form that the lmdb package writes:
 *
 *   page header 24 | magic 4 | version 4 | address 8 | map size 8
 *   | free list: page size 4, 36 bytes, root 8 | main: 40 bytes, root 8 | last page 8
 */
const headerBytes = 24;
const metaBytes = 128;
const magic = 0xbeefc0de;
const dataVersion = 2;
const noPage = 0xffff_ffff_ffff_ffffn;

interface Meta {
  lastPage: bigint;
  roots: bigint[];
}

/** Throws a clause that says what is wrong when the LMDB file at `path` cannot be opened without danger; none is fine. */
export function assertSound(path: string): void {
  const file = openIfPresent(path);
  if (file === undefined) return;
  try {
    const size = fstatSync(file).size;
    if (size === 0) return;
    assertMetaSound(file, size);
  } finally {
    closeSync(file);
  }
}

function openIfPresent(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function assertMetaSound(file: number, size: number): void {
  const pageBytes = readPageSize(file);
  const metas = [readMeta(file, 0), readMeta(file, pageBytes)].filter(meta => meta !== undefined);
  if (metas.length < 2) throw new Error('it is not a berth store, or its first pages are damaged');
  for (const meta of metas) {
    const bytes = (meta.lastPage + 1n) * BigInt(pageBytes);
    if (bytes > BigInt(size)) throw new Error(`it is cut off: ${size} bytes of at least ${bytes}`);
    if (meta.roots.some(root => root !== noPage && root > meta.lastPage))
      throw new Error('its first pages are damaged');
  }
}

function readPageSize(file: number): number {
  const page = readAt(file, 0, headerBytes + metaBytes);
  const bytes = page.length < headerBytes + metaBytes ? 0 : page.readUInt32LE(headerBytes + 24);
  if (bytes < 512 || bytes > 65536 || (bytes & (bytes - 1)) !== 0)
    throw new Error('it is not a berth store, or its first pages are damaged');
  return bytes;
}

function readMeta(file: number, at: number): Meta | undefined {
  const meta = readAt(file, at + headerBytes, metaBytes);
  if (meta.length < metaBytes || meta.readUInt32LE(0) !== magic || meta.readUInt32LE(4) !== dataVersion)
    return undefined;
  return {
    roots: [meta.readBigUInt64LE(64), meta.readBigUInt64LE(112)],
    lastPage: meta.readBigUInt64LE(120),
  };
}

function readAt(file: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, readSync(file, buffer, 0, length, position));
}
