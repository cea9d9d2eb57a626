import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync, type BigIntStats } from 'node:fs';

/** The objects of a tree, each a line, by path below it; bytes of names are characters (latin1). */
export type Tree = ReadonlyMap<string, string>;

export interface TreeOptions {
  /** Paths below it that are left out, with all that is below them. */
  readonly except?: readonly string[];
  /** Which object it is and when anything of it last changed, too: what is the same then has not been touched. */
  readonly untouched?: boolean;
  /** Leaves contents and extended attributes out. */
  readonly timesOnly?: boolean;
}

/** Contents of larger files are holes, in tests. */
const readBytesMax = 64 * 1024 * 1024;

/** What is there: type, mode, owner, size, times, links, attributes and contents of everything below `dir`, and of itself. */
export function treeOf(dir: string, options: TreeOptions = {}): Tree {
  const found = new Map<string, string>();
  const attributes = options.timesOnly ? new Map<string, string>() : xattrsBelow(dir);
  const first = new Map<bigint, string>();
  const walk = (path: string) => {
    if (options.except?.includes(path)) return;
    const full = Buffer.from(path === '' ? dir : `${dir}/${path}`, 'latin1');
    const stat = lstatSync(full, { bigint: true });
    const group = first.get(stat.ino) ?? path;
    if (!stat.isDirectory() && stat.nlink > 1n) first.set(stat.ino, group);
    const same = options.untouched ? `${stat.ino} ${stat.nlink} ${stat.ctimeNs}` : `as ${JSON.stringify(group)}`;
    found.set(
      path,
      [
        ...describe(full, stat, !options.timesOnly),
        attributes.get(path) ?? '',
        stat.isDirectory() && !options.untouched ? '' : same,
      ].join(' '),
    );
    if (!stat.isDirectory()) return;
    const names = readdirSync(full, { encoding: 'buffer' }).map(name => name.toString('latin1'));
    for (const name of names.sort()) walk(path === '' ? name : `${path}/${name}`);
  };
  walk('');
  return found;
}

function describe(full: Buffer, stat: BigIntStats, isRead: boolean): string[] {
  const common = [(stat.mode & 0o7777n).toString(8), `${stat.uid}:${stat.gid}`, `${stat.mtimeNs}`];
  if (stat.isDirectory()) return ['dir', ...common];
  if (stat.isSymbolicLink())
    return ['symlink', ...common, JSON.stringify(readlinkSync(full, { encoding: 'buffer' }).toString('latin1'))];
  if (stat.isFIFO()) return ['fifo', ...common];
  if (stat.isCharacterDevice()) return ['char', ...common, `${stat.rdev}`];
  if (stat.isBlockDevice()) return ['block', ...common, `${stat.rdev}`];
  if (!stat.isFile()) return ['other', ...common];
  const contents =
    !isRead || stat.size > readBytesMax ? 'unread' : createHash('sha256').update(readFileSync(full)).digest('hex');
  return ['file', ...common, `${stat.size}`, contents];
}

/** Extended attributes of every kind, by path; of links, too. */
export function xattrsBelow(dir: string): Map<string, string> {
  const options = ['--recursive', '--physical', '--no-dereference', '--dump', '--absolute-names'];
  const output = execFileSync('getfattr', [...options, '--match=-', '--encoding=hex', '--', dir], {
    encoding: 'latin1',
    maxBuffer: 64 * 1024 * 1024,
  });
  const found = new Map<string, string>();
  for (const block of output.split('\n\n')) {
    const [title = '', ...lines] = block.split('\n');
    const path = title
      .replace('# file: ', '')
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    if (lines.length > 0)
      found.set(
        path.slice(dir.length + 1),
        lines
          .filter(line => line !== '')
          .sort()
          .join(' '),
      );
  }
  return found;
}

/** What differs, in lines; empty when nothing does. */
export function differences(before: Tree, after: Tree): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].flatMap(path => {
    const [was, is] = [before.get(path), after.get(path)];
    return was === is ? [] : [`${JSON.stringify(path)} was ${was ?? 'not there'} and is ${is ?? 'gone'}`];
  });
}
