import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { dockerArchive, ociArchive, smallImage, zstdOf } from '../../support/archives';
import { busyboxImage, header, tar, type TarEntry } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';
import { RealDaemon } from './harness';

describe('archives, with a real daemon', () => {
  let daemon: RealDaemon;
  let registry: Registry;

  before(async () => {
    daemon = await RealDaemon.start();
    registry = await startRegistry();
  });
  after(async () => {
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });
  afterEach(async () => {
    const ids = (await daemon.ok('images', '-q', '--no-trunc')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rmi', '-f', ...new Set(ids));
    assert.deepEqual(readdirSync(daemon.path('root/incoming')), []);
  });

  const write = (name: string, bytes: Buffer) => {
    writeFileSync(daemon.path(name), bytes);
    return daemon.path(name);
  };
  const ids = async (of = daemon) => (await of.ok('images', '-q', '--no-trunc')).split('\n').filter(id => id !== '');

  it('take an image from a pull to another node, the same to the last digest', async () => {
    const image = busyboxImage();
    const name = `${registry.host}/travels:1`;
    await pushImage(registry, 'travels', '1', image);
    assert.equal((await daemon.berth('pull', name)).code, 0);
    await daemon.ok('tag', name, 'localhost/second:2');
    const file = daemon.path('saved.tar');
    await daemon.ok('save', '-o', file, name, 'localhost/second:2');
    const stdout = execFileSync('tar', ['-tf', file], { encoding: 'utf8' });
    for (const blob of [image.manifest, image.config, ...image.layers])
      assert.ok(stdout.includes(`blobs/${blob.digest.replace(':', '/')}\n`), stdout);
    const [docker] = JSON.parse(execFileSync('tar', ['-xOf', file, 'manifest.json'], { encoding: 'utf8' })) as {
      RepoTags: string[];
      Layers: string[];
    }[];
    assert.deepEqual(docker?.RepoTags, [name, 'localhost/second:2']);
    assert.equal(docker.Layers.length, image.layers.length);

    const other = await RealDaemon.start();
    try {
      const loaded = await other.ok('load', '-q', '-i', file);
      assert.equal(loaded, `Loaded image: ${name}\nLoaded image: localhost/second:2\n`);
      assert.deepEqual(new Set(await ids(other)), new Set([image.id]));
      const [inspected] = JSON.parse(await other.ok('inspect', name)) as { digests: string[] }[];
      assert.ok(inspected?.digests.includes(`${registry.host}/travels@${image.manifest.digest}`));
      assert.equal(await other.ok('run', '--rm', '--pull', 'never', 'localhost/second:2', 'echo', 'here'), 'here\n');
    } finally {
      assert.deepEqual(await other.stop(), []);
    }
  });

  it('are the same for the same image, through a pipe and into a directory, too', async () => {
    await pushImage(registry, 'same', '1', smallImage('same').image);
    const name = `${registry.host}/same:1`;
    await daemon.berth('pull', '-q', name);
    await daemon.ok('save', name, '-o', daemon.path('one.tar'));
    assert.equal(await daemon.ok('save', name), readFileSync(daemon.path('one.tar')).toString());
    await daemon.ok('save', name, '-o', daemon.path('saved/'));
    await daemon.ok('rmi', name);
    assert.match(await daemon.ok('load', '-q', daemon.path('saved')), /^Loaded image: .*same:1\n$/);
    await daemon.ok('rmi', name);
    assert.equal(
      await daemon.ok('load', '-q', '--name', 'localhost/other:3', daemon.path('saved')),
      'Loaded image: localhost/other:3\n',
    );
    const { code, stderr } = await daemon.berth('save', 'localhost/other:3', '-o', daemon.path('saved'));
    assert.equal(code, 1);
    assert.match(stderr, /the directory is not empty; /);
  });

  it('of docker have plain layers, names or none, and links for layers that repeat', async () => {
    const { image, layers } = smallImage('docker');
    const named = write('docker.tar', dockerArchive(image, layers, ['app:1', 'registry.example/app:2']));
    assert.equal(await daemon.ok('load', '-q', named), 'Loaded image: app:1\nLoaded image: registry.example/app:2\n');
    assert.deepEqual(await ids(), [image.id]);
    const [inspected] = JSON.parse(await daemon.ok('inspect', 'app:1')) as { digests: string[] }[];
    assert.deepEqual(inspected?.digests, []); // no registry knows the manifest

    const nameless = smallImage('nameless');
    const archive = gzipSync(dockerArchive(nameless.image, nameless.layers, null));
    assert.equal(
      await daemon.ok('load', '-q', write('nameless.tar.gz', archive)),
      `Loaded image ID: ${nameless.image.id}\n`,
    );

    const twice = smallImage('twice');
    const linked: TarEntry[] = [{ path: 'again/layer.tar', type: 'symlink', link: '../layer1/layer.tar' }];
    const manifest = { Layers: ['layer0/layer.tar', 'again/layer.tar'] };
    const links = dockerArchive(twice.image, twice.layers, ['twice:1'], { files: linked, manifest });
    assert.equal(await daemon.ok('load', '-q', write('links.tar', links)), 'Loaded image: twice:1\n');
  });

  it('are read compressed with zstd, too', async () => {
    const { image, layers } = smallImage('zstd');
    const archive = zstdOf(dockerArchive(image, layers, ['zstd:1']));
    assert.equal(await daemon.ok('load', '-q', write('archive.tar.zst', archive)), 'Loaded image: zstd:1\n');
  });

  it('say names in full, or have a tag that names nothing', async () => {
    const { image } = smallImage('oci');
    const bare = write('bare.tar', ociArchive(image, { 'org.opencontainers.image.ref.name': '1.2' }));
    assert.equal(await daemon.ok('load', '-q', bare), `Loaded image ID: ${image.id}\n`);
    const full = ociArchive(image, { 'org.opencontainers.image.ref.name': 'registry.example/app:1.2' });
    assert.equal(await daemon.ok('load', '-q', write('full.tar', full)), 'Loaded image: registry.example/app:1.2\n');
  });

  it('of images whose layers nobody has any more are not written, and the reason is said', async () => {
    const name = `${registry.host}/gone:1`;
    await daemon.import(smallImage('gone').image, name);
    writeFileSync(daemon.path('before.tar'), 'what was there');
    const { code, stderr } = await daemon.berth('save', name, '-o', daemon.path('before.tar'));
    assert.equal(code, 1);
    assert.match(
      stderr,
      /save .*gone:1: the node has not kept the compressed layer sha256:\S+, and its registry does not give it again: /,
    );
    assert.equal(readFileSync(daemon.path('before.tar'), 'utf8'), 'what was there');
    assert.deepEqual(
      readdirSync(daemon.folder).filter(name => name.startsWith('.before')),
      [],
    );
  });

  describe('that are hostile leave nothing and say why:', () => {
    const { image, layers } = smallImage('hostile');
    const other = smallImage('something else');
    const manifestOf = (manifest: object, files: TarEntry[] = []) =>
      dockerArchive(image, layers, ['hostile:1'], { manifest, files });
    const cases: Record<string, [Buffer, RegExp]> = {
      'an entry above the archive': [
        tar([{ path: '../../out', data: 'x' }]),
        /entry "\.\.\/\.\.\/out": the name leads out of it/,
      ],
      'a hard link to what is not in it': [
        tar([{ path: 'a', type: 'hardlink', link: '../../etc/passwd' }]),
        /entry "a": /,
      ],
      'a config above the archive': [
        manifestOf({ Config: '../../../../etc/passwd' }),
        /"\.\.\/.*passwd": a name leads out of it/,
      ],
      'a config at the root': [manifestOf({ Config: '/etc/passwd' }), /"\/etc\/passwd": a name leads out of it/],
      'a layer above the archive': [
        manifestOf({ Layers: ['layer0/layer.tar', 'x/../../y'] }),
        /a name leads out of it/,
      ],
      'a link to a file of the node': [
        manifestOf({ Config: 'x.json' }, [{ path: 'x.json', type: 'symlink', link: '/etc/passwd' }]),
        /"x\.json": a link leads out of it/,
      ],
      'a link to a directory of the node': [
        manifestOf({ Config: 'etc/passwd' }, [{ path: 'etc', type: 'symlink', link: '/etc' }]),
        /"etc\/passwd": a link leads out of it/,
      ],
      'a link to itself': [
        manifestOf({ Config: 'x' }, [{ path: 'x', type: 'symlink', link: 'x' }]),
        /its links go in circles/,
      ],
      'a device': [
        manifestOf({ Config: 'zero' }, [{ path: 'zero', type: 'char', major: 1, minor: 5 }]),
        /"zero": it is not a regular file/,
      ],
      'a FIFO': [manifestOf({ Config: 'pipe' }, [{ path: 'pipe', type: 'fifo' }]), /"pipe": it is not a regular file/],
      'a layer that is missing': [manifestOf({ Layers: ['layer0/layer.tar', 'none'] }), /has no "none"; /],
      'fewer layers than diff ids': [
        manifestOf({ Layers: ['layer0/layer.tar'] }),
        /names 2 layers, and manifest\.json 1/,
      ],
      'layers that are not those of the config': [
        dockerArchive(image, other.layers, ['hostile:1']),
        /digest .*; the archive is damaged or was changed/,
      ],
      'a name that is none': [dockerArchive(image, layers, ['../NOT:a:name']), /is not an image reference/],
      'a name with a digest': [dockerArchive(image, layers, [`app@${image.id}`]), /which is no tag/],
      'a config that is none': [manifestOf({ Config: 'layer0/layer.tar' }), /is malformed: it is not JSON/],
      'no manifest': [tar([{ path: 'a', data: 'a' }]), /neither index\.json nor manifest\.json.*berth image import/],
      'an archive that is cut off': [dockerArchive(image, layers, ['hostile:1']).subarray(0, 2000), /it ends early/],
      'a header as long as the memory': [
        Buffer.concat([header({ path: 'pax' }, 'x', 8 * 1024 ** 3 - 1), Buffer.alloc(4096)]),
        /a header in it is too long/,
      ],
      nothing: [Buffer.alloc(0), /is empty; /],
    };
    for (const [what, [bytes, reason]] of Object.entries(cases)) {
      it(what, async () => {
        const { code, stdout, stderr } = await daemon.berth('load', '-q', write('hostile.tar', bytes));
        assert.equal(code, 1);
        assert.equal(stdout, '');
        assert.match(stderr, reason);
        assert.doesNotMatch(stderr, /root:x:0/);
        assert.deepEqual(await ids(), []);
        assert.ok(!readdirSync(daemon.folder).includes('out'));
      });
    }

    it('a directory of the node with a link out of it', async () => {
      const dir = daemon.path('linked');
      mkdirSync(dir);
      symlinkSync('/etc/passwd', `${dir}/index.json`);
      const { code, stderr } = await daemon.berth('load', dir);
      assert.equal(code, 1);
      assert.match(stderr, /"index\.json": a link leads out of it/);
    });
  });

  it('of a file system become an image that runs, and that can be saved without a registry', async () => {
    const files: TarEntry[] = [
      { path: 'bin/', type: 'dir' },
      { path: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 },
      { path: 'bin/sh', type: 'symlink', link: 'busybox' },
    ];
    const archive = write('rootfs.tar.gz', gzipSync(tar(files)));
    const changes = ['ENTRYPOINT ["/bin/busybox","echo"]', 'CMD ["made"]', 'ENV A=b', 'EXPOSE 80', 'LABEL who=test'];
    const id = await daemon.ok(
      'image',
      'import',
      '-q',
      ...changes.flatMap(line => ['-c', line]),
      '-m',
      'by hand',
      archive,
      'made:1',
    );
    assert.deepEqual(await ids(), [id.trim()]);
    assert.equal(await daemon.ok('run', '--rm', 'made:1'), 'made\n');
    const [made] = JSON.parse(await daemon.ok('image', 'inspect', 'made:1')) as { config: Record<string, unknown> }[];
    assert.deepEqual(made?.config['exposedPorts'], ['80/tcp']);
    assert.deepEqual(made.config['labels'], { who: 'test' });
    await daemon.ok('save', 'made:1', '-o', daemon.path('made.tar'));
    assert.ok(statSync(daemon.path('made.tar')).size > statSync(archive).size);
    await daemon.ok('rmi', 'made:1');
    await daemon.ok('load', '-q', daemon.path('made.tar'));
    assert.deepEqual(await ids(), [id.trim()]);
    const wrong = await daemon.berth('image', 'import', '-c', 'RUN make', archive);
    assert.match(wrong.stderr, /"RUN" is not among CMD, /);
  });
});
