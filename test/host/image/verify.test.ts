import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { isSound, verifyLayer, type LayerState } from '../../../src/image/unpack/verify';
import { tar, type TarEntry } from '../../support/image-builder';
import { tempFolder } from '../../support/temp';
import { unpackTar } from '../../support/unpack';

const entries: TarEntry[] = [
  { path: './', type: 'dir' },
  { path: 'dir/', type: 'dir', mode: 0o755 },
  { path: 'dir/file', data: 'contents', pax: { mtime: '-12.5', 'SCHILY.xattr.user.a': Buffer.from([0, 1, 255]) } },
  { path: 'dir/big', data: Buffer.alloc(700_001, 'abcdefg') },
  { path: 'dir/zeros', data: Buffer.concat([Buffer.alloc(10_000), Buffer.from('x'), Buffer.alloc(9_000)]) },
  { path: 'dir/empty' },
  { path: 'dir/first', data: 'linked' },
  { path: 'dir/second', type: 'hardlink', link: 'dir/first' },
  { path: 'dir/sub/', type: 'dir' },
  { path: 'dir/sub/a name', data: 'x' },
  { path: 'dir/sub/100%\n\u00ff', data: 'x' },
  { path: 'link', type: 'symlink', link: '/some where/else' },
  { path: 'null', type: 'char', major: 1, minor: 3 },
  { path: 'pipe', type: 'fifo' },
  { path: 'replaced', data: 'what was there before' },
  { path: 'replaced', data: 'what is there' },
  { path: 'gone/.wh..wh..opq' },
  { path: '.wh.away' },
];

describe('a layer is compared with its manifest', function () {
  const folder = tempFolder();
  const layer = (...names: string[]) => folder.path('layer', ...names);
  const verify = (): Promise<LayerState> => verifyLayer(layer(), folder.path('manifest'));
  const words = (state: LayerState) => state.findings.map(({ word, path }) => `${word} ${path}`).sort();

  beforeEach(() => {
    const run = unpackTar(tar(entries), layer(), { manifest: folder.path('manifest') });
    assert.equal(run.step, undefined, run.stderr);
  });

  it('and is sound after it was unpacked, also with another tool between', async () => {
    const state = await verify();
    assert.deepEqual([state.findings, state.damaged, isSound(state)], [[], 0, true]);
    assert.equal(state.checked, 17);
    execFileSync('cp', ['-a', '--sparse=always', layer(), folder.path('copy')]);
    assert.equal(isSound(await verifyLayer(folder.path('copy'), folder.path('manifest'))), true);
  });

  const keepingTime = (path: string, change: () => void) => {
    const { atime, mtime } = statSync(path);
    change();
    utimesSync(path, atime, mtime);
  };
  const overwrite = (name: string, at: number) =>
    keepingTime(layer(name), () => {
      const fd = openSync(layer(name), 'r+');
      writeSync(fd, 'X', at);
      closeSync(fd);
    });
  const setXattr = (name: string, key: string, value: string) =>
    execFileSync('python3', [
      '-c',
      'import os,sys;os.setxattr(sys.argv[1],sys.argv[2],sys.argv[3].encode())',
      layer(name),
      key,
      value,
    ]);
  const inDir = (name: string, change: () => void) => keepingTime(layer(name), change);

  const damages: Record<string, [change: () => void, findings: string[]]> = {
    'one byte of a file': [() => overwrite('dir/big', 333_333), ['content dir/big']],
    'a byte among zeros': [() => overwrite('dir/zeros', 15_000), ['content dir/zeros']],
    'a file of two names': [() => overwrite('dir/second', 1), ['content dir/']],
    'a size': [() => appendFileSync(layer('dir/empty'), 'x'), ['size dir/empty']],
    'zeros at the end': [() => truncateSync(layer('dir/zeros'), 19_002), ['size dir/zeros']],
    'a mode': [() => chmodSync(layer('dir/file'), 0o4755), ['mode dir/file']],
    'an owner': [() => chownSync(layer('null'), 0, 7), ['owner null']],
    'a time': [() => utimesSync(layer('dir/file'), 1, 1), ['mtime dir/file']],
    'an attribute': [() => setXattr('dir/file', 'user.a', 'x'), ['xattrs dir/file']],
    'an attribute of a directory': [() => setXattr('dir', 'trusted.overlay.opaque', 'y'), ['xattrs dir']],
    'a file that is gone': [() => inDir('dir', () => unlinkSync(layer('dir/big'))), ['missing dir/big']],
    'a directory that is gone': [
      () => inDir('dir', () => rmSync(layer('dir/sub'), { recursive: true })),
      ['missing dir/sub'],
    ],
    'a foreign file': [
      () => inDir('dir/sub', () => writeFileSync(layer('dir/sub/new one'), '')),
      ['foreign dir/sub/new one'],
    ],
    'a foreign directory': [() => inDir('dir', () => mkdirSync(layer('dir/new'))), ['foreign dir/new']],
    'a foreign name for a file': [
      () => inDir('dir/sub', () => linkSync(layer('dir/big'), layer('dir/sub/more'))),
      ['foreign dir/sub/more', 'links dir/big'],
    ],
    'a link': [
      () => {
        inDir('.', () => (unlinkSync(layer('link')), symlinkSync('/some where/els', layer('link'))));
        execFileSync('touch', ['-h', '-d', '@1600000000', layer('link')]);
      },
      ['link link'],
    ],
    'a device': [
      () =>
        inDir(
          '.',
          () => (
            unlinkSync(layer('null')),
            execFileSync('mknod', ['-m', '644', layer('null'), 'c', '1', '5']),
            utimesSync(layer('null'), 1_600_000_000, 1_600_000_000)
          ),
        ),
      ['device null'],
    ],
    'a directory that became a link': [
      () =>
        inDir('.', () => {
          renameSync(layer('dir'), folder.path('elsewhere'));
          symlinkSync(folder.path('elsewhere'), layer('dir'));
        }),
      ['type dir'],
    ],
  };
  for (const [what, [change, expected]] of Object.entries(damages))
    it(`and tells ${what}`, async () => {
      change();
      const state = await verify();
      assert.equal(state.manifestDamaged, false);
      assert.equal(state.damaged, expected.length, words(state).join(', '));
      for (const [i, finding] of words(state).entries()) assert.ok(finding.startsWith(expected[i] ?? '?'), finding);
      assert.equal(isSound(state), false);
    });

  it('and tells twenty of many', async () => {
    for (let i = 0; i < 50; i++) writeFileSync(layer(`foreign-${i}`), '');
    const state = await verify();
    assert.deepEqual([state.damaged, state.findings.length], [51, 20]); // and the root's time
  });

  it('and a manifest that is cut off or changed anywhere is told', async () => {
    const whole = readFileSync(folder.path('manifest'));
    const damaged = async (bytes: Buffer) => {
      writeFileSync(folder.path('manifest'), bytes);
      const state = await verify();
      assert.deepEqual([state.manifestDamaged, isSound(state), state.checked], [true, false, 0]);
    };
    for (const length of [0, 5, whole.indexOf('\n') + 1, whole.length >> 1, whole.length - 1])
      await damaged(whole.subarray(0, length));
    for (let at = 0; at < whole.length; at += 97) {
      const changed = Buffer.from(whole);
      changed[at] = (whole[at] ?? 0) ^ 1;
      await damaged(changed);
    }
    await damaged(Buffer.concat([whole, Buffer.from('u\n')]));
    assert.equal((await verifyLayer(layer(), folder.path('nothing'))).manifestDamaged, true);
  });
});
