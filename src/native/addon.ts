import { createRequire } from 'node:module';
import { nativePath } from './paths';

/** A process just started: the pidfd belongs to the caller, who closes it. */
export interface Spawned {
  pid: number;
  pidfd: number;
}

/**
 * Kernel calls that Node lacks. Descriptors are plain numbers, O_CLOEXEC, and
 * belong to the caller. Failures throw (or reject) with `code` (`ENOENT`) and `errno`.
 */
export interface Addon {
  /** A sealed in-memory copy of a program; nothing can write to it. */
  memfd(content: Buffer, name: string): number;
  /**
   * Starts a program from a descriptor, on a pool thread, with an empty
   * environment and exactly `fds` as its descriptors 0, 1, 2, …; `cgroupFd` is a
   * v2 cgroup directory to be born into, or -1.
   */
  spawn(programFd: number, argv: string[], fds: number[], cgroupFd: number): Promise<Spawned>;
  /**
   * Starts the program at `path`, with `environment` (`KEY=value`) and exactly
   * `fds`, in a session and process group of its own, on a pool thread.
   */
  spawnPath(path: string, argv: string[], fds: number[], environment: string[]): Promise<Spawned>;
  /** umount2(2) on a pool thread. */
  umount(path: string, flags: number): Promise<void>;
  /**
   * Loads eBPF instructions as a device program and attaches it to a cgroup v2
   * directory, on a pool thread. It goes with the cgroup.
   */
  attachDeviceProgram(cgroupDirectory: string, instructions: Buffer): Promise<void>;
  /**
   * Numbers out of the same files of many directories, read by threads that keep them open while they are asked for
   * (the last minute). Both lists are joined by NUL. `layout` has for each file: when it is read (below), what comes before
   * the row in its path, what comes after it, one to sixteen keys, and an empty part. A key is `#` for the number that the
   * file begins with, `word` for the one after that word at the beginning of a line, `word field` for that of `field=` in
   * such a line; a word is expected to begin one line only. Fills `cells`, which is nobody else's meanwhile, with a row of numbers for
   * each of `rows`: NaN where there is none, Infinity for `max`. Rejects with EAGAIN while the system has no thread for it.
   *
   * A file is read `always`, is a `sign`, read always and first, or is read `unless-at-rest`: once none of a row's signs
   * has changed for more than three seconds, its numbers are taken from the last reading, for 15 to 30 seconds.
   * `unless-calm` is the same as long as no field of it that begins with `avg` was above zero.
   */
  readTable(layout: string, rows: string, cells: Float64Array): Promise<void>;
  /** The next `readTable` reads every file: what was done to a row does not show in its signs. */
  wakeTable(): void;
  /**
   * Whole files, their lines within the first 64 KiB, on a pool thread: their texts, each with a NUL behind it, empty where there is none.
   * Paths are joined by NUL; so are the network namespaces to read them in, one for each, or none at all.
   */
  readFiles(paths: string, networks: string): Promise<string>;
  /** Bytes on the disk and inodes of each of these trees (joined by NUL); NaN for one that cannot be read. On a pool thread. */
  treeUsage(directories: string): Promise<Float64Array>;
  /** Every `treeUsage` under way, and any later one, ends at once, with NaN: a process that ends waits for its pool threads. */
  stopCounting(): void;
  /** How many descriptors are in each of these `/proc/PID/fd` (joined by NUL), and how many of them are sockets; NaN, too. */
  descriptorCounts(directories: string): Promise<Float64Array>;
  /** Many small calls on files in one turn of a pool thread; see file-calls.ts. An errno for each, 0 for none. */
  fileCalls(calls: Buffer): Promise<Int32Array>;
  /** A file of the kernel's (procfs, cgroupfs), whole, at once: a fifth of what readFileSync takes. No other file system's. */
  readText(path: string): string;
  /**
   * A /dev/null, to read and write, for what may be a container's root: it is not the host's, and its mode, owner and times
   * cannot be changed.
   */
  openNull(): number;
  pidfdOpen(pid: number): number;
  pidfdSignal(pidfd: number, signal: number): void;
  /** Exit code (128 + signal when killed) of a child that has ended; null while it runs or when it is not ours. */
  reap(pidfd: number): number | null;
  /** Calls back whenever the descriptor is readable (a pidfd: has ended) until the returned function is called. */
  watch(fd: number, onReadable: () => void): () => void;
  socketPair(): [number, number];
  /** [read end, non-blocking; write end]; `bytes` is how much it should hold, as far as the kernel allows. */
  pipe(bytes?: number): [number, number];
  /**
   * What has come on a unix socket (no bytes: its end), with the descriptor that came along, or -1; null when nothing is
   * there now.
   */
  receive(socketFd: number): [data: Buffer, fd: number] | null;
  /** Sends few bytes, and descriptors with them, as one message on a unix socket; EPIPE when nobody has its other end. */
  sendFds(socketFd: number, bytes: Buffer, fds: readonly number[]): void;
  /**
   * Sends netlink messages as one datagram, on a pool thread, from a socket of the network namespace at `namespacePath`
   * ("": this process's own); resolves with all that the kernel answered. What a message asked for may have failed: the
   * answer says so.
   */
  netlink(protocol: number, namespacePath: string, request: Buffer): Promise<Buffer>;
  /**
   * Gives back, on a pool thread, what malloc has free, and unmaps the pages of this process's program that are as its file
   * has them: those that are needed again are mapped again from the page cache.
   */
  releasePages(): Promise<void>;
  /** Takes an exclusive flock(2): false when another process holds it. */
  lock(fd: number): boolean;
  /**
   * Raises a hard limit of this process (RLIMIT_*, by number; Infinity is none), as far as it may. Gives the one that it
   * has then, which may have been higher all along. The soft limit stays.
   */
  raiseHardLimit(resource: number, hard: number): number;
}

/** MNT_DETACH of umount2(2). */
export const MNT_DETACH = 2;

let loaded: Addon | undefined;

/** The addon, loaded at first use. */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

function load(): Addon {
  const it = createRequire(__filename)(nativePath('berth.node')) as Addon;
  process.once('exit', () => it.stopCounting());
  return it;
}
