import { Column } from './columns';
import { SeededHash } from './seeded-hash';
import { Texts } from './texts';

const FIRST_SLOTS = 1024;

/**
 * All paths that images have, as numbers: 0 is the root, and a directory has a lower number than what is in it, so that a
 * pass over all numbers, upwards or downwards, is a walk. Names are as manifests write them, see `names.ts`.
 */
export class Paths {
  private readonly names = new Texts();
  private readonly parents = Column.ints();
  private readonly firsts = Column.ints();
  private readonly nexts = Column.ints();
  /** Names are an image's, which may be hostile. */
  private readonly hash = new SeededHash();
  /** Open addressing, by parent and name; -1 is free. */
  private slots = new Int32Array(FIRST_SLOTS).fill(-1);

  constructor() {
    this.add(-1, '');
  }

  get count(): number {
    return this.names.count;
  }

  /** What is called `name` in the directory `parent`; made when it is new. */
  child(parent: number, name: string): number {
    const slot = this.slotOf(parent, name);
    const found = this.slots[slot] ?? -1;
    if (found >= 0) return found;
    const made = this.add(parent, name);
    this.nexts.set(made, this.firsts.get(parent));
    this.firsts.set(parent, made);
    this.slots[slot] = made;
    if (this.count * 2 > this.slots.length) this.grow();
    return made;
  }

  /** -1 for the root's. */
  parentOf(path: number): number {
    return this.parents.get(path);
  }

  nameOf(path: number): string {
    return this.names.get(path);
  }

  /** What is in a directory, in no order. */
  *childrenOf(path: number): Generator<number> {
    for (let at = this.firsts.get(path); at >= 0; at = this.nexts.get(at)) yield at;
  }

  /** `/usr/bin`, in the manifests' writing; `/` for the root. */
  fullName(path: number): string {
    const parts: string[] = [];
    for (let at = path; at > 0; at = this.parentOf(at)) parts.push(this.nameOf(at));
    return `/${parts.reverse().join('/')}`;
  }

  private add(parent: number, name: string): number {
    this.parents.push(parent);
    this.firsts.push(-1);
    this.nexts.push(-1);
    return this.names.add(name);
  }

  /** Where it is, or where it would be. */
  private slotOf(parent: number, name: string): number {
    const mask = this.slots.length - 1;
    for (let slot = this.hash.of(parent, name) & mask; ; slot = (slot + 1) & mask) {
      const path = this.slots[slot] ?? -1;
      if (path < 0 || (this.parents.get(path) === parent && this.names.is(path, name))) return slot;
    }
  }

  private grow(): void {
    this.slots = new Int32Array(this.slots.length * 2).fill(-1);
    for (let path = 1; path < this.count; path++)
      this.slots[this.slotOf(this.parentOf(path), this.nameOf(path))] = path;
  }
}
