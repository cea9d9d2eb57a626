import { createHash } from 'node:crypto';
import { ManifestReader } from '../../../../src/cli/explore/manifest';
import type { ImageTree } from '../../../../src/cli/explore/image-tree';

/** What is in a made-up layer; lines of a manifest without the name. */
export type Node = { readonly line: (name: string) => string; readonly below?: Readonly<Record<string, Node>> };

interface Attributes {
  mode?: number;
  uid?: number;
  /** What it holds is told by this and by its size. */
  seed?: string;
  group?: number;
}

export function file(bytes: number, { mode = 0o644, uid = 0, seed = '', group }: Attributes = {}): Node {
  const content = createHash('md5').update(`${bytes} ${seed}`).digest('hex');
  const links = group === undefined ? '1 -' : `2 ${group}`;
  return { line: name => `f ${mode.toString(8)} ${uid} 0 1.000000000 - ${name} ${bytes} ${content} ${links}` };
}

export function link(target: string): Node {
  return { line: name => `l 777 0 0 1.000000000 - ${name} ${target}` };
}

export const removal: Node = { line: name => `c 0 0 0 1.000000000 - ${name} 0:0` };

export function directory(below: Readonly<Record<string, Node>>, mode = 0o755): Node {
  return { line: name => `d ${mode.toString(8)} 0 0 1.000000000 - ${name}`, below };
}

/** A directory that does not show what is below it. */
export function hidden(below: Readonly<Record<string, Node>>): Node {
  return { line: name => `d 755 0 0 1.000000000 549ced704e818c98 ${name}`, below };
}

/** The manifest of a layer with this root. */
export function manifestOf(root: Node): string {
  const lines = linesOf('.', root);
  return ['berth-manifest 1', ...lines, `end ${lines.filter(line => line !== 'u').length} 00`, ''].join('\n');
}

function linesOf(name: string, { line, below }: Node): string[] {
  if (!below) return [line(name)];
  const all = Object.entries(below);
  const inside = [...all.filter(([, node]) => !node.below), ...all.filter(([, node]) => node.below)];
  return [line(name), ...inside.flatMap(([child, node]) => linesOf(child, node)), 'u'];
}

/** Puts a layer on. */
export function layerOf(tree: ImageTree, root: Node): void {
  tree.begin();
  const reader = new ManifestReader('made-up', tree);
  reader.take(Buffer.from(manifestOf(root)));
  reader.end();
}
