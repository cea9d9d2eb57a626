import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { CriClient } from '../../support/cri-client';
import { startGatedRegistry, type GatedRegistry } from '../../support/gated-registry';
import { buildImage } from '../../support/image-builder';
import { RealDaemon } from './harness';

interface PullLine {
  reference: string;
  operation: string;
  outcome: string;
  askedBy: string[];
  stage: string;
  doneBytes: number;
  totalBytes: number;
  imageId: string;
  error: string;
  layers: { phase: string; doneBytes: number; totalBytes: number }[];
}

describe('pulls, with a real daemon', () => {
  const image = buildImage({ layers: [[{ path: 'a', data: randomBytes(2_000_000) }], [{ path: 'b', data: 'b' }]] });
  const total = image.layers.reduce((sum, { bytes }) => sum + bytes.length, 0);
  let daemon: RealDaemon;
  let cri: CriClient;
  let registry: GatedRegistry;
  const ofName = async (name: string) => (await pulls()).filter(({ reference }) => reference === name);
  const pulls = async () =>
    (await daemon.ok('pulls', '--format', 'json'))
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as PullLine);

  before(async () => {
    daemon = await RealDaemon.start('[metrics]\naddress = "127.0.0.1:0"\n');
    cri = new CriClient(daemon.criSocket);
  });
  after(async () => {
    cri.close();
    assert.deepEqual(await daemon.stop(), []);
  });
  beforeEach(async () => void (registry = await startGatedRegistry(image)));
  afterEach(() => registry[Symbol.asyncDispose]());

  it("of the kubelet's are seen while they run and when they have ended, by people who joined them, too", async () => {
    const name = `${registry.host}/kubelets:1`;
    const half = image.layers.reduce((sum, { bytes }) => sum + (bytes.length >> 1), 0);
    const watching = daemon.start('pulls', '--watch', '--format', 'json');
    const asked = cri.call('PullImage', { image: { image: name } });
    await daemon.eventually('half of it is here', async () => ((await ofName(name))[0]?.doneBytes ?? 0) >= half);
    const [running] = await ofName(name);
    assert.deepEqual(
      [running?.operation, running?.outcome, running?.askedBy, running?.totalBytes],
      ['pull', 'running', ['cri'], total],
    );
    assert.equal(running?.stage, `fetch the layers of ${name}`);
    assert.match(await daemon.ok('pulls'), new RegExp(`${name} +kubelet +0/2 .*MB 5\\d% .*fetch the layers`));

    const person = daemon.start('pull', name);
    await daemon.eventually('both wait for it', async () => (await ofName(name))[0]?.askedBy.length === 2);
    registry.open();
    const { imageRef } = await asked;
    assert.equal((await person.ended).code, 0);
    const [ended] = await ofName(name);
    assert.deepEqual(
      [ended?.outcome, ended?.imageId, ended?.doneBytes, ended?.layers.map(({ phase }) => phase)],
      ['succeeded', imageRef, total, ['done', 'done']],
    );
    assert.equal((await ofName(name)).length, 1);

    await watching.printed('"outcome":"succeeded"');
    watching.child.kill();
    const { stdout } = await watching.ended;
    const counts = stdout
      .split('\n')
      .filter(line => line.includes(name))
      .map(line => (JSON.parse(line) as PullLine).doneBytes);
    assert.deepEqual(
      counts,
      counts.slice().sort((a, b) => a - b),
    );
    assert.equal(counts.at(-1), total);
    await daemon.ok('rmi', '-f', name);
  });

  it('that nobody waits for any more, or that fail, say so', async () => {
    const name = `${registry.host}/left:1`;
    const leaving = daemon.start('pull', name);
    await daemon.eventually('it runs', async () => ((await ofName(name))[0]?.doneBytes ?? 0) > 0);
    leaving.child.kill();
    await daemon.eventually('it is given up', async () => (await ofName(name))[0]?.outcome === 'cancelled');
    await registry[Symbol.asyncDispose]();
    assert.equal((await daemon.berth('pull', `${registry.host}/gone:1`)).code, 1);
    const [failed] = await ofName(`${registry.host}/gone:1`);
    assert.equal(failed?.outcome, 'failed');
    assert.match(failed.error, /gone:1.*ECONNREFUSED|refused/);
  });

  it('are in the metrics, with calls, images and the process', async () => {
    registry.open();
    const before = await samples();
    const name = `${registry.host}/counted:1`;
    assert.equal((await daemon.berth('pull', name)).code, 0);
    await assert.rejects(cri.call('PullImage', { image: { image: 'NOT A NAME' } }));
    const after = await samples();
    const more = (sample: string) => (after.get(sample) ?? 0) - (before.get(sample) ?? 0);
    assert.equal(more('berth_pulls_total{operation="pull",outcome="succeeded"}'), 1);
    assert.equal(more('berth_pulled_bytes_total'), total);
    assert.equal(more('berth_layers_unpacked_total'), 2);
    assert.equal(more('berth_pull_seconds_count{operation="pull"}'), 1);
    assert.equal(after.get('berth_pulls_running'), 0);
    assert.equal(more('berth_images'), 1);
    assert.ok(more('berth_images_disk_bytes') > 2_000_000);
    const rpc = (service: string, method: string, code: string) =>
      more(`berth_rpc_seconds_count{service="${service}",method="${method}",code="${code}"}`);
    assert.equal(rpc('berth.v1.Berth', 'Pull', 'OK'), 1);
    assert.equal(rpc('runtime.v1.ImageService', 'PullImage', 'INVALID_ARGUMENT'), 1);
    assert.ok((after.get('process_resident_memory_bytes') ?? 0) > 1_000_000);
    assert.equal((await fetch(`http://${metricsHost()}/else`)).status, 404);
    assert.equal((await fetch(`http://${metricsHost()}/metrics`, { method: 'POST' })).status, 405);
    await daemon.ok('rmi', name);
  });

  function metricsHost(): string {
    const [, host] = /metrics address=(127\.0\.0\.1:[1-9]\d*)/.exec(daemon.said) ?? [];
    assert.ok(host, daemon.said);
    return host;
  }

  /** By name and labels; every line must be one of the three that the text format has. */
  async function samples(): Promise<Map<string, number>> {
    const response = await fetch(`http://${metricsHost()}/metrics`);
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
    const lines = (await response.text()).split('\n').filter(line => line !== '' && !line.startsWith('# '));
    return new Map(
      lines.map(line => {
        const [, sample = '', value = ''] = /^([a-z_]\w*(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? [];
        assert.ok(sample, line);
        return [sample, value === '+Inf' ? Infinity : Number(value)];
      }),
    );
  }
});
