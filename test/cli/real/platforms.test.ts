import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dockerArchive, ociArchive } from '../../support/archives';
import { CriClient } from '../../support/cri-client';
import { buildImage, buildIndex, busyboxImage, tar, type Blob, type BuiltImage } from '../../support/image-builder';
import { pushImage, pushManifest, startRegistry, type Registry } from '../../support/registry';
import { refused } from '../../support/node';
import { writeFiles } from './context';
import { RealDaemon } from './harness';

const own = process.arch === 'x64' ? 'amd64' : process.arch;
/** One that no machine of the tests is. */
const other = 'ppc64le';

interface Inspected {
  Id: string;
  Architecture: string;
  Os: string;
  RepoTags: string[];
}

interface Layout {
  manifests: { mediaType: string; digest: string; platform?: { architecture: string } }[];
}

/** Whether the machine of the tests emulates the platform that is none of its own. */
function hasHandler(): boolean {
  return (
    existsSync('/proc/sys/fs/binfmt_misc') && readdirSync('/proc/sys/fs/binfmt_misc').some(name => name.includes(other))
  );
}

describe('images for other platforms, with a real daemon', function () {
  this.timeout(120_000);
  let daemon: RealDaemon;
  let registry: Registry;
  let cri: CriClient;
  const mine = busyboxImage();
  const foreign = buildImage({
    layers: [[{ path: 'bin/sh', data: 'not for here', mode: 0o755 }]],
    architecture: other,
  });
  const arm = buildImage({
    layers: [[{ path: 'arm', data: 'v6' }]],
    architecture: 'arm',
    configDocument: { variant: 'v6' },
  });
  const plainLayers = [tar([{ path: 'plain', data: 'x' }])];
  const plain = buildImage({ layers: plainLayers, architecture: other });
  const index = buildIndex([
    { image: mine, platform: { os: 'linux', architecture: own } },
    { image: foreign, platform: { os: 'linux', architecture: other } },
    { image: arm, platform: { os: 'linux', architecture: 'arm', variant: 'v6' } },
  ]);

  before(async () => {
    registry = await startRegistry();
    daemon = await RealDaemon.start();
    cri = new CriClient(daemon.criSocket);
    await pushAll('app', '1', index, mine, foreign, arm);
  });
  after(async () => {
    cri.close();
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });
  afterEach(async () => {
    const ids = await daemon.ok('images', '-q', '--no-trunc');
    for (const id of ids.split('\n').filter(line => line !== '')) await daemon.ok('rmi', '-f', id);
  });

  async function pushAll(repository: string, tag: string, top: Blob, ...images: BuiltImage[]): Promise<void> {
    for (const image of images) await pushImage(registry, repository, image.manifest.digest, image);
    await pushManifest(registry, repository, tag, top);
  }
  const name = () => `${registry.host}/app:1`;
  const pull = (platform: string) => daemon.ok('pull', '-q', '--platform', platform, name());
  const rows = async () =>
    (await daemon.ok('images', '--format', '{{.Repository}}:{{.Tag}} {{.Platform}}\n'))
      .split('\n')
      .filter(line => line !== '')
      .sort();
  const inspect = async (image: string) => {
    const [found] = JSON.parse(await daemon.ok('image', 'inspect', image)) as Inspected[];
    assert.ok(found);
    return found;
  };
  const indexOf = async (repository: string, tag: string) => {
    const answer = await fetch(`${registry.url}/v2/${repository}/manifests/${tag}`, {
      headers: { accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' },
    });
    return (await answer.json()) as { manifests?: { digest: string; platform: object }[] };
  };
  const build = async (dockerfile: string, ...args: string[]) => {
    writeFiles(daemon.path('context'), { Dockerfile: dockerfile, a: 'A' });
    return daemon.berth('build', ...args, daemon.path('context'));
  };
  const status = async (image: string) => (await cri.call('ImageStatus', { image: { image } })).image;

  it('are pulled by --platform, listed and inspected, beside the image for the node', async () => {
    await pull(`linux/${other}`);
    assert.deepEqual(await rows(), [`${name()} linux/${other}`]);
    const { Id, Architecture, Os } = await inspect(name());
    assert.deepEqual({ Id, Architecture, Os }, { Id: foreign.id, Architecture: other, Os: 'linux' });
    await pull('linux/arm/v7');
    await daemon.ok('pull', '-q', name());
    assert.deepEqual(
      await rows(),
      [`${name()} linux/${own}`, `${name()} linux/arm/v6`, `${name()} linux/${other}`].sort(),
    );
    assert.equal((await inspect(name())).Id, mine.id); // the node's where there is one
    assert.match(await daemon.ok('images'), /SIZE +PLATFORM\n/);
    assert.equal(await daemon.ok('run', '--rm', name(), 'echo', 'mine'), 'mine\n');

    await daemon.ok('tag', name(), 'localhost/all:1');
    assert.equal((await rows()).length, 6);
    assert.equal(await daemon.ok('rmi', name()), `Untagged: ${name()}\n`);
    assert.match(await daemon.ok('rmi', 'localhost/all:1'), /(Deleted: .*\n){3}$/);
    assert.deepEqual(await rows(), []);
  });

  it('that an index has not are an error that lists those that it has', async () => {
    const { code, stderr } = await daemon.berth('pull', '--platform', 'linux/s390x', name());
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`is not there for linux/s390x: it offers linux/${own}, linux/${other}, linux/arm/v6\n`),
    );
    const none = await daemon.berth('pull', '--platform', 'linux/', name());
    assert.match(none.stderr, /"linux\/" is not a platform; platforms look like/);
    assert.deepEqual(await rows(), []);
  });

  it('lose the name to what the name means when it is pulled again', async () => {
    await pull(`linux/${other}`);
    const newer = buildImage({ layers: [], config: { Env: ['A=newer'] }, architecture: own });
    await pushAll('moving', '1', index, mine, foreign, arm);
    const moving = `${registry.host}/moving:1`;
    await daemon.ok('pull', '-q', '--platform', other, moving);
    await pushImage(registry, 'moving', '1', newer);
    await daemon.ok('pull', '-q', moving);
    assert.deepEqual(
      (await rows()).filter(row => row.startsWith(moving)),
      [`${moving} linux/${own}`],
    );
  });

  const cross = [
    `ARG BASE`,
    'FROM --platform=$BUILDPLATFORM $BASE AS compiler',
    'ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDARCH',
    'RUN echo "$TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT $BUILDPLATFORM $BUILDARCH $(uname -s)" > /made',
    'FROM $BASE',
    'COPY --from=compiler /made /made',
    'WORKDIR /w',
    'CMD ["/made"]',
  ].join('\n');

  it('are built by stages of the node’s own platform', async () => {
    const args = ['--platform', `linux/${other}`, '--build-arg', `BASE=${name()}`, '-t', 'localhost/cross:1'];
    const ended = await build(cross, ...args);
    assert.equal(ended.code, 0, ended.stderr);
    assert.equal((await inspect('localhost/cross:1')).Architecture, other);
    const tarball = daemon.path('files.tar');
    const files = await build(cross, ...args.slice(0, 4), '--output', `type=tar,dest=${tarball}`);
    assert.match(files.stderr, /CACHED/);
    const made = execFileSync('tar', ['-xOf', tarball, 'made'], { encoding: 'utf8' });
    assert.equal(made, `linux/${other} linux ${other}  linux/${own} ${own} Linux\n`);
    assert.equal(execFileSync('tar', ['-xOf', tarball, 'bin/sh'], { encoding: 'utf8' }), 'not for here');
  });

  it('are built several at a time, pushed and pulled as an index', async () => {
    const repository = `${registry.host}/built`;
    const platforms = `linux/${own},linux/${other},linux/arm/v7`;
    const both = await build(cross, '--platform', platforms, '--build-arg', `BASE=${name()}`, '-t', `${repository}:1`);
    assert.equal(both.code, 0, both.stderr);
    assert.match(both.stderr, new RegExp(`\\[linux/${other} compiler 1/3\\] FROM`));
    assert.deepEqual(
      (await rows()).filter(row => row.startsWith(repository)),
      [`${repository}:1 linux/${own}`, `${repository}:1 linux/arm/v6`, `${repository}:1 linux/${other}`].sort(),
    );
    assert.equal((await daemon.ok('push', '-a', repository)).match(/^1: digest: sha256:/gm)?.length, 1);
    const pushed = await indexOf('built', '1');
    assert.deepEqual(
      pushed.manifests?.map(({ platform }) => platform),
      [
        { os: 'linux', architecture: own },
        { os: 'linux', architecture: other },
        { os: 'linux', architecture: 'arm', variant: 'v6' },
      ],
    );
    // Into another repository from what is here, without a byte that the registry has.
    await daemon.ok('tag', `${repository}:1`, `${registry.host}/again:2`);
    const again = await daemon.ok('push', `${registry.host}/again:2`);
    assert.match(again, /Mounted from/);
    assert.doesNotMatch(again, /Pushed/);
    assert.deepEqual(await indexOf('again', '2'), pushed);

    for (const image of [`${repository}:1`, `${registry.host}/again:2`]) await daemon.ok('rmi', image);
    await daemon.ok('pull', '-q', '--platform', other, `${registry.host}/again:2`);
    assert.equal((await inspect(`${registry.host}/again:2`)).Architecture, other);
    await daemon.ok('pull', '-q', `${registry.host}/again:2`);
    assert.equal((await inspect(`${registry.host}/again:2`)).Architecture, own);
    const part = await daemon.berth('push', `${registry.host}/again:2`);
    assert.equal(
      part.stderr,
      `Only linux/${own} is pushed, and not the image for another platform: the rest of their index is not here\n`,
    );
    assert.equal((await indexOf('again', '2')).manifests, undefined);
    const alone = await daemon.ok('push', '--platform', other, `${registry.host}/again:2`);
    const [, digest] = /digest: (\S+)/.exec(alone) ?? [];
    assert.equal(digest, pushed.manifests?.[1]?.digest);
    const none = await daemon.berth('push', '--platform', 'linux/s390x', `${registry.host}/again:2`);
    assert.match(none.stderr, /is not there for linux\/s390x: it offers linux\/\w+, linux\/\w+\n$/);
  });

  it('are written as an archive with their index', async () => {
    const layout = daemon.path('layout');
    const archive = daemon.path('multi.tar');
    const dockerfile = 'FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n';
    const platforms = ['--platform', `linux/${own}`, '--platform', `linux/${other}`];
    const ended = await build(dockerfile, ...platforms, '-t', 'localhost/m:1', '-o', `type=oci,dest=${archive}`);
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual(await rows(), []);
    mkdirSync(layout);
    execFileSync('tar', ['-xf', archive, '-C', layout]);
    const read = (file: string) => JSON.parse(readFileSync(join(layout, file), 'utf8')) as Layout;
    const [top, ...more] = read('index.json').manifests;
    assert.deepEqual([top?.mediaType, more.length], ['application/vnd.oci.image.index.v1+json', 0]);
    const blob = (digest = '') => `blobs/${digest.replace(':', '/')}`;
    const { manifests } = read(blob(top?.digest));
    assert.deepEqual(
      manifests.map(({ platform }) => platform?.architecture),
      [own, other],
    );
    for (const { digest } of manifests) readFileSync(join(layout, blob(digest)));
    assert.equal(
      await daemon.ok('load', '-q', '-i', archive),
      `Loaded image: localhost/m:1\nLoaded image: localhost/m:1 (linux/${other})\n`,
    );
    assert.equal((await inspect('localhost/m:1')).Architecture, own);
    assert.equal((await rows()).length, 2);
    const saved = daemon.path('saved');
    await daemon.ok('save', '-q', '-o', daemon.path('saved.tar'), 'localhost/m:1');
    mkdirSync(saved);
    execFileSync('tar', ['-xf', daemon.path('saved.tar'), '-C', saved]);
    assert.deepEqual(readFileSync(join(saved, 'index.json')), readFileSync(join(layout, 'index.json')));
    const one = ['save', '-q', '-o', daemon.path('one.tar'), '--platform'];
    await daemon.ok(...one, `linux/${other}`, 'localhost/m:1');
    const listed = execFileSync('tar', ['-xOf', daemon.path('one.tar'), 'index.json']).toString();
    assert.deepEqual(
      (JSON.parse(listed) as Layout).manifests.map(({ platform }) => platform?.architecture),
      [other],
    );
    const none = await daemon.berth(...one, 'linux/s390x', 'localhost/m:1');
    assert.match(none.stderr, /image localhost\/m:1 is not there for linux\/s390x: it offers linux\/\w+, linux\/\w+\n/);
    const files = await build(dockerfile, ...platforms, '-o', 'type=tar,dest=-');
    assert.match(
      files.stderr,
      /an output of files is of one platform, and linux\/\w+ and linux\/\w+ are asked for; build/,
    );
  });

  it('are taken from an archive that has no other, and not said to be in no registry', async () => {
    const [layout, docker] = [daemon.path('alone.tar'), daemon.path('docker.tar')];
    writeFileSync(layout, ociArchive(foreign, { 'io.containerd.image.name': 'localhost/alone:1' }));
    writeFileSync(docker, dockerArchive(plain, plainLayers, ['localhost/plain:1']));
    for (const [archive, of] of [
      [layout, 'alone'],
      [docker, 'plain'],
    ] as const)
      assert.equal(await daemon.ok('load', '-q', '-i', archive), `Loaded image: localhost/${of}:1 (linux/${other})\n`);
    const missing = await daemon.berth('run', '--rm', '--platform', own, 'localhost/alone:1');
    assert.match(
      missing.stderr,
      new RegExp(
        `image localhost/alone:1 is here for linux/${other} alone, and for linux/${own}: pull localhost/alone:1: `,
      ),
    );
  });

  it('are run where an emulator is registered, and are refused before they start where none is', async function () {
    if (hasHandler()) this.skip();
    const refusal = new RegExp(
      `^berth: image ${name()} is for linux/${other}, and this node is linux/${own}, which has no emulator for it; register qemu-${other} with the flag F in /proc/sys/fs/binfmt_misc, as .*\\n$`,
      'm',
    );
    for (const args of [['--platform', `linux/${other}`, '--quiet'], ['--pull', 'never', '--platform', other], []]) {
      const { code, stdout, stderr } = await daemon.berth('run', '--rm', ...args, name(), 'echo', 'hello');
      assert.match(stderr, refusal);
      assert.deepEqual([code, stdout, await daemon.ok('ps', '-aq')], [125, '', '']);
    }
    assert.equal(await daemon.ok('run', '--rm', '--quiet', '--platform', own, name(), 'echo', 'mine'), 'mine\n');
    const byId = await daemon.berth('run', foreign.id);
    assert.equal(byId.code, 125);
    assert.match(byId.stderr, new RegExp(`is for linux/${other}, and this node`));
    const wrong = await daemon.berth('run', '--platform', own, foreign.id);
    assert.match(wrong.stderr, /is not for this node: it offers/);
    const never = await daemon.berth('run', '--pull', 'never', '--platform', 'linux/s390x', name());
    assert.match(never.stderr, new RegExp(`is not there for linux/s390x: it offers linux/${own}, linux/${other}\n`));
  });

  it('say which line of a Dockerfile needs what the node has not', async function () {
    if (hasHandler()) this.skip();
    const ran = await build(`FROM ${name()}\nCOPY a /a\nRUN echo hello\n`, '--platform', `linux/${other}`);
    assert.equal(ran.code, 1);
    assert.match(
      ran.stderr,
      new RegExp(
        `Dockerfile:3: RUN echo hello: the stage is for linux/${other}, and this node is linux/${own}, which has no emulator for it; register qemu-${other} with the flag F in /proc`,
      ),
    );
    const none = await build(`FROM ${name()}\n`, '--platform', 'linux/s390x');
    assert.match(none.stderr, /Dockerfile:1: FROM .*is not there for linux\/s390x: it offers linux/);
    const nonsense = await build(`FROM --platform=linux/ ${name()}\n`);
    assert.match(nonsense.stderr, /Dockerfile:1: FROM .*"linux\/" is not a platform; platforms look like/);
    const twice = await build('FROM --platform=$BUILDPLATFORM scratch\nCOPY a /\n', '--platform', `${own},${other}`);
    assert.match(twice.stderr, /an index has one image for each platform, and two are for linux/);
  });

  it('take the name from an older one, and from the image for the node never', async () => {
    const moving = `${registry.host}/moving:2`;
    await pushAll('moving', '2', index, mine, foreign, arm);
    await daemon.ok('pull', '-q', moving);
    await daemon.ok('pull', '-q', '--platform', other, moving);
    const newer = buildImage({ layers: [], config: { Env: ['A=newer'] }, architecture: other });
    await pushImage(registry, 'moving', '2', newer);
    await daemon.ok('pull', '-q', '--platform', other, moving);
    assert.equal((await status(moving))?.id, mine.id);
    assert.equal((await inspect(newer.id)).RepoTags.join(), moving);
    assert.deepEqual((await inspect(foreign.id)).RepoTags, []);
  });

  it('are none where an image says a variant alone that the node may not have', async () => {
    const variant = busyboxImage({ configDocument: { variant: 'v99' } });
    await pushImage(registry, 'variant', '1', variant);
    const name = `${registry.host}/variant:1`;
    await cri.call('PullImage', { image: { image: name } });
    assert.deepEqual((await status(name))?.repoTags, [name]);
    assert.deepEqual(await rows(), [`${name} linux/${own}`]);
    const { code, stderr } = await daemon.berthWith(
      `FROM ${name}\nRUN echo built > /built`,
      'build',
      '-t',
      'built',
      '-',
    );
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /warning/);
    assert.ok(await status('built'));
  });

  it('have no name for the kubelet, which so pulls the node’s before it runs one', async () => {
    await pull(`linux/${other}`);
    assert.equal(await status(name()), null);
    assert.equal(await status(`${registry.host}/app@${index.digest}`), null);
    const { images } = await cri.call('ListImages');
    assert.deepEqual(
      images.map(({ id, repoTags, repoDigests }) => ({ id, repoTags, repoDigests })),
      [{ id: foreign.id, repoTags: [], repoDigests: [] }],
    );
    await cri.call('RemoveImage', { image: { image: name() } }); // of that name it has none
    assert.equal((await inspect(name())).Id, foreign.id);

    const { imageRef } = await cri.call('PullImage', { image: { image: name() } });
    assert.equal(imageRef, mine.id);
    await pull(`linux/${other}`); // a person's pull changes nothing for the kubelet
    assert.equal((await status(name()))?.id, mine.id);
    assert.deepEqual((await status(name()))?.repoTags, [name()]);
    assert.deepEqual(await rows(), [`${name()} linux/${own}`, `${name()} linux/${other}`]);
    await cri.call('RemoveImage', { image: { image: name() } });
    assert.deepEqual(await rows(), [`${name()} linux/${other}`]);
  });

  it('are not run by the kubelet’s interface, whatever they are called', async () => {
    await pull(`linux/${other}`);
    const config = { metadata: { name: 'p', uid: 'u', namespace: 'n', attempt: 0 }, linux: {} };
    const { podSandboxId } = await cri.call('RunPodSandbox', { config });
    const create = (image: string, volume?: string) =>
      cri.call('CreateContainer', {
        podSandboxId,
        config: {
          ...{ metadata: { name: 'c' }, image: { image }, command: ['true'], linux: {} },
          mounts: volume === undefined ? [] : [{ containerPath: '/v', image: { image: volume }, readonly: true }],
        },
        sandboxConfig: config,
      });
    try {
      await refused(create(name()), 'NOT_FOUND');
      await pushImage(registry, 'only', '1', mine);
      const only = `${registry.host}/only:1`;
      await cri.call('PullImage', { image: { image: only } });
      await refused(create(only, name()), 'NOT_FOUND', `image volume ${name()} is not on this node`);
      await refused(create(foreign.id), 'FAILED_PRECONDITION', `offers linux/${other}, and this node is linux/${own}`);
    } finally {
      await cri.call('StopPodSandbox', { podSandboxId });
      await cri.call('RemovePodSandbox', { podSandboxId });
    }
  });
});
