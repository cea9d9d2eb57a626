import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';
import { RealDaemon } from './harness';

describe('berth registry explain, with a real daemon', () => {
  let daemon: RealDaemon;
  let registry: Registry;
  let hosts: string;
  const image = busyboxImage();

  before(async () => {
    hosts = mkdtempSync(join(tmpdir(), 'berth-hosts-'));
    daemon = await RealDaemon.start(`[registry]\nhosts_dir = "${hosts}"\n`);
    registry = await startRegistry();
    await pushImage(registry, 'app', '1', image);
  });
  after(async () => {
    await registry.stop();
    rmSync(hosts, { recursive: true });
    assert.deepEqual(await daemon.stop(), []);
  });

  const mirrored = (name: string, text: string) => {
    mkdirSync(join(hosts, name), { recursive: true });
    writeFileSync(join(hosts, name, 'hosts.toml'), text);
  };

  it('names every endpoint, why it is asked and what it answers, and pulls nothing', async () => {
    mirrored('mirrored.invalid', `[host."http://${registry.host}"]\ncapabilities = ["pull", "resolve"]\n`);
    const { code, stdout } = await daemon.berth('registry', 'explain', 'mirrored.invalid/app:1');
    assert.equal(code, 0, stdout);
    assert.match(stdout, new RegExp(`1\\. http://${registry.host}/v2/app/manifests/1`));
    assert.match(stdout, /from +.*mirrored\.invalid\/hosts\.toml/);
    assert.match(stdout, /plain http, as the file says/);
    assert.ok(stdout.includes(image.manifest.digest));
    assert.match(stdout, /2\. https:\/\/mirrored\.invalid\/v2\/app\/manifests\/1/);
    assert.match(stdout, /A pull would take it from 1\.\n$/);
    assert.deepEqual((await daemon.ok('images', '-q')).trim(), '');
  });

  it('says that nobody has it, with each reason, and exits with 1', async () => {
    const { code, stdout } = await daemon.berth('registry', 'explain', `${registry.host}/none:1`);
    assert.equal(code, 1);
    assert.match(stdout, /answered 404/);
    assert.match(stdout, /A pull would fail/);
  });

  it('is read by programs as a line of JSON an endpoint', async () => {
    const stdout = await daemon.ok('registry', 'explain', '--format', 'json', `${registry.host}/app:1`);
    const endpoints = stdout.trim().split('\n');
    assert.equal(endpoints.length, 1);
    const endpoint = JSON.parse(endpoints[0] ?? '') as { digest: string; used: boolean };
    assert.equal(endpoint.digest, image.manifest.digest);
    assert.equal(endpoint.used, true);
  });
});
