import { renameSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { isAbsent } from '../base/errors';
import { randomHexId } from '../base/ids';
import { KeyedLock } from '../base/keyed-lock';
import { digestText } from './cache';

export interface CacheMountRequest {
  readonly id: string;
  readonly sharing: 'shared' | 'private' | 'locked';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** The directories that a step has until it disposes of them. */
export interface HeldCaches extends Disposable {
  /** Each request has its own, also when another asks for the same. */
  readonly dirs: ReadonlyMap<CacheMountRequest, string>;
}

/** Directories of `RUN --mount=type=cache`, which outlive their builds. */
export class CacheMounts {
  private readonly locks = new KeyedLock();
  private readonly making = new KeyedLock();
  /** How many steps have each directory. */
  private readonly used = new Map<string, number>();
  /** Directories that have no name yet. */
  private readonly unnamed = new Set<string>();

  constructor(private readonly root: string) {}

  /** All that one step asks for, at once: steps that took the same locks one by one could wait for each other. */
  async open(ctx: Context, requests: readonly CacheMountRequest[]): Promise<HeldCaches> {
    const closing: (() => void)[] = [];
    const close = () => closing.splice(0).forEach(each => each());
    try {
      for (const id of lockedIds(requests)) {
        ctx.stage(`wait for the cache mount ${id}`);
        const turn = await this.locks.turn(ctx, nameOf(id));
        closing.push(() => turn[Symbol.dispose]());
      }
      const dirs = new Map<CacheMountRequest, string>();
      for (const request of requests) {
        const name = request.sharing === 'private' ? this.free(nameOf(request.id)) : nameOf(request.id);
        this.used.set(name, (this.used.get(name) ?? 0) + 1);
        closing.push(() => this.giveBack(name));
        dirs.set(request, await this.making.run(name, () => this.make(name, request)));
      }
      return { dirs, [Symbol.dispose]: close };
    } catch (error) {
      close();
      throw error;
    }
  }

  /** Removes the directories that nobody uses now. */
  async removeUnused(): Promise<void> {
    const names = await readdir(this.root).catch(() => []);
    for (const name of names) {
      if (this.used.has(name) || this.unnamed.has(name)) continue;
      // At once, and in this turn: a step that begins now makes one of its own.
      const gone = name.startsWith('.') ? name : `.${randomHexId().slice(0, 16)}`;
      try {
        renameSync(join(this.root, name), join(this.root, gone));
      } catch (error) {
        if (isAbsent(error)) continue; // whoever prunes at the same time has it
        throw error;
      }
      await rm(join(this.root, gone), { recursive: true, force: true });
    }
  }

  /** It has its name once it is as it was asked for: who finds it later leaves it as it is. */
  private async make(name: string, { mode, uid, gid }: CacheMountRequest): Promise<string> {
    const dir = join(this.root, name);
    if (await isThere(dir)) return dir;
    const unnamed = `.${randomHexId().slice(0, 16)}`;
    const made = join(this.root, unnamed);
    this.unnamed.add(unnamed);
    try {
      await mkdir(made, { recursive: true, mode: 0o700 });
      await chown(made, uid, gid);
      await chmod(made, mode);
      await rename(made, dir);
    } catch (error) {
      await rm(made, { recursive: true, force: true });
      throw error;
    } finally {
      this.unnamed.delete(unnamed);
    }
    return dir;
  }

  private giveBack(name: string): void {
    const left = (this.used.get(name) ?? 0) - 1;
    if (left > 0) this.used.set(name, left);
    else this.used.delete(name);
  }

  /** The directory of this name, or if that is in use one of its own. */
  private free(name: string): string {
    for (let i = 0; ; i++) {
      const own = i === 0 ? name : `${name}-${i}`;
      if (!this.used.has(own)) return own;
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

/** Each once, and in an order that is the same for all. */
function lockedIds(requests: readonly CacheMountRequest[]): string[] {
  return [...new Set(requests.flatMap(({ sharing, id }) => (sharing === 'locked' ? [id] : [])))].sort();
}

function nameOf(id: string): string {
  return digestText(id).slice(0, 32);
}
