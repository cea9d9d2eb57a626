import assert from 'node:assert/strict';
import { changesOf } from '../../../../src/cli/explore/changes';
import { imageDifferences } from '../../../../src/cli/explore/image-diff';
import { ImageTree } from '../../../../src/cli/explore/image-tree';
import { Paths } from '../../../../src/cli/explore/paths';
import { brokenRules } from '../../../../src/cli/explore/rules';
import { mostWasted } from '../../../../src/cli/explore/waste';
import { directory, file, hidden, layerOf, link, removal, type Node } from './layers';

describe('the files of an image, layer upon layer', () => {
  const treeOf = (layers: readonly Node[], paths = new Paths()) => {
    const tree = new ImageTree(paths);
    for (const layer of layers) layerOf(tree, layer);
    return tree;
  };
  const changes = (tree: ImageTree, layer: number) =>
    [...changesOf(tree, layer)].map(({ kind, path }) => `${kind} ${path}`);

  it('says what each layer added, changed and removed', () => {
    const tree = treeOf([
      directory({ etc: directory({ a: file(10), b: file(20) }), bin: directory({}) }),
      directory({ etc: directory({ a: file(11), c: file(5), b: removal }) }),
    ]);
    assert.deepEqual(changes(tree, 0), ['added /', 'added /bin', 'added /etc', 'added /etc/a', 'added /etc/b']);
    assert.deepEqual(changes(tree, 1), ['changed /etc/a', 'removed /etc/b', 'added /etc/c']);
    assert.deepEqual(tree.layers[1], { bytes: 16, wastedBytes: 0, added: 1, changed: 1, removed: 1 });
    assert.deepEqual([tree.bytes, tree.wastedBytes, tree.layers[0]?.wastedBytes], [46, 30, 30]);
    assert.equal(tree.efficiency, 1 - 30 / 46);
  });

  it('removes all that is in a directory that goes, or that a file takes the place of', () => {
    const home = () => directory({ home: directory({ deep: directory({ x: file(1) }), y: file(2) }) });
    const gone = treeOf([home(), directory({ home: removal })]);
    const all = ['removed /home', 'removed /home/deep', 'removed /home/deep/x', 'removed /home/y'];
    assert.deepEqual(changes(gone, 1), all);
    assert.equal(gone.wastedBytes, 3);
    const replaced = treeOf([home(), directory({ home: file(7) })]);
    assert.deepEqual(changes(replaced, 1), ['changed /home', ...all.slice(1)]);
    assert.deepEqual([...changesOf(replaced, 1)][0]?.differences, ['type']);
  });

  it('knows what a directory hides that does not show what is below', () => {
    const tree = treeOf([
      directory({ d: directory({ kept: file(1), gone: file(2), sub: directory({ z: file(4) }) }) }),
      directory({ d: hidden({ kept: file(1), sub: directory({}) }) }),
    ]);
    assert.deepEqual(changes(tree, 1), ['removed /d/gone', 'changed /d/kept', 'removed /d/sub/z']);
    assert.deepEqual([...changesOf(tree, 1)][1]?.differences, [], 'written again as it was');
    assert.deepEqual([tree.wastedBytes, tree.layers[1]?.removed], [7, 2]);
  });

  it('removes a directory with more in it than a call has arguments', () => {
    const many = Object.fromEntries(Array.from({ length: 150_000 }, (_, i) => [`f${i}`, file(1)]));
    const tree = treeOf([directory({ d: directory(many) }), directory({ d: removal })]);
    assert.deepEqual([tree.layers[1]?.removed, tree.wastedBytes], [150_001, 150_000]);
  }).timeout(60_000);

  it('comes back to what was removed before', () => {
    const tree = treeOf([
      directory({ a: file(3) }),
      directory({ a: removal }),
      directory({ a: file(3) }),
      directory({ a: file(4) }),
    ]);
    assert.deepEqual(
      [1, 2, 3].flatMap(layer => changes(tree, layer)),
      ['removed /a', 'added /a', 'changed /a'],
    );
    const [most] = mostWasted(tree, 5);
    assert.deepEqual(most?.losses, [
      { bytes: 3, layer: 2, by: 3, how: 'changed' },
      { bytes: 3, layer: 0, by: 1, how: 'removed' },
    ]);
    assert.equal(most?.bytes, 6);
  });

  it('counts a file with several names once, and as wasted only with its last name', () => {
    const base = directory({ a: file(100, { group: 1 }), b: file(100, { group: 1 }), c: file(1) });
    const one = treeOf([base, directory({ a: removal })]);
    assert.deepEqual([one.bytes, one.wastedBytes], [101, 0]);
    const both = treeOf([base, directory({ a: removal }), directory({ b: file(1), c: file(2) })]);
    assert.deepEqual([both.bytes, both.wastedBytes], [104, 101]);
    assert.deepEqual(
      mostWasted(both, 1).map(({ path, bytes }) => [both.paths.fullName(path), bytes]),
      [['/b', 100]],
    );
  });

  it('tells an attribute from a content, and takes no notice of directories that are only on the way', () => {
    const tree = treeOf([
      directory({ d: directory({ f: file(5) }), l: link('one') }),
      directory({ d: directory({ f: file(5, { mode: 0o4755, uid: 7 }) }, 0o700), l: link('two') }),
    ]);
    const found = [...changesOf(tree, 1)].map(({ path, differences }) => [path, differences]);
    assert.deepEqual(found, [
      ['/d', ['mode']],
      ['/d/f', ['mode', 'owner']],
      ['/l', ['target']],
    ]);
  });

  it('compares two images by what they have in the end', () => {
    const paths = new Paths();
    const before = treeOf([directory({ a: file(1), b: file(2), c: file(3) }), directory({ c: removal })], paths);
    const after = treeOf([directory({ a: file(1) }), directory({ b: file(9), d: directory({ e: file(4) }) })], paths);
    const found = [...imageDifferences(before, after)].map(
      ({ kind, path, sizeBytes }) => `${kind} ${path} ${sizeBytes}`,
    );
    assert.deepEqual(found, ['changed /b 9', 'added /d 0', 'added /d/e 4']);
    assert.deepEqual(
      [...imageDifferences(after, before)].map(({ kind, path }) => `${kind} ${path}`),
      ['changed /b', 'removed /d', 'removed /d/e'],
    );
    assert.deepEqual([...imageDifferences(after, after)], []);
  });

  it('keeps to rules or says by how much it does not', () => {
    const tree = treeOf([directory({ a: file(1000) }), directory({ a: file(3000) })]);
    assert.deepEqual(brokenRules(tree, { lowestEfficiency: 0.75, highestWastedBytes: 1000n }), []);
    assert.deepEqual(brokenRules(tree, { lowestEfficiency: 0.76, highestWastedBytes: 999n }), [
      'its efficiency is 0.7500, below 0.76',
      '1kB are wasted, more than 999B',
    ]);
    assert.equal(new ImageTree().efficiency, 1);
  });
});
