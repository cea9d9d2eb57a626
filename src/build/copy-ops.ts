import { posix } from 'node:path';
import { inBatches } from '../base/batches';
import type { CopyOp, ScannedEntry } from '../image/workshop';
import type { Found } from './files';

export interface CopyTarget {
  /** Absolute. */
  readonly path: string;
  /** What is copied gets into it, under its own name. */
  readonly isDirectory: boolean;
  /** The way to what is copied is kept below it. */
  readonly parents: boolean;
  /** Permissions of all that is copied; undefined for its own. */
  readonly mode?: number | undefined;
  /** Whose it becomes: names or numbers; undefined for root, or with `keepsOwners` for its own. */
  readonly owner?: { readonly user: string; readonly group: string } | undefined;
  readonly keepsOwners: boolean;
}

const typeBits: Partial<Record<ScannedEntry['type'], number>> = {
  character: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
};

/** What to do so that `found` is copied to `target`. */
export async function copyOps(found: readonly Found[], target: CopyTarget): Promise<CopyOp[]> {
  const base = target.path.replace(/^\/+|\/+$/g, '');
  const holder = target.isDirectory ? base : parentOf(base);
  const ops: CopyOp[] = [...(target.owner ? [{ op: 'owner', ...target.owner } as const] : []), ...waysTo(holder)];
  for (const each of found) await addOps(ops, each, placeOf(each, base, target), target);
  return ops;
}

/** Whose files are whose: `user`, `user:group`, numbers or names. */
export function ownerOf(text: string): { user: string; group: string } {
  const colon = text.indexOf(':');
  return colon < 0 ? { user: text, group: '' } : { user: text.slice(0, colon), group: text.slice(colon + 1) };
}

/** The directories down to a path, to be made where they are missing. */
export function waysTo(path: string): CopyOp[] {
  const parts = path.split('/').filter(part => part !== '');
  return parts.map((_, i) => ({ op: 'directory', path: parts.slice(0, i + 1).join('/'), mode: 0o755 }));
}

/** The contents of a directory come where the target is, a file by its name into a directory. */
function placeOf({ path, pivot, entries }: Found, base: string, { isDirectory, parents }: CopyTarget): string {
  if (parents) return posix.join(base, path.slice(pivot.length));
  const [first] = entries;
  return first?.type === 'directory' || !isDirectory ? base : posix.join(base, posix.basename(path));
}

async function addOps(ops: CopyOp[], { path, entries }: Found, place: string, target: CopyTarget): Promise<void> {
  const [first] = entries;
  const firsts = new Map<string, string>();
  const holder = first?.type === 'directory' ? place : target.parents ? parentOf(place) : '';
  const ofEntry = (entry: ScannedEntry): CopyOp[] => {
    const at = entry.name === '.' ? place : posix.join(place, entry.name);
    const from = entry.name === '.' ? path : posix.join(path, entry.name);
    if (entry.name === '.' && entry.type === 'directory') return []; // its contents are copied, not itself
    const known = firsts.get(entry.inode);
    if (entry.type === 'file' && entry.links > 1 && known !== undefined)
      return [{ op: 'again', path: at, existing: known } as const];
    if (entry.type === 'file' && entry.links > 1) firsts.set(entry.inode, at);
    return opOf(entry, at, from, target);
  };
  ops.push(...waysTo(holder));
  for await (const batch of inBatches(entries)) ops.push(...batch.flatMap(ofEntry));
}

function opOf(entry: ScannedEntry, path: string, from: string, target: CopyTarget): CopyOp[] {
  const { mtime, uid, gid } = entry;
  const owner = target.owner ? {} : { owner: target.keepsOwners ? { uid, gid } : { uid: 0, gid: 0 } };
  const mode = target.mode ?? entry.mode;
  switch (entry.type) {
    case 'directory':
      return [{ op: 'directory', path, mode, from, mtime, ...owner }];
    case 'file':
      return [{ op: 'file', path, mode, from, mtime, ...owner }];
    case 'link':
      return [{ op: 'link', path, target: entry.target ?? '', mtime, ...owner }];
    case 'socket':
      return []; // nothing without its server
    default:
      return [{ op: 'node', path, mode: mode | (typeBits[entry.type] ?? 0), device: entry.device, mtime, ...owner }];
  }
}

function parentOf(path: string): string {
  const parent = posix.dirname(path);
  return parent === '.' ? '' : parent;
}
