import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { openImages, type Image, type Images } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import {
  blob,
  buildImage,
  busyboxImage,
  descriptor,
  digest,
  header,
  padded,
  tar,
  type BuiltImage,
  type TarEntry,
} from '../../support/image-builder';

const dir = (path: string): TarEntry => ({ path, type: 'dir' });
const file = (path: string, data = 'x'): TarEntry => ({ path, data });
const symlink = (path: string, link: string): TarEntry => ({ path, type: 'symlink', link });
const hardlink = (path: string, link: string): TarEntry => ({ path, type: 'hardlink', link });

describe('layers', function () {
  this.timeout(30_000);
  let root: string;
  let outside: string;
  let store: Store;
  let images: Images;
  let count = 0;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'berth-layers-'));
    outside = join(root, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'victim'), 'untouched', { mode: 0o600 });
    store = openStore(join(root, 'store'), silentLogger);
    images = await openImages({ root: join(root, 'images'), store, log: silentLogger, layersInUse: () => [] });
  });
  afterEach(async () => {
    await images.close();
    await store.close();
    const left = readdirSync(join(root, 'images/layers')).filter(name => /^(tmp|trash)-/.test(name));
    rmSync(root, { recursive: true, force: true });
    assert.deepEqual(left, []);
  });

  /** Writes the image as a layout directory and imports it. */
  const importImage = (image: BuiltImage, change: (layout: string) => void = () => undefined): Promise<Image> => {
    const layout = join(root, `layout-${count++}`);
    mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(
      join(layout, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [descriptor(image.manifest)] }),
    );
    for (const { digest: name, bytes } of [image.manifest, image.config, ...image.layers])
      writeFileSync(join(layout, 'blobs', name.replace(':', '/')), bytes);
    change(layout);
    return images.importLayout(Context.of(silentLogger, {}), layout, 'test.example/layers:1');
  };
  const importLayers = (...layers: (TarEntry[] | Buffer)[]) => importImage(buildImage({ layers }));
  const baseOf = (image: Image): string => image.layers[0]?.dir ?? '';

  /** Looks at the merged image through the kernel's overlay. */
  const merged = (image: Image, look: (dir: string) => void): void => {
    const target = join(root, 'merged');
    mkdirSync(target, { recursive: true });
    const lower = images.lowerDirs(image);
    if (lower.length === 1) lower.push(mkdtempSync(join(root, 'empty-')));
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${lower.join(':')}`, target]);
    try {
      look(target);
    } finally {
      execFileSync('umount', [target]);
    }
  };

  it('of a layout that is none are not waited for', async () => {
    const some = buildImage({ layers: [] });
    const marker = (write: (path: string) => void) =>
      importImage(some, layout => {
        rmSync(join(layout, 'oci-layout'));
        write(join(layout, 'oci-layout'));
      });
    await assert.rejects(
      marker(path => execFileSync('mkfifo', [path])),
      { kind: 'failed_precondition', message: /oci-layout is not a regular file/ },
    );
    await assert.rejects(
      marker(path => writeFileSync(path, 'nonsense')),
      { kind: 'failed_precondition', message: /oci-layout is malformed: it is not JSON/ },
    );
  });

  it('keep types, modes, owners, times, long names, xattrs and binary names of values', async () => {
    const long = `deep/${'n'.repeat(120)}/${'m'.repeat(120)}`;
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex'); // cap_net_bind_service=ep
    const image = await importLayers([
      { ...dir('./'), mode: 0o711 },
      { path: 'setuid', data: 'x', mode: 0o4755, uid: 1000, pax: { gid: '2000000000' } },
      { path: 'null', type: 'char', major: 1, minor: 3, mode: 0o666 },
      { path: 'disk', type: 'block', major: 259, minor: 70_000, mode: 0o660 },
      { path: 'pipe', type: 'fifo', mode: 0o600 },
      { ...symlink('link', '/absolute/nowhere'), uid: 5 },
      { path: 'time', data: 'x', pax: { mtime: '1600000000.123456789' } },
      dir('deep'),
      dir(`deep/${'n'.repeat(120)}`),
      file(long, 'long'),
      {
        path: 'xattrs',
        data: 'x',
        pax: {
          'SCHILY.xattr.user.binary': Buffer.from([0, 10, 61, 255]),
          'SCHILY.xattr.security.capability': capability,
          'SCHILY.xattr.trusted.overlay.opaque': 'y',
          'SCHILY.xattr.security.selinux': 'x',
        },
      },
      { path: 'big', data: Buffer.alloc(3_000_001, 'ab') },
    ]);
    const base = baseOf(image);
    const at = (name: string): Stats => lstatSync(join(base, name));
    assert.equal(at('.').mode & 0o7777, 0o711);
    assert.deepEqual([at('setuid').mode & 0o7777, at('setuid').uid, at('setuid').gid], [0o4755, 1000, 2_000_000_000]);
    assert.deepEqual([at('null').isCharacterDevice(), at('null').rdev, at('null').mode & 0o777], [true, 0x103, 0o666]);
    assert.equal(at('disk').isBlockDevice(), true);
    assert.equal(at('pipe').isFIFO(), true);
    assert.deepEqual([readlinkSync(join(base, 'link')), at('link').uid], ['/absolute/nowhere', 5]);
    assert.equal(lstatSync(join(base, 'time'), { bigint: true }).mtimeNs, 1_600_000_000_123_456_789n);
    assert.equal(readFileSync(join(base, long), 'utf8'), 'long');
    assert.equal(digest(readFileSync(join(base, 'big'))), digest(Buffer.alloc(3_000_001, 'ab')));
    const program =
      'import os,sys;print({n:os.getxattr(sys.argv[1],n).hex() for n in sorted(os.listxattr(sys.argv[1]))})';
    const xattrs = execFileSync('python3', ['-c', program, join(base, 'xattrs')], { encoding: 'utf8' });
    assert.equal(xattrs.trim(), `{'security.capability': '${capability.toString('hex')}', 'user.binary': '000a3dff'}`);
  });

  it('hide what is below: whiteouts, opaque directories, replaced ones, in any order', async () => {
    const image = await importLayers(
      [
        dir('a'),
        file('a/gone'),
        file('a/kept'),
        dir('b'),
        file('b/hidden'),
        dir('c'),
        file('c/old'),
        dir('d'),
        file('d/old'),
        dir('e'),
        file('e/old'),
        file('f'),
      ],
      [
        dir('a'),
        file('a/.wh.gone', ''),
        dir('b'),
        file('b/new'),
        file('b/.wh..wh..opq', ''),
        file('.wh.c', ''),
        dir('c'), // after its whiteout: a new directory
        file('c/new'),
        dir('d'),
        file('d/new'),
        file('.wh.d', ''), // after its directory: hides what is below it only
        file('e', 'a file now'),
        file('.wh.f', ''),
        file('f/implied'), // below its whiteout, without an entry of its own
      ],
    );
    merged(image, target => {
      assert.deepEqual(readdirSync(join(target, 'a')), ['kept']);
      assert.deepEqual(readdirSync(join(target, 'b')), ['new']);
      assert.deepEqual(readdirSync(join(target, 'c')), ['new']);
      assert.deepEqual(readdirSync(join(target, 'd')), ['new']);
      assert.equal(readFileSync(join(target, 'e'), 'utf8'), 'a file now');
      assert.deepEqual(readdirSync(join(target, 'f')), ['implied']);
    });
  });

  it('can hide everything below', async () => {
    const image = await importLayers([file('old')], [file('new'), file('.wh..wh..opq', '')]);
    merged(image, target => assert.deepEqual(readdirSync(target), ['new']));
  });

  it('follow links to directories inside the image', async () => {
    const image = await importLayers([
      dir('usr'),
      dir('usr/lib'),
      symlink('lib', 'usr/lib'),
      file('lib/a'),
      symlink('abs', '/usr/lib'),
      file('abs/b'),
      symlink('dots', '../../../../usr/lib'),
      file('dots/c'),
      hardlink('d', 'lib/a'),
    ]);
    assert.deepEqual(readdirSync(join(baseOf(image), 'usr/lib')), ['a', 'b', 'c']);
    assert.equal(lstatSync(join(baseOf(image), 'd')).nlink, 2);
  });

  it('are the same compressed, plain, in many gzip members, and without an end', async () => {
    const bytes = tar([dir('a'), file('a/b', 'contents')]);
    const members = Buffer.concat([gzipSync(bytes.subarray(0, 700)), gzipSync(bytes.subarray(700))]);
    for (const [data, type] of [
      [bytes, ''],
      [members, '+gzip'],
      [gzipSync(bytes), '+gzip'],
    ] as const) {
      const plain = buildImage({ layers: [bytes] });
      const layer = blob(`application/vnd.oci.image.layer.v1.tar${type}`, data);
      const manifest = blob(
        plain.manifest.mediaType,
        Buffer.from(
          JSON.stringify({ ...(JSON.parse(plain.manifest.bytes.toString()) as object), layers: [descriptor(layer)] }),
        ),
      );
      const image = await importImage({ ...plain, layers: [layer], manifest });
      assert.equal(readFileSync(join(baseOf(image), 'a/b'), 'utf8'), 'contents');
      await images.remove(image.id);
    }
    const open = await importLayers(tar([file('open')], { end: false }));
    assert.ok(existsSync(join(baseOf(open), 'open')));
  });

  describe('that are hostile', () => {
    const host = () => ({
      outside: readdirSync(outside),
      victim: readFileSync(join(outside, 'victim'), 'utf8'),
      stat: JSON.stringify(lstatSync(join(outside, 'victim'))),
      root: readdirSync(root).filter(name => !name.startsWith('layout-')),
      slash: readdirSync('/').sort(),
      tmp: readdirSync('/tmp').filter(name => name.startsWith('pwned')),
    });

    const refused: [name: string, entries: () => (TarEntry | Buffer)[], why: RegExp][] = [
      ['names with ..', () => [file('../pwned')], /entry "\.\.\/pwned": the name leads out of the image/],
      ['names with .. in the middle', () => [dir('a'), file('a/../../pwned')], /leads out of the image/],
      ['hard links with ..', () => [hardlink('l', `../../../..${outside}/victim`)], /the link leads out of the image/],
      [
        'hard links to the host',
        () => [hardlink('l', join(outside, 'victim'))],
        /the file that it links to does not exist/,
      ],
      [
        'hard links through a link',
        () => [symlink('s', outside), hardlink('l', 's/victim')],
        /the file that it links to does not exist/,
      ],
      ['whiteouts of nothing', () => [file('.wh.')], /whiteout names nothing/],
      ['whiteouts of .', () => [file('a/.wh..')], /whiteout names nothing/],
      ['whiteouts of ..', () => [file('a/.wh...')], /whiteout names nothing/],
      ['directories called as a whiteout', () => [file('.wh.a/b')], /whiteout names nothing/],
      ['a root that is a link', () => [symlink('./', outside)], /the root of an image must be a directory/],
      ['loops of links', () => [symlink('a', 'b'), symlink('b', 'a'), file('a/x')], /too many symbolic links/],
      ['files as parents', () => [file('a'), file('a/b')], /a part of its path is not a directory/],
      ['owners beyond 32 bits', () => [{ path: 'a', pax: { uid: '4294967295' } }], /impossible owner/],
      ['long names', () => [file(`${'a/'.repeat(2100)}x`)], /longer than 4095/],
    ];
    for (const [name, entries, why] of refused)
      it(`are refused: ${name}`, async () => {
        const before = host();
        await assert.rejects(importLayers(tar(entries() as TarEntry[])), (error: Error) => {
          assert.match(error.message, why);
          return true;
        });
        assert.deepEqual(host(), before);
        assert.deepEqual(images.list(), []);
      });

    const contained: [name: string, entries: () => TarEntry[], look: (base: string) => void][] = [
      ['absolute names', () => [file('/pwned')], base => assert.ok(existsSync(join(base, 'pwned')))],
      [
        'parents that are links out',
        () => [symlink('out', outside), file('out/pwned')],
        base => assert.ok(existsSync(join(base, outside, 'pwned'))),
      ],
      [
        'parents that are links up',
        () => [symlink('up', '../../../../../../tmp'), file('up/pwned')],
        base => assert.ok(existsSync(join(base, 'tmp/pwned'))),
      ],
      [
        'chains of links',
        () => [dir('a'), symlink('a/up', '..'), symlink('b', 'a/up/..'), symlink('c', 'b/../..'), file('c/pwned')],
        base => assert.ok(existsSync(join(base, 'pwned'))),
      ],
      [
        'files over links out',
        () => [symlink('l', join(outside, 'victim')), file('l', 'pwned')],
        base => assert.ok(lstatSync(join(base, 'l')).isFile()),
      ],
      [
        'directories over links out',
        () => [symlink('l', outside), { ...dir('l'), mode: 0o777 }, file('l/pwned')],
        base => assert.ok(existsSync(join(base, 'l/pwned'))),
      ],
      [
        'devices over links out',
        () => [symlink('l', join(outside, 'victim')), { path: 'l', type: 'char', major: 1, minor: 3 }],
        base => assert.ok(lstatSync(join(base, 'l')).isCharacterDevice()),
      ],
      [
        'a parent replaced by a link',
        () => [dir('d'), file('d/a'), symlink('d', outside), file('d/pwned')],
        base => assert.ok(existsSync(join(base, outside, 'pwned'))),
      ],
      [
        'hard links to links out',
        () => [
          symlink('s', join(outside, 'victim')),
          { ...hardlink('h', 's'), mode: 0o777 },
          { ...file('h', 'pwned'), mode: 0o777 },
        ],
        base => assert.ok(lstatSync(join(base, 'h')).isFile()),
      ],
      [
        'magic links',
        () => [symlink('m', '/proc/self/root'), file('m/pwned')],
        base => assert.ok(existsSync(join(base, 'proc/self/root/pwned'))),
      ],
      [
        'times and whiteouts through links',
        () => [symlink('l', outside), file('l/.wh.victim', ''), file('l/.wh..wh..opq', '')],
        base => assert.ok(existsSync(join(base, outside, 'victim'))),
      ],
      [
        'AUFS left-overs',
        () => [dir('.wh..wh.plnk'), file('.wh..wh.plnk/x'), file('kept')],
        base => assert.deepEqual(readdirSync(base), ['kept']),
      ],
    ];
    for (const [name, entries, look] of contained)
      it(`stay inside: ${name}`, async () => {
        const before = host();
        const image = await importLayers(entries());
        const after = host();
        assert.deepEqual(after, before);
        look(baseOf(image));
      });

    it('are refused: bombs', async () => {
      const zeros = Buffer.concat([header({ path: 'zeros' }, '0', 2 ** 30 * 3), Buffer.alloc(1024)]);
      const image = buildImage({ layers: [zeros] });
      const many = gzipSync(Buffer.alloc(64 * 1024 * 1024));
      const bytes = Buffer.concat([
        gzipSync(header({ path: 'zeros' }, '0', 2 ** 30 * 3)),
        ...Array.from({ length: 20 }, () => many),
      ]);
      const layer = blob('application/vnd.oci.image.layer.v1.tar+gzip', bytes);
      const manifest = blob(
        image.manifest.mediaType,
        Buffer.from(
          JSON.stringify({ ...(JSON.parse(image.manifest.bytes.toString()) as object), layers: [descriptor(layer)] }),
        ),
      );
      await assert.rejects(importImage({ ...image, layers: [layer], manifest }), {
        kind: 'failed_precondition',
        message: /it grows to more than 200 times its size/,
      });
    });
  });

  describe('that are damaged are refused by a sentence, and leave nothing', () => {
    const damaged =
      (change: (path: string, bytes: Buffer) => void, why: RegExp, kind = 'data_loss') =>
      async () => {
        const image = busyboxImage();
        const [layer] = image.layers;
        assert.ok(layer);
        const path = `blobs/${layer.digest.replace(':', '/')}`;
        await assert.rejects(
          importImage(image, layout => change(join(layout, path), layer.bytes)),
          { kind, message: why },
        );
        assert.deepEqual(images.list(), []);
      };
    it(
      'missing',
      damaged(path => rmSync(path), /has no blobs\/sha256/, 'not_found'),
    );
    it(
      'too short',
      damaged(
        (path, bytes) => writeFileSync(path, bytes.subarray(0, 5000)),
        /layer sha256:[0-9a-f]{64}: 5000 bytes came, and \d+ were announced/,
      ),
    );
    it(
      'too long',
      damaged((path, bytes) => writeFileSync(path, Buffer.concat([bytes, bytes])), /more than \d+ bytes came/),
    );
    it(
      'changed',
      damaged(
        (path, bytes) =>
          writeFileSync(path, Buffer.concat([bytes.subarray(0, -5), Buffer.from([1]), bytes.subarray(-4)])),
        /gzip data is damaged/,
      ),
    );
    it(
      'another layer of the same length',
      damaged((path, bytes) => {
        const other = Buffer.from(bytes);
        other[9] = (other[9] ?? 0) ^ 1; // the gzip header's operating system: contents and length stay
        writeFileSync(path, other);
      }, /what came has digest sha256:/),
    );

    it('of another diff id than the config says', async () => {
      const image = buildImage({
        layers: [[file('a')]],
        configDocument: { rootfs: { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] } },
      });
      await assert.rejects(importImage(image), {
        kind: 'data_loss',
        message: /have diff id sha256:[0-9a-f]{64}, and the image config says sha256:0000/,
      });
    });
    it('with a wrong tar checksum, and with something after the end', async () => {
      const bytes = tar([file('a')]);
      bytes[0] = 98;
      await assert.rejects(importLayers(bytes), { kind: 'data_loss', message: /wrong checksum/ });
      await assert.rejects(importLayers(Buffer.concat([tar([file('a')]), padded(Buffer.from('more'))])), {
        kind: 'data_loss',
        message: /something follows the end/,
      });
    });
    it('of damaged xz and bzip2', async () => {
      for (const [name, bytes] of [
        ['xz', 'fd377a585a0000000000'],
        ['bzip2', '425a683931415926535900000000'],
      ] as const)
        await assert.rejects(importImage(buildImage({ layers: [Buffer.from(bytes, 'hex')], compress: false })), {
          kind: 'data_loss',
          message: new RegExp(`its ${name} data is damaged|it ends early`),
        });
    });
  });

  it('say that the disk is full, and leave nothing', async () => {
    const small = mkdtempSync(join(root, 'small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
    const full = await openImages({ root: small, store, log: silentLogger, layersInUse: () => [] });
    try {
      const saved = images;
      images = full;
      await assert.rejects(importImage(busyboxImage()), {
        kind: 'resource_exhausted',
        message: /entry "[^"]+": no space left on device; free some space/, // of whichever layer came second
      });
      images = saved;
      await full.close(); // waits for removals
      assert.deepEqual(readdirSync(join(small, 'layers')), ['empty']);
    } finally {
      execFileSync('umount', [small]);
    }
  });
});
