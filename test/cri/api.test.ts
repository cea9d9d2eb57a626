import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { allRpcs, type CriClient } from '../support/cri-client';
import { buildImage, busyboxImage } from '../support/image-builder';
import { snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';
import { pushImage } from '../support/registry';

describe('the CRI’s answers', function () {
  this.timeout(60_000);
  const node = useNode();
  const ids = async (filter: object) =>
    (await node().client.call('ListContainers', { filter })).containers.map(c => c.id).sort();
  const pods = async (filter: object) =>
    (await node().client.call('ListPodSandbox', { filter })).items.map(p => p.id).sort();

  it('name the runtime, its readiness and its cgroup driver', async () => {
    const version = await node().client.call('Version', { version: 'v1' });
    assert.equal(version.runtimeName, 'berth');
    assert.equal(version.runtimeApiVersion, 'v1');
    assert.match(version.runtimeVersion, /^\d+\.\d+\.\d+/);
    const { status } = await node().client.call('Status');
    assert.deepEqual(
      status.conditions.map(({ type }) => type),
      ['RuntimeReady', 'NetworkReady'],
    );
    assert.equal(status.conditions[0]?.status, true);
    assert.match(status.conditions[1]?.message ?? '', /\w+ \w+/);
    assert.equal((await node().client.call('RuntimeConfig')).linux.cgroupDriver, 'CGROUPFS');
  });

  it('list containers by id, state, labels and pod, and by all together', async () => {
    const [podA, podB] = [await node().pod(), await node().pod()];
    const a = await node().start(podA, { labels: { app: 'x', tier: '1' } });
    const b = await node().create(podA, { labels: { app: 'x', tier: '2' } });
    const c = await node().start(podB, { labels: { app: 'y' } });
    await node().client.call('StopContainer', { containerId: c, timeout: 0 });
    const sorted = (...list: string[]) => list.sort();
    assert.deepEqual(await ids({}), sorted(a, b, c));
    assert.deepEqual(await ids({ id: a }), [a]);
    assert.deepEqual(await ids({ id: a.slice(0, 13) }), [a]);
    assert.deepEqual(await ids({ id: 'f'.repeat(64) }), []);
    assert.deepEqual(await ids({ state: { state: 'CONTAINER_RUNNING' } }), [a]);
    assert.deepEqual(await ids({ state: { state: 'CONTAINER_CREATED' } }), [b]);
    assert.deepEqual(await ids({ state: { state: 'CONTAINER_EXITED' } }), [c]);
    assert.deepEqual(await ids({ labelSelector: { app: 'x' } }), sorted(a, b));
    assert.deepEqual(await ids({ labelSelector: { app: 'x', tier: '2' } }), [b]);
    assert.deepEqual(await ids({ labelSelector: { app: 'x', nope: '' } }), []);
    assert.deepEqual(await ids({ podSandboxId: podB }), [c]);
    assert.deepEqual(
      await ids({ podSandboxId: podA, state: { state: 'CONTAINER_RUNNING' }, labelSelector: { tier: '1' } }),
      [a],
    );
    assert.deepEqual(await ids({ podSandboxId: podB, id: a }), []);
  });

  it('list pods by id, state and labels', async () => {
    const [a, b] = [await node().pod({ labels: { app: 'x' } }), await node().pod({ labels: { app: 'y' } })];
    await node().client.call('StopPodSandbox', { podSandboxId: b });
    assert.deepEqual(await pods({}), [a, b].sort());
    assert.deepEqual(await pods({ id: a.slice(0, 13) }), [a]);
    assert.deepEqual(await pods({ state: { state: 'SANDBOX_READY' } }), [a]);
    assert.deepEqual(await pods({ state: { state: 'SANDBOX_NOTREADY' } }), [b]);
    assert.deepEqual(await pods({ labelSelector: { app: 'y' } }), [b]);
    assert.deepEqual(await pods({ labelSelector: { app: 'z' } }), []);
  });

  it('take a prefix of an id for the id', async () => {
    const pod = await node().pod();
    const id = await node().create(pod);
    assert.equal((await node().status(id.slice(0, 20))).id, id);
    const { status } = await node().client.call('PodSandboxStatus', { podSandboxId: pod.slice(0, 20) });
    assert.equal(status.id, pod);
  });

  it('return labels and annotations as they came, also after a restart', async () => {
    const odd = {
      'a/b.c-d': 'ü € 😀 \u0000 \u202e',
      '': 'empty key',
      __proto__x: 'x',
      constructor: 'y',
      'key with spaces\n': ' \t\n ',
      'io.kubernetes.container.hash': 'f'.repeat(5000),
      'io.berth.internal': 'mine',
      'org.systemd.property.ExecStartPre': '/bin/touch /pwned',
    };
    const pod = await node().pod({ labels: odd, annotations: odd });
    const id = await node().create(pod, { labels: odd, annotations: odd });
    for (let round = 0; round < 2; round++) {
      const container = await node().status(id);
      const sandbox = (await node().client.call('PodSandboxStatus', { podSandboxId: pod })).status;
      for (const { labels, annotations } of [container, sandbox]) {
        assert.deepEqual({ ...labels }, odd);
        assert.deepEqual({ ...annotations }, odd);
      }
      const { containers } = await node().client.call('ListContainers', { filter: { labelSelector: odd } });
      assert.equal(containers.length, 1);
      await node().restart();
    }
  });

  it('keep the labels of an image out of the container’s', async () => {
    const Labels = { 'io.kubernetes.pod.name': 'other', 'io.berth.owner': 'person', app: 'image' };
    const image = await node().pull('labels', busyboxImage({ config: { Labels, Env: ['PATH=/bin'] } }));
    const { labels, annotations } = await node().status(
      await node().create(await node().pod(), { image, labels: { app: 'request' } }),
    );
    assert.deepEqual({ ...labels }, { app: 'request' });
    assert.deepEqual({ ...annotations }, {});
  });

  it('tell more when asked, as JSON', async () => {
    const { client } = node();
    const pod = await node().pod();
    const id = await node().start(pod);
    const { info: ofContainer } = await client.call('ContainerStatus', { containerId: id, verbose: true });
    const { info: ofPod } = await client.call('PodSandboxStatus', { podSandboxId: pod, verbose: true });
    const { image } = node().containerConfig();
    const { info: ofImage } = await client.call('ImageStatus', { image, verbose: true });
    const { info: ofRuntime } = await client.call('Status', { verbose: true });
    const parsed = (info: Record<string, string>, key = 'info') =>
      JSON.parse(info[key] ?? '') as Record<string, { args?: string[]; cmd?: string[] }>;
    assert.ok(parsed(ofContainer)['runtimeSpec']);
    assert.ok(Number(parsed(ofContainer)['pid']) > 0);
    assert.equal(parsed(ofPod)['id'], pod);
    assert.ok(parsed(ofImage)['imageSpec']?.cmd);
    assert.ok(parsed(ofRuntime, 'config')['registry']);
  });

  it('tell the containers of a pod in its status, with a time', async () => {
    const pod = await node().pod();
    const id = await node().start(pod);
    const status = await node().client.call('PodSandboxStatus', { podSandboxId: pod, verbose: true });
    assert.deepEqual(
      status.containersStatuses.map(c => c.id),
      [id],
    );
    assert.ok(BigInt(status.timestamp) > 0n);
  });

  it('refuse to start a command that is not in the image, and say so', async () => {
    const pod = await node().pod();
    const before = snapshot(node().daemon);
    for (const [command, code, message] of [
      [['foo'], 'NOT_FOUND', 'exec: "foo": not found in PATH of the image'],
      [['/bin/foo'], 'NOT_FOUND', 'exec: "/bin/foo": no such file in the image'],
      [['/etc/passwd'], 'PERMISSION_DENIED', 'exec: "/etc/passwd"'],
      [['/etc'], 'FAILED_PRECONDITION', 'is a directory'],
    ] as const) {
      const id = await node().create(pod, { command });
      await refused(node().client.call('StartContainer', { containerId: id }), code, message);
      const status = await node().status(id);
      assert.equal(status.state, 'CONTAINER_EXITED');
      assert.equal(status.reason, 'StartError');
      assert.equal(status.exitCode, 128);
      assert.ok(status.message.includes(message), status.message);
      assert.ok(BigInt(status.finishedAt) > 0n);
      await node().client.call('RemoveContainer', { containerId: id });
    }
    await node().assertNothingLeft(before);
  });

  it('tell a script without interpreter and a program for another machine apart', async () => {
    const image = await node().pull(
      'broken',
      busyboxImage({
        config: { Env: ['PATH=/bin'] },
        extraLayers: [
          [
            { path: 'bin/noloader', data: '#!/no/such/loader\n', mode: 0o755 },
            { path: 'bin/garbage', data: '\x7fELFgarbage', mode: 0o755 },
          ],
        ],
      }),
    );
    const pod = await node().pod();
    for (const [command, message] of [
      ['noloader', 'not the interpreter or loader'],
      ['garbage', 'not a program for this machine'],
    ] as const) {
      await refused(node().start(pod, { image, command: [command] }), 'FAILED_PRECONDITION', message);
    }
  });

  it('refuse what the request lacks', async () => {
    const { client } = node();
    const pod = await node().pod();
    const container = node().containerConfig();
    await refused(client.call('RunPodSandbox', {}), 'INVALID_ARGUMENT');
    await refused(client.call('RunPodSandbox', { config: {} }), 'INVALID_ARGUMENT', 'metadata');
    await refused(
      client.call('RunPodSandbox', { config: node().podConfig(), runtimeHandler: 'kata' }),
      'NOT_FOUND',
      'kata',
    );
    await refused(client.call('CreateContainer', { podSandboxId: pod }), 'INVALID_ARGUMENT');
    await refused(
      client.call('CreateContainer', { podSandboxId: pod, config: { ...container, metadata: undefined } }),
      'INVALID_ARGUMENT',
    );
    await refused(
      client.call('CreateContainer', { podSandboxId: pod, config: { ...container, image: undefined } }),
      'INVALID_ARGUMENT',
      'image',
    );
    await refused(client.call('CreateContainer', { podSandboxId: 'f'.repeat(64), config: container }), 'NOT_FOUND');
    await refused(client.call('ContainerStatus', { containerId: '' }), 'NOT_FOUND');
  });

  it('are sentences for every RPC that is not built', async () => {
    const { client } = node();
    const unbuilt: string[] = [];
    for (const { name, isStream } of allRpcs()) {
      const call = isStream ? client.firstOf(name, {}, 'metadata') : client.callAny(name, {});
      const { code, details } = await call.then(
        () => ({ code: 0, details: '' }),
        (error: { code: number; details: string }) => error,
      );
      if (code !== 12) continue;
      unbuilt.push(name);
      assert.match(details, new RegExp(`${name}.* \\w+ \\w+`), name);
    }
    assert.ok(!unbuilt.includes('RunPodSandbox'));
  });

  it('come while pulls and commands run', async function () {
    this.timeout(300_000);
    const big = busyboxImage({ extraLayers: [[{ path: 'random', data: randomBytes(40 << 20) }]] });
    await pushImage(node().registry, 'big', '1', big);
    const id = await node().start(await node().pod());
    const busy = Promise.all([
      node().client.call('PullImage', { image: { image: node().image('big') } }, 300_000),
      ...Array.from({ length: 4 }, () =>
        node().client.call('ExecSync', { containerId: id, cmd: ['sh', '-c', 'yes | head -c 20000000'] }, 300_000),
      ),
    ]);
    let isDone = false;
    const done = busy.finally(() => (isDone = true));
    let slowest = 0;
    let answers = 0;
    while (!isDone) {
      const startedAt = performance.now();
      await node().client.call('Version');
      slowest = Math.max(slowest, performance.now() - startedAt);
      answers++;
      await sleep(1);
    }
    await done;
    assert.ok(answers > 10, `${answers} answers`);
    assert.ok(slowest < 10_000, `the slowest answer took ${slowest} ms`); // of a loaded machine, too
    await node().client.call('RemoveImage', { image: { image: node().image('big') } });
  });
});

describe('images over the CRI', function () {
  this.timeout(60_000);
  const node = useNode();
  const pull = (client: CriClient, image: string) => client.call('PullImage', { image: { image } });

  it('are pulled, shown, listed and removed, with one id everywhere', async () => {
    const { client } = node();
    const built = busyboxImage({ config: { User: 'user' } });
    const reference = await node().pull('shown', built);
    assert.equal((await pull(client, reference)).imageRef, built.id);
    const { image } = await client.call('ImageStatus', { image: { image: reference } });
    assert.equal(image?.id, built.id);
    assert.deepEqual(image?.repoTags, [reference]);
    assert.equal(image?.username, 'user');
    assert.ok(BigInt(image?.size ?? 0) > 0n);
    assert.ok((await client.call('ListImages')).images.some(({ id }) => id === built.id));
    const created = await node().status(await node().create(await node().pod(), { image: built.id }));
    assert.equal(created.imageId, built.id);
    for (let i = 0; i < 2; i++) await client.call('RemoveImage', { image: { image: reference } });
    assert.equal((await client.call('ImageStatus', { image: { image: reference } })).image, null);
    const { imageFilesystems } = await client.call('ImageFsInfo');
    assert.ok(BigInt(imageFilesystems[0]?.timestamp ?? 0) > 0n);
  });

  it('that are not there are refused', async () => {
    const { client } = node();
    await refused(pull(client, node().image('nosuch')), 'NOT_FOUND', 'nosuch');
    await refused(pull(client, node().image('UPPER')), 'INVALID_ARGUMENT');
    await refused(pull(client, ''), 'INVALID_ARGUMENT');
    await refused(pull(client, `127.0.0.1:1/box:1`), 'UNAVAILABLE');
    await refused(node().create(await node().pod(), { image: 'nosuch:1' }), 'NOT_FOUND', /nosuch.*pull it first/);
  });

  it('for another architecture are refused', async () => {
    await pushImage(node().registry, 'foreign', '1', busyboxImage({ architecture: 's390x' }));
    await refused(pull(node().client, node().image('foreign')), 'FAILED_PRECONDITION', /s390x/);
  });

  it('with a wrong digest, or cut short, are refused and leave no file', async () => {
    const { client, registry, daemon } = node();
    const layerFile = (hex: string) =>
      join(registry.dataDir, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    const layers = daemon.root;
    for (const damage of ['flip', 'cut'] as const) {
      const built = buildImage({ layers: [[{ path: `file-${damage}`, data: 'x'.repeat(100_000) }]], compress: false });
      await pushImage(registry, `damaged-${damage}`, '1', built);
      const path = layerFile(built.layers[0]!.digest.slice(7));
      const bytes = readFileSync(path);
      if (damage === 'flip') bytes[600]! ^= 1;
      writeFileSync(path, bytes.subarray(0, damage === 'cut' ? 50_000 : bytes.length));
      const before = readdirSync(layers, { recursive: true, encoding: 'utf8' }).sort();
      await assert.rejects(pull(client, node().image(`damaged-${damage}`)), /digest|size|short|bytes/i);
      assert.equal(
        (await client.call('ImageStatus', { image: { image: node().image(`damaged-${damage}`) } })).image,
        null,
      );
      // Its manifest and config are small, were whole, and are asked for again.
      const after = readdirSync(layers, { recursive: true, encoding: 'utf8' }).filter(
        name => !/blobs\/sha256\//.test(name),
      );
      assert.deepEqual(
        after.filter(name => !before.includes(name)),
        [],
      );
    }
  });

  it('that a container stands on are not taken from under it', async () => {
    const reference = await node().pull('inuse', busyboxImage({ extraLayers: [[{ path: 'mark', data: 'here' }]] }));
    const id = await node().start(await node().pod(), { image: reference });
    await node().client.call('RemoveImage', { image: { image: reference } });
    assert.equal(await node().exec(id, ['cat', '/mark']), 'here');
    await node().restart();
    assert.equal(await node().exec(id, ['cat', '/mark']), 'here');
  });

  it('are pulled once when asked for many times at once', async () => {
    const built = busyboxImage({ extraLayers: [[{ path: 'once', data: 'x' }]] });
    await pushImage(node().registry, 'once', '1', built);
    const all = await Promise.all(Array.from({ length: 8 }, () => pull(node().client, node().image('once'))));
    assert.deepEqual(new Set(all.map(({ imageRef }) => imageRef)), new Set([built.id]));
  });

  it('show no secret of a failed pull in errors and log', async () => {
    const auth = { username: 'canary-user', password: 'canary-secret' };
    await assert.rejects(node().client.call('PullImage', { image: { image: node().image('nosuch') }, auth }));
    assert.doesNotMatch(node().daemon.log, /canary-secret/);
  });

  it('lie in directories that only root can enter', () => {
    for (const dir of [node().daemon.root, node().daemon.state, join(node().daemon.root, 'containers')]) {
      assert.equal(statSync(dir).mode & 0o077, 0, dir);
    }
  });
});
