import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { copyFiles, type CopyOp } from '../../../src/image/unpack/copy';
import { packLayer, packTree, type PackRequest } from '../../../src/image/unpack/pack';
import { scan } from '../../../src/image/unpack/scan';
import { isSound, verifyLayer } from '../../../src/image/unpack/verify';
import { tempFolder } from '../../support/temp';
import { differences, treeOf } from '../../support/tree';
import { unpackTar } from '../../support/unpack';

const never = new AbortController().signal;

describe('a directory that becomes a layer', () => {
  const { path, write } = tempFolder();
  const node = (name: string, ...args: string[]) => execFileSync('mknod', [path(name), ...args]);
  const xattr = (name: string, key: string, value: string) =>
    execFileSync('setfattr', ['-n', key, '-v', value, path(name)]);

  async function pack(dir: string, options: Partial<PackRequest> = {}) {
    await using blob = await open(path(`${dir}.blob`), 'w');
    await using manifest = await open(path(`${dir}.manifest`), 'w+');
    const packed = await packLayer({ dir: path(dir), blob, manifest, below: [], mountPoints: [], ...options }, never);
    return { ...packed, blob: readFileSync(path(`${dir}.blob`)) };
  }

  const names = (blob: Buffer) =>
    execFileSync('tar', ['tzf', '-'], { input: blob, encoding: 'utf8' })
      .split('\n')
      .filter(name => name !== '');

  it('says why it cannot be sent', async () => {
    const sent = packTree([path('none')], undefined, never, async () => undefined);
    await assert.rejects(sent, /^BerthError: write a layer.*ENOENT/);
    mkdirSync(path('d'));
    write('d/f', 'x');
    const taker = packTree([path('d')], undefined, never, () => Promise.reject(new Error('the taker has gone')));
    await assert.rejects(taker, /the taker has gone/);
  });

  function makeTree(): void {
    const long = 'n'.repeat(200);
    for (const dir of ['d', 'd/a', `d/${long}`, 'd/sticky']) mkdirSync(path(dir));
    write('d/a/file', 'contents');
    write(`d/${long}/${long}`, 'far away');
    linkSync(path('d/a/file'), path('d/b-linked'));
    symlinkSync('a/file', path('d/link'));
    symlinkSync('t'.repeat(300), path('d/a/long-link'));
    writeFileSync(path('d/ü \n%'), '');
    writeFileSync(path('d/large'), Buffer.alloc(3_000_000, 'x'));
    node('d/fifo', 'p');
    node('d/device', 'c', '1', '3');
    chmodSync(path('d/a/file'), 0o4755);
    chmodSync(path('d/sticky'), 0o1777);
    lchownSync(path('d/link'), 5, 6);
    lchownSync(path('d/sticky'), 4_000_000_000, 3_000_000);
    xattr('d/a/file', 'user.note', 'kept');
    xattr('d/a', 'user.dir', 'kept');
    // A layer's tar has whole seconds.
    const all = execFileSync('find', [path('d'), '-depth', '-print0'], { encoding: 'utf8' }).split('\0');
    all.filter(name => name !== '').forEach((name, i) => lutimesSync(name, i, 1_000_000_000 + i));
  }

  it('is the same tree when it is unpacked, and sound by its manifest as it lies there', async () => {
    makeTree();
    const before = treeOf(path('d'));
    const { blob, diffId, digest } = await pack('d');
    assert.deepEqual(differences(before, treeOf(path('d'))), [], 'reading it changes nothing');
    const { summary, stderr } = unpackTar(blob, path('u'));
    assert.equal(summary.get('digest'), digest, stderr);
    const sha = execFileSync('sha256sum', { input: gunzipSync(blob), encoding: 'utf8' }).slice(0, 64);
    assert.equal(diffId, `sha256:${sha}`);
    utimesSync(path('u'), 0, 1_000_000_000); // the root is no entry
    utimesSync(path('d'), 0, 1_000_000_000);
    assert.deepEqual(differences(treeOf(path('d')), treeOf(path('u'))), []);
    utimesSync(path('d'), 1, 1_000_000_000 + [...before.keys()].length - 1);
    const state = await verifyLayer(path('d'), path('d.manifest'));
    assert.ok(isSound(state), JSON.stringify(state));
  });

  it('is the same bytes whenever and in whatever order it was written, and plain tar where asked', async () => {
    const make = (dir: string, order: readonly string[]) => {
      mkdirSync(path(dir));
      for (const name of order) write(`${dir}/${name}`, name);
      for (const name of [...order, '']) utimesSync(path(dir, name), 1, 1);
    };
    make('one', ['a', 'b', 'c']);
    make('two', ['c', 'a', 'b']);
    const [one, two] = [await pack('one'), await pack('two')];
    assert.equal(one.digest, two.digest);
    const plain = await pack('one', { plain: true });
    assert.deepEqual(plain.blob, gunzipSync(one.blob));
    assert.equal(plain.digest, one.diffId);
  });

  it('has no time after the one that is given, there as in its directory', async () => {
    mkdirSync(path('d'));
    write('d/new', '');
    write('d/old', '');
    utimesSync(path('d/old'), 5, 5);
    const { blob } = await pack('d', { epochSeconds: 1000 });
    unpackTar(blob, path('u'));
    const timeOf = (name: string) => execFileSync('stat', ['-c', '%Y', path(name)], { encoding: 'utf8' }).trim();
    assert.deepEqual(['d/new', 'd/old', 'u/new', 'u/old'].map(timeOf), ['1000', '5', '1000', '5']);
  });

  it('says by whiteouts what is gone, and by opaque marks what is hidden', async () => {
    mkdirSync(path('d/hides'), { recursive: true });
    node('d/gone', 'c', '0', '0');
    write('d/hides/new', '');
    xattr('d/hides', 'trusted.overlay.opaque', 'y');
    const { blob, entries } = await pack('d');
    assert.deepEqual(names(blob), ['.wh.gone', 'hides/', 'hides/.wh..wh..opq', 'hides/new']);
    assert.equal(entries, 4);
  });

  it('does not have what was made to mount on, unless it is more than that', async () => {
    mkdirSync(path('low/etc'), { recursive: true });
    for (const dir of ['d/etc', 'd/proc', 'd/sys', 'd/full']) mkdirSync(path(dir), { recursive: true });
    write('d/etc/hosts', '');
    write('d/full/file', 'x');
    write('d/written', 'x');
    const mountPoints = ['/etc/hosts', '/proc', '/sys', '/full', '/written', '/absent/deep'];
    const { blob } = await pack('d', { mountPoints, below: [path('low')] });
    assert.deepEqual(names(blob), ['full/', 'full/file', 'written']);
    assert.ok(!existsSync(path('d/etc')) && !existsSync(path('d/proc')));
  });

  it('is refused when overlayfs keeps a part of it elsewhere', async () => {
    mkdirSync(path('d/moved'), { recursive: true });
    xattr('d/moved', 'trusted.overlay.redirect', '/from');
    await assert.rejects(pack('d'), /"moved\/": overlayfs keeps its contents elsewhere/);
  });

  it('is empty when nothing was written', async () => {
    mkdirSync(path('d'));
    assert.equal((await pack('d')).entries, 0);
  });
});

describe('copying on top of layers', () => {
  const { path, write } = tempFolder();

  beforeEach(() => {
    for (const dir of ['low/etc', 'upper', 'source', 'outside']) mkdirSync(path(dir), { recursive: true });
    write('low/etc/passwd', 'root:x:0:0::/:\nwho:x:7:8::/:\n');
    write('low/etc/group', 'crew:x:9:\n');
    write('source/file', 'new');
    write('outside/secret', 'untouched');
  });

  let runs = 0;
  const copy = (...ops: CopyOp[]) =>
    copyFiles(
      {
        ...{ ops, source: [path('source')], lowers: [path('low')], upper: path('upper') },
        ...{ work: path(`work-${++runs}`), listPath: path(`list-${runs}`) },
      },
      never,
    );
  const fileTo = (target: string, from = 'file'): CopyOp => ({ op: 'file', path: target, mode: 0o644, from });

  it('looks owners up in the layers, by name and by number', async () => {
    await copy(
      ...(
        [
          ['who', ''],
          ['who', 'crew'],
          ['3', ''],
          ['3', '4'],
        ] as const
      ).flatMap(([user, group], i): CopyOp[] => [{ op: 'owner', user, group }, fileTo(`f${i}`)]),
    );
    const owners = [0, 1, 2, 3].map(i =>
      execFileSync('stat', ['-c', '%u:%g', path(`upper/f${i}`)], { encoding: 'utf8' }),
    );
    assert.deepEqual(owners, ['7:8\n', '7:9\n', '3:3\n', '3:4\n']);
    await assert.rejects(copy({ op: 'owner', user: 'nobody', group: '' }), /the image has no user "nobody"/);
    await assert.rejects(copy({ op: 'owner', user: 'who', group: 'none' }), /the image has no group "none"/);
  });

  it('stays within the layers and within the source, whatever links there are', async () => {
    symlinkSync(path('outside'), path('low/abs'));
    symlinkSync('../../../../../../../../' + path('outside'), path('low/rel'));
    symlinkSync(path('outside/secret'), path('low/file-link'));
    symlinkSync(path('outside/secret'), path('source/leads-out'));
    await copy(
      { op: 'directory', path: 'abs', mode: 0o755 },
      fileTo('abs/secret'),
      fileTo('rel/secret'),
      fileTo('file-link'),
      { op: 'link', path: 'abs/link', target: '/x' },
      { op: 'again', path: 'abs/again', existing: 'abs/secret' },
      { op: 'node', path: 'abs/fifo', mode: 0o010644, device: '0:0' },
    );
    await assert.rejects(copy(fileTo('stolen', 'leads-out')), /source ENOENT/);
    await assert.rejects(copy(fileTo('stolen', '../outside/secret')), /source ENOENT/);
    assert.equal(readFileSync(path('outside/secret'), 'utf8'), 'untouched');
    assert.deepEqual(execFileSync('ls', [path('outside')], { encoding: 'utf8' }), 'secret\n');
    assert.equal(
      readFileSync(path('upper', path('outside'), 'secret'), 'utf8'),
      'new',
      'it is where the link says, within',
    );
    assert.equal(readFileSync(path('upper/file-link'), 'utf8'), 'new', 'a link in its place is replaced');
    assert.equal(readlinkSync(path('low/file-link')), path('outside/secret'), 'below nothing changes');
  });

  it('does not put a file in the place of a directory, or a directory in the place of a file', async () => {
    await assert.rejects(copy(fileTo('etc')), /copy a file to "etc": a directory is there/);
    await assert.rejects(
      copy({ op: 'directory', path: 'etc/passwd', mode: 0o755 }),
      /copy a directory to "etc\/passwd": a file is there/,
    );
  });

  it('refuses names with a NUL or that are not UTF-8, before anything is done', async () => {
    await assert.rejects(copy(fileTo('a\0b')), /the name is not UTF-8/);
    await assert.rejects(copy(fileTo('a\ufffd')), /the name is not UTF-8/);
  });

  it('looks at what layers show, with links followed within', async () => {
    mkdirSync(path('top/etc'), { recursive: true });
    execFileSync('mknod', [path('top/etc/group'), 'c', '0', '0']);
    symlinkSync('/etc', path('top/to-etc'));
    symlinkSync(path('outside'), path('top/out'));
    const found = await scan(
      { dirs: [path('top'), path('low')], paths: ['to-etc', 'out', 'etc/passwd', 'none', ''], hash: true },
      never,
    );
    assert.deepEqual(
      found.get('to-etc')?.map(({ name, type }) => [name, type]),
      [
        ['.', 'directory'],
        ['passwd', 'file'],
      ],
    );
    assert.deepEqual([found.get('out'), found.get('none')], [undefined, undefined]);
    assert.match(found.get('etc/passwd')?.[0]?.sha256 ?? '', /^sha256:[0-9a-f]{64}$/);
    assert.deepEqual(
      found.get('')?.map(({ name }) => name),
      ['.', 'etc', 'etc/passwd', 'out', 'to-etc'],
    );
  });

  it('looks at so many names and no more', async () => {
    mkdirSync(path('top'), { recursive: true });
    for (let i = 0; i < 9; i++) writeFileSync(path(`top/${i}`), '');
    const look = async (namesMax: number) => scan({ dirs: [path('top')], paths: [''], namesMax }, never);
    assert.equal((await look(10)).get('')?.length, 10);
    await assert.rejects(look(9), /look at files: there are more than 9, and their names are held in memory; copy a/);
  });
});
