import assert from 'node:assert/strict';
import fc from 'fast-check';
import { changesOf } from '../../../../src/cli/explore/changes';
import { ImageTree } from '../../../../src/cli/explore/image-tree';
import { directory, file, hidden, layerOf, removal, type Node } from './layers';

/** What a made-up layer has at a name. */
type Made =
  | { readonly is: 'file'; readonly bytes: number }
  | { readonly is: 'removal' }
  | { readonly is: 'directory'; readonly hides: boolean; readonly below: Readonly<Record<string, Made>> };

/** What is seen of layers: how big a file is, or what is in a directory. */
type Seen = number | { readonly [name: string]: Seen };

const names = fc.constantFrom('a', 'b', 'c');
const { layer } = fc.letrec<{ made: Made; layer: Record<string, Made> }>(tie => ({
  layer: fc.dictionary(names, tie('made'), { maxKeys: 3 }),
  made: fc.oneof(
    { depthSize: 'medium', withCrossShrink: true },
    fc.record({ is: fc.constant('file' as const), bytes: fc.integer({ min: 0, max: 99 }) }),
    fc.record({ is: fc.constant('removal' as const) }),
    fc.record({ is: fc.constant('directory' as const), hides: fc.boolean(), below: tie('layer') }),
  ),
}));

function nodeOf(made: Made): Node {
  if (made.is === 'removal') return removal;
  if (made.is === 'file') return file(made.bytes);
  return (made.hides ? hidden : directory)(nodesOf(made.below));
}

function nodesOf(below: Readonly<Record<string, Made>>): Record<string, Node> {
  return Object.fromEntries(Object.entries(below).map(([name, made]) => [name, nodeOf(made)]));
}

/** What an overlay shows, in the plainest way. */
function laid(below: Seen | undefined, made: Made): Seen | undefined {
  if (made.is === 'removal') return undefined;
  if (made.is === 'file') return made.bytes;
  const shown: Record<string, Seen> = typeof below === 'object' && !made.hides ? { ...below } : {};
  for (const [name, child] of Object.entries(made.below)) {
    const seen = laid(shown[name], child);
    if (seen === undefined) delete shown[name];
    else shown[name] = seen;
  }
  return shown;
}

/** Every path with the size of a file, or -1 for a directory. */
function pathsOf(seen: Seen, path = ''): Map<string, number> {
  if (typeof seen === 'number') return new Map([[path, seen]]);
  const below = Object.entries(seen).flatMap(([name, child]) => [...pathsOf(child, `${path}/${name}`)]);
  return new Map([[path || '/', -1] as const, ...below]);
}

describe('layers upon layers, whatever is in them', () => {
  it('are what an overlay shows, byte for byte', () => {
    fc.assert(
      fc.property(fc.array(layer, { minLength: 1, maxLength: 4 }), layers => {
        const tree = new ImageTree();
        let seen: Seen = {};
        for (const [number, below] of layers.entries()) {
          const before = number === 0 ? new Map<string, number>() : pathsOf(seen);
          layerOf(tree, directory(nodesOf(below)));
          seen = laid(seen, { is: 'directory', hides: false, below }) ?? {};
          const after = pathsOf(seen);
          assert.deepEqual(present(tree), after);
          const told = new Map([...changesOf(tree, number)].map(({ path, kind }) => [path, kind]));
          for (const path of new Set([...before.keys(), ...after.keys(), ...told.keys()]))
            assertTold(told.get(path), before.get(path), after.get(path), path);
        }
        const visible = [...pathsOf(seen).values()].reduce((sum, bytes) => sum + Math.max(0, bytes), 0);
        assert.equal(tree.bytes - tree.wastedBytes, visible);
      }),
    );
  });

  function present(tree: ImageTree): Map<string, number> {
    const found = new Map<string, number>();
    for (let path = 0; path < tree.paths.count; path++) {
      const record = tree.present(path);
      if (record < 0) continue;
      found.set(tree.paths.fullName(path), tree.records.isDirectory(record) ? -1 : tree.records.sizeOf(record));
    }
    return found;
  }

  /** A file that was written again as it was is changed, too. */
  function assertTold(told: string | undefined, before: number | undefined, after: number | undefined, path: string) {
    if (before === undefined) assert.equal(told, after === undefined ? undefined : 'added', path);
    else if (after === undefined) assert.equal(told, 'removed', path);
    else if (before !== after) assert.equal(told, 'changed', path);
    else assert.ok(told === undefined || told === 'changed', path);
  }
});
