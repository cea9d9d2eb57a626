import { chmod, chown, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { KeyedLock } from '../base/keyed-lock';
import { digestText } from './cache';

export interface CacheMountRequest {
  readonly id: string;
  readonly sharing: 'shared' | 'private' | 'locked';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** A directory that a step has until it disposes of it. */
export interface CacheMount extends Disposable {
  readonly dir: string;
}

/** Directories of `RUN --mount=type=cache`, which outlive their builds. */
export class CacheMounts {
  private readonly locks = new KeyedLock();
  /** How many steps have each directory. */
  private readonly used = new Map<string, number>();

  constructor(private readonly root: string) {}

  async open(ctx: Context, request: CacheMountRequest): Promise<CacheMount> {
    const name = digestText(request.id).slice(0, 32);
    if (request.sharing !== 'locked') return this.take(request.sharing === 'private' ? this.free(name) : name, request);
    ctx.stage(`wait for the cache mount ${request.id}`);
    const free = await this.lock(ctx, name);
    try {
      const mount = await this.take(name, request);
      return {
        dir: mount.dir,
        [Symbol.dispose]: () => {
          mount[Symbol.dispose]();
          free();
        },
      };
    } catch (error) {
      free();
      throw error;
    }
  }

  /** Removes the directories that nobody uses now. */
  async removeUnused(): Promise<void> {
    const names = await readdir(this.root).catch(() => []);
    for (const name of names)
      if (!this.used.has(name)) await rm(join(this.root, name), { recursive: true, force: true });
  }

  private async take(name: string, { mode, uid, gid }: CacheMountRequest): Promise<CacheMount> {
    const dir = join(this.root, name);
    this.used.set(name, (this.used.get(name) ?? 0) + 1);
    if (await mkdir(dir, { recursive: true, mode: 0o700 })) {
      await chown(dir, uid, gid);
      await chmod(dir, mode);
    }
    return { dir, [Symbol.dispose]: () => this.giveBack(name) };
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

  /** Resolves with what gives the lock back, once this call has it. */
  private async lock(ctx: Context, name: string): Promise<() => void> {
    let free: () => void = () => undefined;
    const held = new Promise<void>(resolve => (free = resolve));
    const entered = new Promise<void>(resolve => {
      void this.locks.run(name, () => {
        resolve();
        return held;
      });
    });
    try {
      await ctx.race(entered);
      return free;
    } catch (error) {
      free();
      throw error;
    }
  }
}
