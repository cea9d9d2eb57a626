import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage, busyboxImage, type TarEntry } from '../support/image-builder';
import { refused, useNode } from '../support/node';

const CONFIG = { Env: ['PATH=/bin'] };

describe('image volumes', function () {
  this.timeout(60_000);
  const node = useNode();
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);
  const data = (layers = 2, more = 'more') =>
    buildImage({
      layers: [
        [
          { path: 'data/', type: 'dir' },
          { path: 'data/one', data: 'one\n' },
          { path: more, data: more },
          { path: 'data/run', data: '#!/bin/sh\necho ran\n', mode: 0o4755 },
          { path: 'out', type: 'symlink', link: '/etc' },
          { path: 'up', type: 'symlink', link: '../../../../etc' },
          { path: 'link', type: 'symlink', link: '/data' },
        ],
        ...Array.from({ length: layers - 1 }, (_, i) => [
          { path: `data/layer${i}`, data: `${i}\n` },
          { path: `${more}${i}` },
        ]),
      ],
    });
  const start = async (mount: object) => {
    const mounts = [{ containerPath: '/vol', ...mount }];
    return node().start(await node().pod(), { mounts });
  };

  for (const layers of [1, 2, 4]) {
    it(`are an image’s files, read-only, of ${layers} layers`, async () => {
      const image = await node().pull(`data${layers}`, data(layers));
      const id = await start({ image: { image } });
      assert.equal(await sh(id, 'cat /vol/data/one; ls /vol/data | wc -l; /vol/data/run'), `one\n${layers + 1}\nran\n`);
      assert.equal(
        await sh(id, '(touch /vol/x || chmod 700 /vol/data || rm /vol/data/one) 2>/dev/null || echo no'),
        'no\n',
      );
      assert.match(await sh(id, 'grep " /vol " /proc/mounts'), /\bro,nosuid,nodev/);
    });
  }

  it('are a part of the image when a sub path says so, found inside of it', async () => {
    const image = await node().pull('part', data());
    assert.equal(await sh(await start({ image: { image }, imageSubPath: 'data' }), 'cat /vol/one'), 'one\n');
    assert.equal(await sh(await start({ image: { image }, imageSubPath: 'link' }), 'cat /vol/one'), 'one\n');
    assert.equal(await sh(await start({ image: { image }, imageSubPath: 'data/one' }), 'cat /vol'), 'one\n');
    const pod = await node().pod();
    for (const [imageSubPath, why] of [
      ['not/there', 'no such file or directory'],
      // Inside the image there is no /etc: a link to it leads nowhere, and not to that of the host.
      ['out', 'no such file or directory'],
      ['up', 'no such file or directory'],
      ['../x', 'leads out of it'],
      ['/data', 'leads out of it'],
    ] as const) {
      const mounts = [{ containerPath: '/vol', image: { image }, imageSubPath }];
      await refused(node().create(pod, { mounts }), 'INVALID_ARGUMENT', why);
    }
  });

  it('outlive the removal of their image, and their layers go with the container', async () => {
    const image = await node().pull('removed', data(2, 'of this image alone'));
    const pulled = await node().client.call('ImageStatus', { image: { image } });
    const id = await start({ image: { image } });
    const { status } = await node().client.call('ContainerStatus', { containerId: id });
    const [mount] = status.mounts;
    assert.equal(mount?.image?.image, image);
    assert.equal(mount.image.imageRef, pulled.image?.id);
    const layers = () => readdirSync(join(node().daemon.root, 'layers')).length;
    const before = layers();
    await node().client.call('RemoveImage', { image: { image } });
    assert.equal(await sh(id, 'cat /vol/data/one'), 'one\n');
    await node().restart();
    assert.equal(await sh(id, 'cat /vol/data/layer0'), '0\n');
    await node().client.call('RemoveContainer', { containerId: id });
    for (let i = 0; i < 500 && layers() >= before; i++) await new Promise(resolve => setTimeout(resolve, 10));
    assert.ok(layers() < before);
  });

  it('are refused where they cannot be', async () => {
    const image = await node().pull('refused', data());
    const pod = await node().pod();
    for (const [mount, code, why] of [
      [{ image: { image: `${node().registry.host}/none:1` } }, 'NOT_FOUND', 'is not on this node'],
      [{ image: { image }, hostPath: '/tmp' }, 'INVALID_ARGUMENT', 'host path'],
      [{ image: { image }, propagation: 'PROPAGATION_BIDIRECTIONAL' }, 'INVALID_ARGUMENT', 'propagates'],
    ] as const) {
      await refused(node().create(pod, { mounts: [{ containerPath: '/vol', ...mount }] }), code, why);
    }
  });
});

describe('an image’s VOLUMEs', function () {
  this.timeout(60_000);
  const node = useNode();
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);
  const volumesOf = (id: string) => join(node().daemon.root, 'containers', id, 'volumes');
  const withVolumes = (paths: string[], layer: TarEntry[] = []) =>
    busyboxImage({
      config: { ...CONFIG, Volumes: Object.fromEntries(paths.map(path => [path, {}])) },
      extraLayers: [layer],
    });
  const start = async (image: string, more: Record<string, unknown> = {}) =>
    node().start(await node().pod(), { image, ...more });

  it('are directories of the container with what the image has there, owners, modes, links and times', async () => {
    const image = await node().pull(
      'volumes',
      withVolumes(
        ['/data', '/var/new/'],
        [
          { path: 'data/', type: 'dir', mode: 0o1775, uid: 5, gid: 6 },
          { path: 'data/sub/', type: 'dir', mode: 0o700 },
          { path: 'data/sub/file', data: 'content\n', mode: 0o4750, uid: 1000, gid: 2000, mtime: 1_000_000 },
          { path: 'data/link', type: 'symlink', link: '/etc/passwd' },
        ],
      ),
    );
    const id = await start(image, { security: { readonlyRootfs: true } });
    assert.equal(await sh(id, 'stat -c "%a %u %g" /data /data/sub'), '1775 5 6\n700 0 0\n');
    assert.equal(
      await sh(id, 'stat -c "%a %u %g %Y" /data/sub/file; readlink /data/link'),
      '4750 1000 2000 1000000\n/etc/passwd\n',
    );
    await sh(id, 'echo mine > /data/mine; touch /var/new/file');
    assert.equal(readFileSync(join(volumesOf(id), '0', 'mine'), 'utf8'), 'mine\n');
    assert.equal(existsSync(join(node().daemon.root, 'containers', id, 'upper/data/mine')), false);
    const other = await start(image);
    assert.equal(await sh(other, 'ls /data'), 'link\nsub\n', 'no other container sees it');
    await node().client.call('RemoveContainer', { containerId: id });
    assert.equal(existsSync(volumesOf(id)), false);
  });

  it('copy long names and deep directories as they are', async () => {
    const deep = Array.from({ length: 60 }, (_, i) => `d${i}`).join('/');
    const image = await node().pull(
      'deep',
      withVolumes(['/v'], [{ path: `v/${deep}/${'n'.repeat(200)}`, data: 'deep' }]),
    );
    assert.equal(await sh(await start(image), `cat /v/${deep}/n*`), 'deep');
  });

  it('give way to a mount of the request', async () => {
    const image = await node().pull('mounted', withVolumes(['/data/']));
    const hostPath = join(node().daemon.dir, 'instead');
    const id = await start(image, { mounts: [{ containerPath: '/data', hostPath }] });
    await sh(id, 'touch /data/file');
    assert.deepEqual(readdirSync(hostPath), ['file']);
    assert.equal(existsSync(volumesOf(id)), false);
  });

  it('below a mount of the request take nothing from it', async () => {
    const image = await node().pull('below', withVolumes(['/data/sub']));
    const hostPath = join(node().daemon.dir, 'above');
    const first = await start(image, { mounts: [{ containerPath: '/data', hostPath }] });
    await sh(first, 'echo secret > /data/file; mkdir -p /data/sub; touch /data/sub/x');
    const id = await start(image, { mounts: [{ containerPath: '/data', hostPath }] });
    assert.equal(await sh(id, 'ls /data/sub; cat /data/file'), 'secret\n');
  });

  it('under a symlink to the host’s /etc copy nothing of the host (CVE-2022-23648)', async () => {
    const outside = join(node().daemon.dir, 'outside');
    const canary = join(node().daemon.dir, 'canary');
    for (const [i, link] of ['/etc', '../../../../../../../../etc', '/proc/1/root/etc', outside].entries()) {
      const image = await node().pull(
        `cve${i}`,
        withVolumes(
          ['/link', '/deep/link/ssl'],
          [
            { path: 'link', type: 'symlink', link },
            { path: 'deep/link', type: 'symlink', link },
          ],
        ),
      );
      const seen = await start(image).then(
        id =>
          sh(
            id,
            'cat /link/hostname /link/shadow /link/os-release 2>/dev/null; ls /link /deep/link/ 2>/dev/null; true',
          ),
        (error: Error) => error.message,
      );
      assert.doesNotMatch(seen, /os-release|root:[*!$]|shadow/, link);
    }
    assert.equal(existsSync(outside) || existsSync(canary), false, 'nothing is made on the host');
  });

  it('are refused where the kernel’s file systems are', async () => {
    const pod = await node().pod();
    for (const [i, path] of ['/', '/proc', '/proc/sys', '/sys/fs', '/dev', '/dev/shm', '/x/../proc'].entries()) {
      const image = await node().pull(`kernel${i}`, withVolumes([path]));
      await refused(node().create(pod, { image }), 'INVALID_ARGUMENT', 'VOLUME');
    }
    // By a link, too: it would lie over what is trusted to be the kernel's.
    const image = await node().pull(
      'kernel-link',
      withVolumes(['/link'], [{ path: 'link', type: 'symlink', link: '/proc' }]),
    );
    await refused(node().create(pod, { image }), 'INVALID_ARGUMENT', 'leads onto procfs or sysfs');
  });
});
