import assert from 'node:assert/strict';
import { busyboxImage } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';
import { RealDaemon } from './harness';

describe('images, with a real daemon', () => {
  let daemon: RealDaemon;
  let registry: Registry;

  before(async () => {
    daemon = await RealDaemon.start();
    registry = await startRegistry();
    await pushImage(registry, 'busybox', '1', busyboxImage());
  });
  after(async () => {
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });

  const name = () => `${registry.host}/busybox:1`;
  const tags = async () =>
    (await daemon.ok('images'))
      .split('\n')
      .slice(1, -1)
      .map(line => line.split(/\s+/).slice(0, 2).join(':'));

  it('are pulled, listed, inspected and removed', async () => {
    const pulled = await daemon.berth('pull', name());
    assert.equal(pulled.code, 0);
    assert.match(pulled.stdout, /Downloaded newer image/);
    assert.match((await daemon.berth('pull', name())).stdout, /up to date/);
    assert.deepEqual(await tags(), [name()]);
    const [image] = JSON.parse(await daemon.ok('inspect', name())) as { id: string; tags: string[]; pinned: boolean }[];
    assert.deepEqual(image?.tags, [name()]);
    assert.equal(image.pinned, true);
    assert.match(await daemon.ok('rmi', name()), new RegExp(`Deleted: ${image.id}\n$`));
    assert.deepEqual(await tags(), []);
  });

  it('are pulled for a run when they are missing, with the progress on stderr', async () => {
    const ended = await daemon.berth('run', '--rm', name(), 'echo', 'ran');
    assert.equal(ended.code, 0);
    assert.equal(ended.stdout, 'ran\n');
    assert.match(ended.stderr, /Pull complete/);
    const second = await daemon.berth('run', '--rm', name(), 'echo', 'ran');
    assert.deepEqual(second, { code: 0, stdout: 'ran\n', stderr: '' });
    await daemon.ok('rmi', name());
  });

  it('that no registry has are an error that names them', async () => {
    const { code, stderr } = await daemon.berth('pull', `${registry.host}/none:1`);
    assert.equal(code, 1);
    assert.match(stderr, /^berth: .*none:1.*\n$/);
  });

  it('that a container uses are not removed, unless by force', async () => {
    await daemon.berth('pull', name());
    await daemon.ok('run', '-d', '--name', 'user', name(), 'sleep', '100');
    const { code, stderr } = await daemon.berth('rmi', name());
    assert.equal(code, 1);
    assert.match(stderr, /is used by container user; /);
    await daemon.ok('rmi', '-f', name());
    assert.equal(await daemon.ok('exec', 'user', 'echo', 'still'), 'still\n');
    await daemon.ok('rm', '-f', 'user');
  });

  it('with several names go with the last one', async () => {
    await daemon.importBusybox('localhost/a:1');
    await daemon.importBusybox('localhost/b:1');
    const id = (await daemon.ok('images', '-q', '--no-trunc')).split('\n')[0] ?? '';
    assert.match((await daemon.berth('rmi', id)).stderr, /has several names: localhost\/a:1, localhost\/b:1; /);
    assert.equal(await daemon.ok('rmi', 'localhost/a:1'), 'Untagged: localhost/a:1\n');
    assert.deepEqual(await tags(), ['localhost/b:1']);
    assert.match(await daemon.ok('rmi', 'localhost/b:1'), /Deleted: sha256:/);
  });
});
