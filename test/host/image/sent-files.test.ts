import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { IgnorePatterns } from '../../../src/base/patterns';
import { contextTar } from '../../../src/cli/context-tar';
import { unpackArchive } from '../../../src/image/unpack/archive';
import { scan, scanArchive, type Scanned } from '../../../src/image/unpack/scan';
import { tar, type TarEntry } from '../../support/image-builder';
import { tempFolder } from '../../support/temp';

const never = new AbortController().signal;

describe('what a client sends, looked at without being unpacked', () => {
  const { path } = tempFolder();

  /** By looking at the archive, undefined where that says nothing; and by unpacking it. */
  async function seen(bytes: Buffer, paths: readonly string[], hash = true) {
    const place = mkdtempSync(path('archive-'));
    const [archive, nothing, dir] = [join(place, 'tar'), join(place, 'nothing'), join(place, 'dir')];
    writeFileSync(archive, bytes);
    mkdirSync(nothing);
    mkdirSync(dir);
    await using file = await open(archive, 'r');
    const looked = await scanArchive(file, { dirs: [nothing], paths, hash }, never);
    const unpacked = async () => {
      await unpackArchive({ path: archive, sizeBytes: bytes.length }, dir, 'the archive', never);
      return scan({ dirs: [dir], paths, hash }, never);
    };
    return { looked, unpacked };
  }

  it('is what it is when it is unpacked', async function () {
    this.timeout(300_000);
    let regular = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(entries, { maxLength: 8 }), fc.boolean(), fc.boolean(), async (all, isTidy, hash) => {
        const { looked, unpacked } = await seen(tar(isTidy ? tidied(all) : all), paths, hash);
        if (!looked) return;
        regular++;
        assert.deepEqual(comparable(looked), comparable(await unpacked()));
      }),
      { numRuns: 60 },
    );
    assert.ok(regular >= 10, `${regular} archives were looked at`);
  });

  it('is found out of the tar of a context, without unpacking', async () => {
    const context = path('context');
    mkdirSync(join(context, 'a/b'), { recursive: true });
    writeFileSync(join(context, 'a/b/file'), 'text\n'.repeat(60_000));
    writeFileSync(join(context, 'a/empty'), '');
    symlinkSync('a/b', join(context, 'way'));
    const pieces: Buffer[] = [];
    for await (const piece of contextTar(context, new IgnorePatterns([]))) pieces.push(piece);
    const { looked, unpacked } = await seen(Buffer.concat(pieces), [
      '',
      'way/file',
      'way',
      'a',
      'nothing',
      'a/empty/x',
    ]);
    assert.ok(looked);
    assert.deepEqual(comparable(looked), comparable(await unpacked()));
    assert.equal(looked.get('way/file')?.[0]?.sizeBytes, 300_000);
    assert.equal(looked.get('nothing'), undefined);
  });

  const file = { path: 'file', data: 'x' } as const;
  const irregular: Readonly<Record<string, Buffer>> = {
    'a compressed one': gzipSync(tar([file])),
    'one that is cut off': tar([{ path: 'file', data: 'x'.repeat(100_000) }]).subarray(0, 90_000),
    'no archive': Buffer.from('no archive '.repeat(1000)),
    'a file twice': tar([file, file]),
    'a second name of a file': tar([file, { path: 'other', type: 'hardlink', link: 'file' }]),
    'a directory that comes after what is in it': tar([{ path: 'dir/file' }, { path: 'dir', type: 'dir' }]),
    'a file behind a link': tar([
      { path: 'dir', type: 'dir' },
      { path: 'link', type: 'symlink', link: 'dir' },
      { path: 'link/file' },
    ]),
    'a whiteout': tar([{ path: '.wh.file' }]),
    'a name that leads out': tar([{ path: '../file' }]),
    attributes: tar([{ ...file, pax: { 'SCHILY.xattr.user.a': 'b' } }]),
    'a device': tar([{ path: 'null', type: 'char', major: 1, minor: 3 }]),
    'the root itself': tar([{ path: './', type: 'dir', mode: 0o700 }]),
  };
  for (const [what, bytes] of Object.entries(irregular))
    it(`is for unpacking to tell: ${what}`, async () => {
      assert.equal((await seen(bytes, [''])).looked, undefined);
    });
});

const names = ['a', 'b', 'a/a', 'a/b', 'a/b/a', 'b/a', '.hidden', 'a/ä b'];
const paths = ['', 'a', 'a/b', 'b/a', 'a/../b', '../a', 'a/b/a/.', '.hidden', 'a/ä b', 'none', 'b/b/b'];

const entries: fc.Arbitrary<TarEntry> = fc
  .record({
    path: fc.constantFrom(...names),
    type: fc.constantFrom<NonNullable<TarEntry['type']>>('dir', 'dir', 'dir', 'file', 'file', 'symlink', 'fifo'),
    data: fc.constantFrom('', 'text', 'x'.repeat(512), 'y'.repeat(70_000)),
    link: fc.constantFrom('a', '/a', '../a', 'b/', '..', '/', 'a/b', 'none', './b/../a'),
    mode: fc.constantFrom(0o644, 0o755, 0o4755, 0o1777, 0),
    uid: fc.constantFrom(0, 0, 1000),
    gid: fc.constantFrom(0, 0, 1000),
    mtime: fc.constantFrom(0, 1_700_000_000),
  })
  .map(({ type, data, link, ...rest }) => ({
    ...{ ...rest, type },
    ...(type === 'file' ? { data } : {}),
    ...(type === 'symlink' ? { link } : {}),
  }));

/** Each once, and behind its directory. */
function tidied(all: readonly TarEntry[]): TarEntry[] {
  const dirs = ['a', 'a/b', 'b'];
  const others = new Map(all.filter(({ path }) => !dirs.includes(String(path))).map(entry => [entry.path, entry]));
  return [...dirs.map((path): TarEntry => ({ path, type: 'dir' })), ...others.values()];
}

/** Without the numbers that a file system gives. */
function comparable(found: Scanned) {
  return [...found].map(([path, list]) => [
    path,
    list?.map(({ inode: _inode, links: _links, sizeBytes, mtime, ...entry }) => ({
      ...entry,
      mtime: entry.name === '.' ? '' : mtime, // the root's is when it was made
      sizeBytes: entry.type === 'file' ? sizeBytes : 0,
    })),
  ]);
}
