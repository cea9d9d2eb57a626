import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { smallImage } from '../../support/archives';
import { CriClient } from '../../support/cri-client';
import { pushImage, startRegistry, type Registry } from '../../support/registry';
import { RealDaemon } from './harness';

describe('berth check, with a real daemon', () => {
  const { image: checked } = smallImage('checked');
  let daemon: RealDaemon;
  let registry: Registry;

  before(async () => {
    daemon = await RealDaemon.start();
    registry = await startRegistry();
    await pushImage(registry, 'checked', '1', checked);
  });
  after(async () => {
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });

  it('finds what was changed, says of what, and repairs it', async () => {
    const name = `${registry.host}/checked:1`;
    await daemon.berth('pull', '-q', name);
    assert.match(await daemon.ok('check'), /^2 layers and 2 blobs, .* on the disk: all is sound\n$/);
    const [{ layers } = { layers: [] }] = JSON.parse(await daemon.ok('inspect', name)) as {
      layers: { dir: string }[];
    }[];
    const file = join(layers[0]?.dir ?? '', 'a');
    const before = readFileSync(file);
    appendFileSync(file, 'damage');

    const found = await daemon.berth('check');
    assert.equal(found.code, 1);
    assert.match(
      found.stdout,
      new RegExp(`^layer-damaged \\S+: .* \\(${name}\\)\n.*: 1 findings; repair it with: berth check --repair\n$`),
    );
    const json = await daemon.berth('check', '--format', 'json');
    assert.equal((JSON.parse(json.stdout) as { kind: string }).kind, 'layer-damaged');

    const repaired = await daemon.ok('check', '--repair');
    assert.match(repaired, /: repaired\n.*1 findings, 1 repaired\n$/);
    assert.deepEqual(readFileSync(file), before);
    assert.match(await daemon.ok('check', '-q'), /all is sound/);
  });

  it('leaves what it cannot repair to the kubelet, for which the image is not there until it has pulled it', async () => {
    using cri = new CriClient(daemon.criSocket);
    const image = { image: `${registry.host}/checked:1` };
    const status = async () => (await cri.call('ImageStatus', { image, verbose: true })).image;
    const { info } = await cri.call('ImageStatus', { image, verbose: true });
    const { layers } = JSON.parse(info['info'] ?? '{}') as { layers: { dir: string }[] };
    const file = join(layers[0]?.dir ?? '', 'a');
    const before = readFileSync(file);
    appendFileSync(file, 'damage');
    const [blobs, away] = ['docker', 'away'].map(name => join(registry.dataDir, name)) as [string, string];
    renameSync(blobs, away);
    const failed = await daemon.berth('check', '--repair');
    renameSync(away, blobs);
    assert.match(failed.stdout, /could not be fetched again/);
    assert.equal(await status(), null);
    assert.equal((await cri.call('ListImages')).images.length, 1);
    await cri.call('PullImage', { image });
    assert.deepEqual([(await status())?.id, readFileSync(file)], [checked.id, before]);
  });
});
