import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage } from '../support/image-builder';
import { snapshot } from '../support/leaks';
import { useNode } from '../support/node';

/** Bounded: a race that is lost once in some hundred starts shows here after a few runs, and in CI every time. */
const STARTS = 100;

describe('roots that change while containers are set up in them', function () {
  this.timeout(300_000);
  const node = useNode();
  const dirOf = (name: string) => {
    const dir = join(node().daemon.dir, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  };
  const config = (volumes: string[]) => ({
    Env: ['PATH=/bin'],
    Volumes: Object.fromEntries(volumes.map(path => [path, {}])),
  });

  it('lead no mount, mask, device, volume or working directory to the host (CVE-2021-30465, 2023-27561, 2024-45310, 2025-31133)', async () => {
    const [volume, target, source] = [dirOf('volume'), dirOf('target'), dirOf('source')];
    writeFileSync(join(target, 'secret'), 'secret');
    writeFileSync(join(source, 'file'), 'source');
    const image = await node().pull('raced', busyboxImage({ config: config(['/vol/x/volume']) }));
    const pod = await node().pod();
    const swap = `mkdir -p /vol/d; ln -sfn ${target} /vol/l; while :; do mv -T /vol/l /vol/x; mv -T /vol/x /vol/l; mv -T /vol/d /vol/x; mv -T /vol/x /vol/d; done 2>/dev/null`;
    const volumeMount = { containerPath: '/vol', hostPath: volume };
    for (let i = 0; i < 2; i++) await node().start(pod, { command: ['sh', '-c', swap], mounts: [volumeMount] });
    const before = snapshot(node().daemon).mounts;
    let created = 0;
    for (let i = 0; i < STARTS; i++) {
      const id = await node()
        .create(pod, {
          image,
          command: ['true'],
          mounts: [volumeMount, { containerPath: `/vol/x/place${i % 7}`, hostPath: source }],
          devices: [{ hostPath: '/dev/zero', containerPath: `/vol/x/device${i % 5}`, permissions: 'r' }],
          workingDir: '/vol/x/work',
          security: { maskedPaths: ['/vol/x/secret'], readonlyPaths: ['/vol/x'] },
        })
        .catch(() => undefined);
      if (id === undefined) continue;
      created++;
      await node()
        .client.call('StartContainer', { containerId: id })
        .catch(() => undefined);
      await node().client.call('RemoveContainer', { containerId: id });
    }
    assert.ok(created > 0, 'some get through');
    assert.deepEqual(readdirSync(target), ['secret']);
    assert.deepEqual(readdirSync(source), ['file']);
    assert.deepEqual(snapshot(node().daemon).mounts, before);
  });

  it('have masks of the host’s own /dev/null, whatever the image has in its place (CVE-2025-31133)', async () => {
    const file = dirOf('masks');
    writeFileSync(join(file, 'pattern'), 'untouched');
    for (const [i, entry] of [
      { path: 'dev/null', type: 'symlink', link: join(file, 'pattern') },
      { path: 'dev/null', data: 'a file of the image' },
      { path: 'dev/null', type: 'symlink', link: '/proc/sys/kernel/core_pattern' },
    ].entries()) {
      const image = await node().pull(`null${i}`, busyboxImage({ extraLayers: [[entry as { path: string }]] }));
      const security = { maskedPaths: ['/etc/group', '/proc/keys'] };
      const id = await node().start(await node().pod(), { image, security });
      const script = 'stat -c "%t:%T" /etc/group /proc/keys /dev/null; echo x > /etc/group; cat /etc/group';
      assert.equal(await node().exec(id, ['sh', '-c', script]), '1:3\n1:3\n1:3\n');
    }
    assert.equal(lstatSync(join(file, 'pattern')).size, 'untouched'.length);
  });

  it('have devices and links in a /dev of their own, whatever a link at /dev/x says (CVE-2026-41579, CVE-2026-47766)', async () => {
    const target = dirOf('devices');
    const links = ['dev/pts', 'dev/shm', 'dev/mqueue', 'dev/fd', 'dev/console', 'opt'].map(
      path => ({ path, type: 'symlink', link: target }) as const,
    );
    const image = await node().pull('dev-links', busyboxImage({ extraLayers: [links] }));
    const devices = [{ hostPath: '/dev/zero', containerPath: '/opt/zero', permissions: 'rwm' }];
    await node()
      .run(['true'], { image, devices })
      .catch(() => undefined);
    assert.deepEqual(readdirSync(target), []);
  });

  it('have terminals of their own devpts only (CVE-2025-52565)', async () => {
    const pod = await node().pod();
    const [one, two] = [await node().start(pod), await node().start(pod)];
    const seen = async (id: string) =>
      (await node().exec(id, ['sh', '-c', 'ls /dev/pts; stat -c %d /dev/pts'])).split('\n');
    const [first, second] = [await seen(one), await seen(two)];
    assert.deepEqual([first[0], second[0]], ['ptmx', 'ptmx'], 'no terminal of the host or of another');
    assert.notEqual(first[1], second[1]);
  });
});
