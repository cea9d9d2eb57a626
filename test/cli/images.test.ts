import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { status } from '@grpc/grpc-js';
import {
  LayerProgress_Phase as Phase,
  type BerthServer,
  type Image,
  type PullDone,
} from '../../src/cri/generated/berth/v1/berth';
import { berth, startBerth } from './berth';
import { FakeDaemon, failure } from './fake-daemon';

const digest = `sha256:${'ab'.repeat(32)}`;

const done: PullDone = {
  imageId: `sha256:${'cd'.repeat(32)}`,
  digest,
  reference: 'docker.io/library/alpine:3.22',
  changed: true,
};

const pull: BerthServer['pull'] = call => {
  const layer = { digest: `sha256:${'12'.repeat(32)}`, totalBytes: 3_600_000n };
  const old = { digest: `sha256:${'34'.repeat(32)}`, totalBytes: 0n, doneBytes: 0n, phase: Phase.PRESENT };
  call.write({ progress: { layers: [old, { ...layer, phase: Phase.WAITING, doneBytes: 0n }] } });
  call.write({ progress: { layers: [{ ...layer, phase: Phase.DOWNLOADING, doneBytes: 1_000_000n }] } });
  call.write({ progress: { layers: [{ ...layer, phase: Phase.DOWNLOADING, doneBytes: 2_000_000n }] } });
  call.write({ progress: { layers: [{ ...layer, phase: Phase.DONE, doneBytes: 3_600_000n }] } });
  call.write({ done });
  call.end();
};

describe('berth pull', () => {
  it('prints a line for each change of phase where there is no terminal', async () => {
    await using daemon = await FakeDaemon.start({ pull });
    const ended = await berth(daemon, ['pull', 'alpine:3.22']);
    assert.deepEqual(ended.stdout.split('\n'), [
      '343434343434: Already exists',
      '121212121212: Downloading',
      '121212121212: Pull complete',
      `Digest: ${digest}`,
      'Status: Downloaded newer image for alpine:3.22',
      'docker.io/library/alpine:3.22',
      '',
    ]);
    assert.equal(ended.stderr, '');
    assert.equal(ended.code, 0);
  });

  it('-q prints the reference alone', async () => {
    await using daemon = await FakeDaemon.start({ pull });
    const ended = await berth(daemon, ['pull', '-q', 'alpine:3.22']);
    assert.deepEqual(ended, { code: 0, stdout: `${done.reference}\n`, stderr: '' });
  });

  it('asks for the platform that the environment names, unless it is told another', async () => {
    const asked: string[] = [];
    await using daemon = await FakeDaemon.start({
      pull: call => {
        asked.push(call.request.platform);
        call.write({ done });
        call.end();
      },
    });
    for (const args of [[], ['--platform', 'linux/s390x']]) {
      const running = startBerth(daemon, ['pull', '-q', ...args, 'app:1'], { DOCKER_DEFAULT_PLATFORM: 'linux/arm64' });
      running.child.stdin.end();
      assert.equal((await running.ended).code, 0);
    }
    assert.deepEqual(asked, ['linux/arm64', 'linux/s390x']);
  });

  it('says in one line what a registry answered, even when that had several and colours', async () => {
    const details = 'pull app:1: registry.example answered 500:\n \x1b[31mdown\x1b[0m';
    await using daemon = await FakeDaemon.start({
      pull: call => void call.emit('error', failure(status.UNAVAILABLE, details)),
    });
    const { code, stderr } = await berth(daemon, ['pull', 'app:1']);
    assert.equal(code, 1);
    assert.equal(stderr, 'berth: pull app:1: registry.example answered 500:; \\u001b[31mdown\\u001b[0m\n');
  });
});

describe('berth import', () => {
  it('sends an absolute path and prints the id', async () => {
    let request: unknown;
    await using daemon = await FakeDaemon.start({
      import: call => {
        request = call.request;
        call.write({ done });
        call.end();
      },
    });
    const ended = await berth(daemon, ['import', './layout', 'app:1']);
    assert.deepEqual(ended, { code: 0, stdout: `${done.imageId}\n`, stderr: '' });
    assert.deepEqual(request, { path: resolve('./layout'), reference: 'app:1' });
  });
});

describe('berth images', () => {
  const alpine: Image = {
    id: done.imageId,
    repoTags: ['docker.io/library/alpine:3.22', 'registry.example:5000/base:1'],
    repoDigests: [],
    sizeBytes: 8_316_928n,
    createdAtNs: BigInt(Date.now() - 20 * 86_400_000) * 1_000_000n,
    platform: 'linux/amd64',
    isForeign: false,
  };
  const nameless: Image = { ...alpine, id: digest, repoTags: [], sizeBytes: 128_000_000n, createdAtNs: 0n };
  const listImages: BerthServer['listImages'] = (_, reply) => reply(null, { images: [alpine, nameless] });

  it("has docker's columns, and a row a name", async () => {
    await using daemon = await FakeDaemon.start({ listImages });
    const { stdout } = await berth(daemon, ['images']);
    assert.deepEqual(stdout.split('\n'), [
      'REPOSITORY                   TAG       IMAGE ID       CREATED       SIZE',
      'alpine                       3.22      cdcdcdcdcdcd   2 weeks ago   8.32MB',
      'registry.example:5000/base   1         cdcdcdcdcdcd   2 weeks ago   8.32MB',
      '<none>                       <none>    abababababab   N/A           128MB',
      '',
    ]);
  });

  it('has another column where images of other platforms are among them', async () => {
    const foreign = { ...nameless, platform: 'linux/arm/v7', isForeign: true };
    await using daemon = await FakeDaemon.start({
      listImages: (_, reply) => reply(null, { images: [{ ...alpine, repoTags: ['localhost/a:1'] }, foreign] }),
    });
    const { stdout } = await berth(daemon, ['images']);
    assert.deepEqual(stdout.split('\n'), [
      'REPOSITORY    TAG       IMAGE ID       CREATED       SIZE      PLATFORM',
      'localhost/a   1         cdcdcdcdcdcd   2 weeks ago   8.32MB    linux/amd64',
      '<none>        <none>    abababababab   N/A           128MB     linux/arm/v7',
      '',
    ]);
    assert.equal((await berth(daemon, ['images', '--format', '{{.Platform}}'])).stdout, 'linux/amd64\nlinux/arm/v7\n');
  });

  it('filters by name; -q has each id once', async () => {
    await using daemon = await FakeDaemon.start({ listImages });
    const named = await berth(daemon, ['images', 'alpine']);
    assert.equal(named.stdout.trim().split('\n').length, 2);
    assert.equal((await berth(daemon, ['images', 'alpine:2', '-q'])).stdout, '');
    assert.equal((await berth(daemon, ['images', '-q'])).stdout, 'cdcdcdcdcdcd\nabababababab\n');
  });
});

describe('berth images, filtered and formatted', () => {
  const image = (name: string, age: number): Image => ({
    id: `sha256:${name.repeat(64)}`,
    repoTags: [`registry.example/${name}/app:1`],
    repoDigests: [`registry.example/${name}/app@${digest}`],
    sizeBytes: 1000n,
    createdAtNs: BigInt(age),
    platform: 'linux/amd64',
    isForeign: false,
  });
  const all = [image('c', 30), image('b', 20), { ...image('a', 10), repoTags: [] }];
  let labels: string[][];
  const handlers: Partial<BerthServer> = {
    listImages: (call, reply) => {
      labels.push(call.request.labels);
      reply(null, { images: all });
    },
    inspectImage: (_, reply) => reply(null, { json: '{"createdAtNs": "20"}' }),
  };
  beforeEach(() => void (labels = []));

  const cases: Record<string, [string[], string]> = {
    'dangling=true': [['-f', 'dangling=true'], 'a'],
    'dangling=false': [['-f', 'dangling=false'], 'c b'],
    'reference, which may have several': [['-f', 'reference=registry.example/*/app', '-f', 'reference=x'], 'c b a'],
    'reference with a tag': [['-f', 'reference=registry.example/b/app:?'], 'b'],
    'reference that stops at a slash': [['-f', 'reference=registry.example/*:1'], ''],
    before: [['-f', 'before=b'], 'a'],
    since: [['-f', 'since=b'], 'c'],
  };
  for (const [what, [args, names]] of Object.entries(cases)) {
    it(`by ${what}`, async () => {
      await using daemon = await FakeDaemon.start(handlers);
      const { stdout, stderr } = await berth(daemon, ['image', 'ls', '-q', '--no-trunc', ...args]);
      assert.equal(stderr, '');
      assert.equal([...stdout.matchAll(/sha256:(.)/g)].map(([, name]) => name).join(' '), names);
    });
  }

  it('by label, which the daemon compares', async () => {
    await using daemon = await FakeDaemon.start(handlers);
    await berth(daemon, ['images', '-f', 'label=a=b', '-f', 'label=c']);
    assert.deepEqual(labels, [['a=b', 'c']]);
  });

  it('by nothing else', async () => {
    await using daemon = await FakeDaemon.start(handlers);
    const { stderr, code } = await berth(daemon, ['images', '-f', 'colour=red']);
    assert.deepEqual([code, /colour=red is not known; filters look like dangling=true/.test(stderr)], [1, true]);
  });

  it('with digests, and by a template', async () => {
    await using daemon = await FakeDaemon.start(handlers);
    const { stdout } = await berth(daemon, ['images', '--digests']);
    assert.match(
      stdout,
      new RegExp(`^REPOSITORY +TAG +DIGEST +IMAGE ID.*\nregistry.example/c/app +1 +${digest} +c{12} `),
    );
    const format = '{{.Repository}}:{{.Tag}}\\t{{json .Size}}';
    assert.equal(
      (await berth(daemon, ['images', '--format', format, 'registry.example/b/app'])).stdout,
      'registry.example/b/app:1\t"1kB"\n',
    );
    const wrong = await berth(daemon, ['images', '--format', '{{.Colour}}']);
    assert.match(wrong.stderr, /there is no \.Colour; fields are \.ID /);
  });
});

describe('berth tag', () => {
  it('hands both names on', async () => {
    let request: unknown;
    await using daemon = await FakeDaemon.start({
      tagImage: (call, reply) => {
        request = call.request;
        reply(null, { reference: 'docker.io/library/b:2' });
      },
    });
    assert.deepEqual(await berth(daemon, ['tag', 'a:1', 'b:2']), { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(request, { image: 'a:1', reference: 'b:2' });
  });
});

describe('berth rmi', () => {
  it('says what it removed', async () => {
    await using daemon = await FakeDaemon.start({
      removeImage: (call, reply) => {
        const { image, force } = call.request;
        if (image === 'used' && !force)
          return reply(failure(status.FAILED_PRECONDITION, 'image used is in use by web'));
        reply(null, { untagged: ['docker.io/library/alpine:3.22'], deleted: [digest] });
      },
    });
    const ended = await berth(daemon, ['rmi', 'alpine:3.22', 'used']);
    assert.deepEqual(ended, {
      code: 1,
      stdout: `Untagged: alpine:3.22\nDeleted: ${digest}\n`,
      stderr: 'berth: image used is in use by web\n',
    });
    assert.equal((await berth(daemon, ['rmi', '-f', 'used'])).code, 0);
  });
});
