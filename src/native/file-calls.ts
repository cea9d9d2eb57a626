import { constants } from 'node:os';
import { addon, MNT_DETACH } from './addon';

/** A call on files. Modes are not masked where the process has a umask of 0; paths are absolute and hold no NUL. */
export type FileCall =
  | { call: 'mkdir'; path: string; mode: number }
  | { call: 'rmdir'; path: string }
  /** To a file that is there: asked to make one, a cgroup tree answers EACCES. In one write(2). */
  | { call: 'write'; path: string; data: string }
  /** A new file, or another content for one that is there, whose mode stays. */
  | { call: 'create'; path: string; data: string; mode: number }
  | { call: 'chown'; path: string; uid: number; gid: number }
  | { call: 'chmod'; path: string; mode: number }
  /** umount2(2) with MNT_DETACH. */
  | { call: 'umount'; path: string }
  | { call: 'rename'; path: string; to: string }
  /**
   * A file, or a directory with all below it, but nothing that is mounted there (EBUSY). One that is not there is fine.
   * EAGAIN when there is more than one turn should do: ask again.
   */
  | { call: 'removeTree'; path: string }
  /** Fails with ENODATA for a directory that does not hide what layers below have in it. */
  | { call: 'isOpaque'; path: string };

/** A call that failed. Some do as a matter of course: only what is thrown is made an error. */
export interface FileCallFailure {
  index: number;
  call: FileCall;
  /** `ENOENT`. */
  code: string;
}

const KIND = {
  mkdir: 1,
  rmdir: 2,
  write: 3,
  create: 4,
  chown: 5,
  chmod: 6,
  umount: 7,
  rename: 8,
  removeTree: 9,
  isOpaque: 10,
} as const;

const HEADER_BYTES = 20;
const MAX_CALLS = 1024;

/**
 * Makes the calls in order, each whatever became of those before it, in one turn
 * of a pool thread: what would be a turn each costs the event loop a tenth.
 *
 * @returns the failures, by the index of their calls; nothing is made of what succeeded
 */
export async function fileCalls(calls: readonly FileCall[]): Promise<FileCallFailure[]> {
  const failures: FileCallFailure[] = [];
  for (let at = 0; at < calls.length; at += MAX_CALLS) {
    const part = calls.slice(at, at + MAX_CALLS);
    const errnos = await addon().fileCalls(encoded(part));
    part.forEach((call, index) => {
      const errno = errnos[index] ?? CANCELLED;
      if (errno !== 0) failures.push({ index: at + index, call, code: CODE_OF_ERRNO.get(errno) ?? `errno ${errno}` });
    });
  }
  return failures;
}

/** As Node's own errors of its file calls: `code`, `path`, and a message that names them and the call. */
export function fileCallError({ call: { call, path }, code }: FileCallFailure): Error {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, path });
}

/** Removes a file or a directory with all below it; what is not there is fine. */
export async function removeTree(path: string): Promise<void> {
  for (;;) {
    const [failure] = await fileCalls([{ call: 'removeTree', path }]);
    if (!failure) return;
    if (failure.code !== 'EAGAIN') throw fileCallError(failure);
  }
}

/** Whether a directory of an overlay's layer hides what the layers below have in it. */
export async function isOpaque(path: string): Promise<boolean> {
  const [failure] = await fileCalls([{ call: 'isOpaque', path }]);
  if (failure && !NOT_OPAQUE.includes(failure.code)) throw fileCallError(failure);
  return failure === undefined;
}

/** It has no such attribute, none so short, its file system has no attributes, or it is not there any more. */
const NOT_OPAQUE = ['ENODATA', 'ERANGE', 'ENOTSUP', 'EOPNOTSUPP', 'ENOENT', 'ENOTDIR'];

/** Of two names for one number (EAGAIN, EWOULDBLOCK) the first. */
const CODE_OF_ERRNO = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([code, errno]) => [errno, code]),
);

/** ECANCELED: the turn did not come. */
const CANCELLED = constants.errno.ECANCELED;

function encoded(calls: readonly FileCall[]): Buffer {
  let bytes = 0;
  for (const call of calls) bytes += HEADER_BYTES + 3 * (call.path.length + textOf(call).length) + 8;
  const out = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const call of calls) {
    const [first, second] = numbersOf(call);
    const pathBytes = out.write(call.path, at + HEADER_BYTES) + 1;
    out[at + HEADER_BYTES + pathBytes - 1] = 0;
    const dataBytes = out.write(textOf(call), at + HEADER_BYTES + pathBytes);
    out.writeUInt32LE(KIND[call.call], at);
    out.writeUInt32LE(first, at + 4);
    out.writeUInt32LE(second, at + 8);
    out.writeUInt32LE(pathBytes, at + 12);
    out.writeUInt32LE(dataBytes, at + 16);
    at += HEADER_BYTES + ((pathBytes + dataBytes + 3) & ~3);
  }
  return out.subarray(0, at);
}

function textOf(call: FileCall): string {
  if (call.call === 'write' || call.call === 'create') return call.data;
  return call.call === 'rename' ? `${call.to}\0` : '';
}

function numbersOf(call: FileCall): [first: number, second: number] {
  switch (call.call) {
    case 'mkdir':
    case 'create':
    case 'chmod':
      return [call.mode, 0];
    case 'chown':
      return [call.uid, call.gid];
    case 'umount':
      return [MNT_DETACH, 0];
    default:
      return [0, 0];
  }
}
