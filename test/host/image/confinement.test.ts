import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { removeDirectory } from '../../../src/image/unpack/unpack';
import { isSound, verifyLayer } from '../../../src/image/unpack/verify';
import { nativePath } from '../../../src/native/paths';
import { zstdOf } from '../../support/archives';
import { tar, type TarEntry } from '../../support/image-builder';
import { unpackArguments, unpackTar } from '../../support/unpack';

const dir = (path: string): TarEntry => ({ path, type: 'dir' });

/** The walls themselves are tested one by one in test/native/unpack/confine-test.c. */
describe('berth-unpack is confined', function () {
  this.timeout(60_000);
  let root: string;
  let layer: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'berth-confinement-'));
    layer = join(root, 'layer');
    mkdirSync(layer);
  });
  afterEach(async () => {
    await removeDirectory(layer);
    rmSync(root, { recursive: true, force: true });
  });

  it('before it reads a byte: its root is its directory, its descriptors are known, its privileges are few', async () => {
    const bytes = tar([{ path: 'file', data: 'x' }]);
    const lower = join(root, 'lower');
    mkdirSync(lower);
    writeFileSync(join(lower, 'below'), '');
    const leaked = openSync('/', 'r');
    const args = unpackArguments(bytes.length, layer, { lower: [lower] });
    const child = spawn(nativePath('berth-unpack'), args, { stdio: ['pipe', 'pipe', 'inherit', leaked], env: {} });
    try {
      child.stdin?.write(bytes.subarray(0, 512));
      assert.ok(child.stdout);
      await once(child.stdout, 'data'); // of its progress: the first byte has been read
      const proc = `/proc/${child.pid}`;
      const status = readFileSync(`${proc}/status`, 'utf8');
      const line = (key: string) => new RegExp(`^${key}:\\s+(\\S+)`, 'm').exec(status)?.[1];
      assert.equal(line('NoNewPrivs'), '1');
      assert.equal(line('Seccomp'), '2');
      // chown, dac_override, fowner, fsetid, mknod, setfcap, sys_admin
      assert.equal(BigInt(`0x${line('CapPrm')}`), (1n << 0n) | 0b11010n | (1n << 21n) | (1n << 27n) | (1n << 31n));
      assert.equal(line('CapEff'), line('CapPrm'));
      assert.deepEqual(readdirSync(`${proc}/root`), readdirSync(layer));
      assert.deepEqual(readdirSync(`${proc}/cwd`), readdirSync(layer));
      assert.match(readFileSync(`${proc}/limits`, 'utf8'), /^Max address space +1073741824 +1073741824/m);
      assert.match(readFileSync(`${proc}/limits`, 'utf8'), /^Max core file size +0 +0/m);
      const descriptors = readdirSync(`${proc}/fd`).map(Number);
      const contents = descriptors
        .filter(fd => fd > 2)
        .map(fd => readdirSync(`${proc}/fd/${fd}`))
        .sort();
      // The layer and the one below, each with the mount made for it; nothing with the contents of `/`.
      const [ours, below] = [readdirSync(layer), ['below']];
      assert.deepEqual(contents, [ours, ours, below, below].sort());
      assert.ok(!descriptors.some(fd => readlinkSync(`${proc}/fd/${fd}`).startsWith('socket:') && fd > 2));
      child.stdin?.end(bytes.subarray(512));
      const [code] = (await once(child, 'close')) as [number | null];
      assert.equal(code, 0);
    } finally {
      child.kill('SIGKILL');
      closeSync(leaked);
    }
    assert.equal(readFileSync(join(layer, 'file'), 'utf8'), 'x');
  });

  it('and is gone with its mounts when it ends: its file system can be unmounted at once', () => {
    const at = join(root, 'fs');
    mkdirSync(at);
    for (let round = 0; round < 20; round++) {
      execFileSync('mount', ['-t', 'tmpfs', 'none', at]);
      try {
        assert.equal(unpackTar(tar([{ path: 'file', data: 'x' }]), join(at, 'layer')).step, undefined);
        execFileSync(nativePath('berth-unpack'), ['remove', join(at, 'layer')]);
      } finally {
        execFileSync('umount', [at]);
      }
    }
  });

  it('or reads nothing: without the right to mounts of its own it says so', () => {
    const bytes = tar([{ path: 'file', data: 'x' }]);
    const args = [
      '--bounding-set=-sys_admin',
      '--',
      nativePath('berth-unpack'),
      ...unpackArguments(bytes.length, layer),
    ];
    const ended = spawnSync('setpriv', args, { input: bytes, encoding: 'utf8' });
    assert.equal(ended.status, 1);
    assert.equal(ended.stderr, 'confine 1 mount\n');
    assert.deepEqual(readdirSync(layer), []);
  });

  describe('to its directory and not to what is mounted below', () => {
    const withMount = async (below: string, what: (mounted: string) => Promise<void>): Promise<void> => {
      const mounted = join(root, 'mounted');
      mkdirSync(mounted);
      writeFileSync(join(mounted, 'precious'), 'precious');
      execFileSync('mount', ['--bind', mounted, below]);
      try {
        await what(mounted);
      } finally {
        execFileSync('umount', [below]);
      }
    };

    it('when it removes', async () => {
      mkdirSync(join(layer, 'a'));
      await withMount(join(layer, 'a'), async mounted => {
        await assert.rejects(removeDirectory(layer), { step: 'remove', errno: 'EBUSY' });
        assert.equal(readFileSync(join(mounted, 'precious'), 'utf8'), 'precious');
      });
      await removeDirectory(layer);
      assert.ok(!existsSync(layer));
    });

    it('when it verifies', async () => {
      const manifest = join(root, 'manifest');
      assert.equal(unpackTar(tar([dir('a'), { path: 'a/f', data: 'x' }]), layer, { manifest }).step, undefined);
      await withMount(join(layer, 'a'), async () => {
        assert.ok(isSound(await verifyLayer(layer, manifest)));
      });
    });
  });

  it('removes files, links and nothing, and never what a link leads to', async () => {
    writeFileSync(join(root, 'victim'), 'x');
    writeFileSync(join(root, 'file'), 'x');
    execFileSync('ln', ['-s', layer, join(root, 'link')]);
    execFileSync('ln', ['-s', root, join(layer, 'up')]);
    mkdirSync(join(layer, 'shut/inner'), { recursive: true, mode: 0o000 });
    for (const name of ['file', 'link', 'layer', 'nothing']) await removeDirectory(join(root, name));
    assert.deepEqual(readdirSync(root), ['victim']);
  });

  it('takes no attribute that speaks to overlayfs or to the security of the host', () => {
    const pax = Object.fromEntries(
      [
        ...['trusted.overlay.opaque', 'trusted.overlay.redirect', 'trusted.overlay.metacopy', 'trusted.md5'],
        ...['user.overlay.opaque', 'security.selinux', 'security.ima', 'security.evm', 'security.SMACK64'],
        ...['system.posix_acl_access', 'system.posix_acl_default', 'user.kept'],
      ].map(name => [`SCHILY.xattr.${name}`, 'y']),
    );
    // security.capability is for files; a directory has none
    const capability = {
      'SCHILY.xattr.security.capability': Buffer.from('0100000200040000000000000000000000000000', 'hex'),
    };
    const bytes = tar([
      { ...dir('d'), pax: { ...pax, ...capability } },
      { path: 'f', data: 'x', pax },
      { ...dir('./'), pax },
    ]);
    assert.equal(unpackTar(bytes, layer).step, undefined);
    const program = 'import os,sys\nfor p in sys.argv[1:]: print(",".join(sorted(os.listxattr(p))))';
    const paths = [layer, join(layer, 'd'), join(layer, 'f')];
    const found = execFileSync('python3', ['-c', program, ...paths], { encoding: 'utf8' })
      .trim()
      .split('\n');
    assert.deepEqual(found, ['user.kept', 'user.kept', 'user.kept']);
  });

  describe('in what it makes of few bytes', () => {
    const deep = (levels: number) => `${'d/'.repeat(levels)}f`;

    it('no tree of more than 512 levels, however it is described', async () => {
      const manifest = join(root, 'manifest');
      assert.equal(unpackTar(tar([{ path: deep(511), data: 'x' }]), layer, { manifest }).step, undefined);
      await removeDirectory(layer);
      assert.equal(unpackTar(tar([{ path: deep(512), data: 'x' }]), layer).step, 'depth');
      await removeDirectory(layer);
      // by way of links to what is deep already
      const half = 'd/'.repeat(300);
      const linked = [
        dir(half),
        { path: 'l', type: 'symlink', link: half } as const,
        dir(`l/${half}`),
        { path: 'm', type: 'symlink', link: `l/${half}` } as const,
        dir('m/x'),
      ];
      assert.equal(unpackTar(tar(linked), layer).step, 'depth');
      await removeDirectory(layer);
      // one level after the other
      const end = 'd/'.repeat(510);
      const steps = [
        dir(end),
        { path: 'l', type: 'symlink', link: end } as const,
        ...[1, 2, 3].map(n => dir(`l/${'x/'.repeat(n)}`)),
      ];
      assert.equal(unpackTar(tar(steps), layer).step, 'depth');
    });

    it('no more directories than its bytes are worth', async () => {
      // 20 KiB in 10 entries imply 5,000 directories, which take 20 MB of the disk.
      const entries = Array.from({ length: 10 }, (_, i): TarEntry => ({ path: `${i}/${'d/'.repeat(500)}f`, data: '' }));
      const bytes = tar(entries);
      assert.equal(unpackTar(bytes, layer, { maxBytes: bytes.length }).step, 'too-large');
      await removeDirectory(layer);
      assert.equal(unpackTar(bytes, layer, { maxBytes: 1000 * bytes.length }).step, undefined);
    });

    it('no more bytes by many small members and frames than by one large', async () => {
      const zeros = Buffer.alloc(64 * 1024);
      const limit = { maxBytes: 8 * 1024 * 1024 };
      const head = tar([{ path: 'f', data: 'x' }]);
      const gzip = Buffer.concat([gzipSync(head), ...Array.from({ length: 200 }, () => gzipSync(zeros))]);
      const zstd = Buffer.concat([zstdOf(head), ...Array.from({ length: 200 }, () => zstdOf(zeros))]);
      assert.equal(unpackTar(gzip, layer, limit).step, 'too-large');
      await removeDirectory(layer);
      assert.equal(unpackTar(zstd, layer, limit).step, 'too-large');
    });

    it('no time worth mentioning by members and frames that hold nothing', async () => {
      const head = tar([{ path: 'f', data: 'x' }]);
      const repeat = (bytes: Buffer) => Buffer.concat(Array.from({ length: 200_000 }, () => bytes));
      const skippable = Buffer.from('502a4d1800000000', 'hex');
      const empty = Buffer.from('28b52ffd2000010000', 'hex'); // one block, the last, without bytes
      assert.equal(unpackTar(Buffer.concat([gzipSync(head), repeat(gzipSync(''))]), layer).step, undefined);
      await removeDirectory(layer);
      assert.equal(unpackTar(Buffer.concat([zstdOf(head), repeat(skippable), repeat(empty)]), layer).step, undefined);
    });

    it('no more of the disk by a link to a file below that is nearly all hole', async () => {
      const lower = join(root, 'lower');
      const terabyte = String(2 ** 40);
      // version 1.0 of GNU's sparse files: its map, one piece of three bytes, and those
      const data = Buffer.concat([Buffer.from('1\n65536\n3\n'.padEnd(512, '\0')), Buffer.from('abc')]);
      const pax = {
        'GNU.sparse.major': '1',
        'GNU.sparse.minor': '0',
        'GNU.sparse.name': 'f',
        'GNU.sparse.realsize': terabyte,
      };
      try {
        assert.equal(unpackTar(tar([{ path: 'x', data, pax }]), lower).step, undefined);
        const run = unpackTar(tar([{ path: 'l', type: 'hardlink', link: 'f' }]), layer, { lower: [lower] });
        assert.equal(run.step, undefined, run.stderr);
        const copy = lstatSync(join(layer, 'l'));
        assert.equal(copy.size, 2 ** 40);
        assert.ok(copy.blocks * 512 < 1024 * 1024, `${copy.blocks} blocks`);
        assert.ok(Number(run.summary.get('disk-bytes')) < 1024 * 1024);
        const file = openSync(join(layer, 'l'), 'r');
        const found = Buffer.alloc(3);
        readSync(file, found, 0, 3, 65536);
        closeSync(file);
        assert.equal(found.toString(), 'abc');
      } finally {
        await removeDirectory(lower);
      }
    });

    it('a window of 128 MiB, the largest that zstd needs, and none larger', async () => {
      const frame = (log: number, bytes: Buffer) => {
        const head = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0, 0, 0]);
        head.writeUIntLE((bytes.length << 3) | 1, 6, 3);
        return Buffer.concat([head, bytes]);
      };
      const bytes = tar([{ path: 'f', data: 'x' }]);
      assert.equal(unpackTar(frame(27, bytes), layer).step, undefined);
      await removeDirectory(layer);
      assert.equal(unpackTar(frame(28, bytes), layer).step, 'zstd-window');
    });

    it('no more memory than it is given: the error says so', () => {
      // The time of a directory is remembered for the end, each time it is described.
      const entry = tar([dir('n'.repeat(250) + `/${'n'.repeat(250)}`.repeat(14))], { end: false });
      const bytes = gzipSync(Buffer.concat(Array.from({ length: 80_000 }, () => entry)), { level: 1 });
      const run = unpackTar(bytes, layer);
      assert.equal(run.step, 'memory', run.stderr);
    });
  });
});
