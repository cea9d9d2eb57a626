import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import type { Container, Containers } from '../../../src/container/containers';
import { containerDiff } from '../../../src/container/diff';

describe('what a container has changed', () => {
  let dir: string;

  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-diff-'))));
  afterEach(() => rmSync(dir, { recursive: true }));

  const file = (path: string, text = 'x') => {
    mkdirSync(join(dir, dirname(path)), { recursive: true });
    writeFileSync(join(dir, path), text);
  };
  const whiteout = (path: string) => {
    mkdirSync(join(dir, dirname(path)), { recursive: true });
    execFileSync('mknod', [join(dir, path), 'c', '0', '0']);
  };
  const changes = async (mounts: string[] = []) => {
    const containers = {
      images: { find: () => ({}), lowerDirs: () => [join(dir, 'top'), join(dir, 'bottom')] },
      paths: () => ({ upper: join(dir, 'upper') }),
    } as unknown as Pick<Containers, 'images' | 'paths'>;
    const spec = JSON.stringify({ mounts: mounts.map(destination => ({ destination })) });
    const container = { record: { id: 'id', imageId: 'image', spec } } as Container;
    const found = await containerDiff(containers, Context.of(silentLogger), container);
    return found.map(({ kind, path }) => `${kind} ${path}`);
  };

  const opaque = (path: string) =>
    execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', join(dir, path)]);

  it('is seen through directories that hide what layers below have: of the image, and of the container', async () => {
    for (const name of ['low', 'again']) file(`bottom/cut/${name}`);
    file('top/cut/high');
    opaque('top/cut');
    for (const name of ['low', 'high', 'new']) file(`upper/cut/${name}`);
    for (const name of ['kept', 'gone', 'sub/kept', 'sub/gone', 'hidden']) file(`bottom/anew/${name}`);
    whiteout('top/anew/hidden');
    file('top/anew/other');
    for (const name of ['kept', 'sub/kept', 'new/one']) file(`upper/anew/${name}`);
    opaque('upper/anew');
    assert.deepEqual(await changes(), [
      'changed /anew',
      'deleted /anew/gone',
      'changed /anew/kept',
      'added /anew/new',
      'added /anew/new/one',
      'deleted /anew/other',
      'changed /anew/sub',
      'deleted /anew/sub/gone',
      'changed /anew/sub/kept',
      'changed /cut',
      'changed /cut/high',
      'added /cut/low',
      'added /cut/new',
    ]);
  });

  it('is seen by all layers, down to the one that hides the rest', async () => {
    file('bottom/both/low');
    file('bottom/both/gone');
    file('bottom/both/sub/deep');
    file('bottom/dir/below');
    file('bottom/was/file');
    file('top/both/high');
    whiteout('top/both/gone');
    whiteout('top/dir');
    file('top/was', 'a file in the place of a directory');
    mkdirSync(join(dir, 'top/over'));
    symlinkSync('/both', join(dir, 'top/way'));
    for (const name of ['low', 'high', 'gone', 'new', 'sub/deep', 'sub/new']) file(`upper/both/${name}`);
    for (const path of ['dir/below', 'was/file', 'way/low', 'fresh/one']) file(`upper/${path}`);
    whiteout('upper/over');
    assert.deepEqual(await changes(), [
      'changed /both',
      'added /both/gone',
      'changed /both/high',
      'changed /both/low',
      'added /both/new',
      'changed /both/sub',
      'changed /both/sub/deep',
      'added /both/sub/new',
      'added /dir',
      'added /dir/below',
      'added /fresh',
      'added /fresh/one',
      'deleted /over',
      'changed /was',
      'added /was/file',
      'changed /way',
      'added /way/low',
    ]);
  });

  it('is not what was made for mounts', async () => {
    file('upper/etc/hosts', '');
    file('upper/etc/other', '');
    mkdirSync(join(dir, 'upper/data/volume'), { recursive: true });
    assert.deepEqual(await changes(['/etc/hosts', '/data/volume']), ['added /etc', 'added /etc/other']);
  });

  it('is not looked for without end', async () => {
    const deep = (levels: number) => mkdirSync(join(dir, 'upper', 'd/'.repeat(levels)), { recursive: true });
    deep(512);
    assert.equal((await changes()).length, 512);
    deep(513);
    await assert.rejects(changes(), /has directories more than 512 levels deep, below \/d\/d.*…; remove them/);
  });
});
