import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';

describe('mounts of a container', function () {
  this.timeout(60_000);
  const node = useNode();
  const shared = (name: string) => {
    const dir = join(node().daemon.dir, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  };
  /** On the node: in the mount namespace of the daemon. */
  const host = (script: string) =>
    execFileSync('nsenter', [`--mount=/proc/${node().daemon.holderPid}/ns/mnt`, 'sh', '-ec', script], {
      encoding: 'utf8',
    });
  /** A directory with a mount of its own, on which another is mounted; both go with the test. */
  const withMounts = async (name: string, propagation: string, run: (dir: string) => Promise<void>) => {
    const dir = shared(name);
    host(`mount -t tmpfs none ${dir}; mount --make-${propagation} ${dir}; mkdir ${dir}/sub ${dir}/late ${dir}/inner
      mount -t tmpfs none ${dir}/sub; echo deep > ${dir}/sub/file; echo top > ${dir}/file`);
    try {
      await run(dir);
    } finally {
      await node().removeAll();
      host(`umount -R ${dir}`);
    }
  };
  const start = async (mounts: object[], more: object = {}) => node().start(await node().pod(), { mounts, ...more });
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);
  const SYS_ADMIN = { security: { capabilities: { addCapabilities: ['SYS_ADMIN'] } } };

  it('are private unless asked: later mounts of the host stay away', async () => {
    await withMounts('private', 'rshared', async dir => {
      const id = await start([{ containerPath: '/m', hostPath: dir }]);
      assert.equal(await sh(id, 'cat /m/file /m/sub/file'), 'top\ndeep\n');
      host(`mount -t tmpfs none ${dir}/late; touch ${dir}/late/there`);
      assert.equal(await sh(id, 'ls /m/late'), '');
      assert.match(await sh(id, 'grep " /m " /proc/self/mountinfo'), / \/m \S+ - /);
    });
  });

  it('with HOST_TO_CONTAINER see what is mounted on the host later, and not the other way', async () => {
    await withMounts('slave', 'rshared', async dir => {
      const mount = { containerPath: '/m', hostPath: dir, propagation: 'PROPAGATION_HOST_TO_CONTAINER' };
      const id = await start([mount], SYS_ADMIN);
      host(`mount -t tmpfs none ${dir}/late; touch ${dir}/late/there`);
      assert.equal(await sh(id, 'ls /m/late'), 'there\n');
      await sh(id, 'mount -t tmpfs none /m/inner && touch /m/inner/mine');
      assert.equal(host(`ls ${dir}/inner`), '');
      host(`umount ${dir}/late`);
      assert.equal(await sh(id, 'ls /m/late'), '');
    });
  });

  it('with BIDIRECTIONAL show on the host what the container mounts, and the other way', async () => {
    await withMounts('shared', 'rshared', async dir => {
      const mount = { containerPath: '/deep/m', hostPath: dir, propagation: 'PROPAGATION_BIDIRECTIONAL' };
      const id = await start([mount], SYS_ADMIN);
      host(`mount -t tmpfs none ${dir}/late; touch ${dir}/late/there`);
      assert.equal(await sh(id, 'ls /deep/m/late'), 'there\n');
      await sh(id, 'mount -t tmpfs none /deep/m/inner && touch /deep/m/inner/mine');
      assert.equal(host(`ls ${dir}/inner`), 'mine\n');
      const other = await start([{ ...mount, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }]);
      assert.equal(await sh(other, 'ls /deep/m/inner'), 'mine\n');
      await node().client.call('RemoveContainer', { containerId: id });
      assert.equal(host(`ls ${dir}/inner`), 'mine\n', 'it stays when the container goes');
      host(`umount ${dir}/inner`);
    });
  });

  it('with BIDIRECTIONAL leave nothing on the host of the container’s own mounts', async () => {
    await withMounts('clean', 'rshared', async dir => {
      const before = snapshot(node().daemon);
      const id = await start([
        { containerPath: '/m', hostPath: dir, propagation: 'PROPAGATION_BIDIRECTIONAL' },
        { containerPath: '/other', hostPath: dir },
      ]);
      assert.deepEqual(snapshot(node().daemon).mounts.length > 0, true);
      assert.equal(await sh(id, 'cat /m/sub/file'), 'deep\n');
      await node().removeAll();
      await node().assertNothingLeft(before);
    });
  });

  it('with BIDIRECTIONAL show the host none of the mounts that the request has in them', async () => {
    await withMounts('nested', 'rshared', async dir => {
      const inside = shared('nested-inside');
      const before = snapshot(node().daemon).mounts;
      const id = await start(
        [
          { containerPath: '/m', hostPath: dir, propagation: 'PROPAGATION_BIDIRECTIONAL' },
          { containerPath: '/m/inner', hostPath: inside },
        ],
        SYS_ADMIN,
      );
      assert.deepEqual(
        snapshot(node().daemon).mounts.filter(line => line.includes(inside) && !before.includes(line)),
        [],
      );
      await sh(id, 'mount -t tmpfs none /m/late && touch /m/late/mine; touch /m/inner/file');
      assert.equal(host(`ls ${dir}/late; ls ${dir}/inner; ls ${inside}`), 'mine\nfile\n');
      host(`mkdir ${dir}/more; mount -t tmpfs none ${dir}/more; touch ${dir}/more/there; umount ${dir}/late`);
      assert.equal(await sh(id, 'ls /m/more; ls /m/late'), 'there\n');
    });
  });

  it('are refused, with the mount point named, where the source cannot propagate', async () => {
    await withMounts('unshared', 'rprivate', async dir => {
      const pod = await node().pod();
      const before = snapshot(node().daemon);
      const below = `${dir}/late`;
      for (const [propagation, says] of [
        ['PROPAGATION_BIDIRECTIONAL', 'is not shared'],
        ['PROPAGATION_HOST_TO_CONTAINER', 'is neither shared nor a slave'],
      ] as const) {
        const mounts = [{ containerPath: '/m', hostPath: below, propagation }];
        const expected = `mount ${below} at /m: the mount at ${dir}, which it lies on, ${says}`;
        await refused(node().create(pod, { mounts }), 'FAILED_PRECONDITION', expected);
      }
      await node().assertNothingLeft(before);
      host(`mount --make-slave ${dir}`);
    });
  });

  it('with HOST_TO_CONTAINER may lie on a slave, with BIDIRECTIONAL not', async () => {
    await withMounts('of-slave', 'rshared', async dir => {
      const copy = shared('copy');
      host(`mount --rbind ${dir} ${copy}; mount --make-rslave ${copy}`);
      try {
        const mount = { containerPath: '/m', hostPath: copy, propagation: 'PROPAGATION_HOST_TO_CONTAINER' };
        const id = await start([mount]);
        host(`mount -t tmpfs none ${dir}/late; touch ${dir}/late/there`);
        assert.equal(await sh(id, 'ls /m/late'), 'there\n');
        const mounts = [{ ...mount, propagation: 'PROPAGATION_BIDIRECTIONAL' }];
        await refused(node().create(await node().pod(), { mounts }), 'FAILED_PRECONDITION', `mount at ${copy}`);
        await node().removeAll();
      } finally {
        host(`umount -R ${copy}`);
      }
    });
  });

  it('that are read-only leave mounts below them writable, and recursively read-only ones do not', async () => {
    await withMounts('recursive', 'rshared', async dir => {
      const mount = { containerPath: '/m', hostPath: dir, readonly: true };
      const script = 'for f in /m/x /m/sub/x; do (echo x > $f) 2>/dev/null && echo wrote $f; done; true';
      assert.equal(await sh(await start([mount]), script), 'wrote /m/sub/x\n');
      const id = await start([{ ...mount, recursiveReadOnly: true, mountOptions: ['noexec'] }]);
      assert.equal(await sh(id, script), '');
      assert.match(await sh(id, 'grep " /m/sub " /proc/mounts'), /ro,.*noexec/);
      host(`touch ${dir}/sub/still-writable`);
    });
  });

  it('are recursively read-only only where they are read-only and private', async () => {
    const pod = await node().pod();
    const mount = { containerPath: '/m', hostPath: shared('half'), recursiveReadOnly: true };
    await refused(node().create(pod, { mounts: [mount] }), 'INVALID_ARGUMENT', 'recursive_read_only needs readonly');
    for (const propagation of ['PROPAGATION_HOST_TO_CONTAINER', 'PROPAGATION_BIDIRECTIONAL']) {
      const mounts = [{ ...mount, readonly: true, propagation }];
      await refused(
        node().create(pod, { mounts }),
        'INVALID_ARGUMENT',
        'recursive_read_only needs propagation PRIVATE',
      );
    }
  });

  it('that are recursively read-only and of mount options are features that Status tells of', async () => {
    const { features, runtimeHandlers } = await node().client.call('Status');
    assert.equal(features.mountOptions, true);
    assert.equal(runtimeHandlers.find(({ name }) => name === '')?.features?.recursiveReadOnlyMounts, true);
  });

  it('have their host path’s links resolved on the host', async () => {
    const dir = shared('links');
    mkdirSync(join(dir, 'real'));
    writeFileSync(join(dir, 'real', 'file'), 'real\n');
    symlinkSync('real', join(dir, 'link'));
    symlinkSync(join(dir, 'link', 'file'), join(dir, 'file-link'));
    const id = await start([
      { containerPath: '/m', hostPath: join(dir, 'link') },
      { containerPath: '/f', hostPath: join(dir, 'file-link') },
    ]);
    assert.equal(await sh(id, 'cat /m/file /f'), 'real\nreal\n');
    symlinkSync('nowhere', join(dir, 'dangling'));
    const mounts = [{ containerPath: '/m', hostPath: join(dir, 'dangling') }];
    await refused(node().create(await node().pod(), { mounts }), 'INVALID_ARGUMENT', 'no such file or directory');
    assert.equal(existsSync(join(dir, 'nowhere')), false);
  });

  it('make a missing source, a directory, as the kubelet’s hostPath volumes need it', async () => {
    const missing = join(shared('missing'), 'not', 'there');
    const id = await start([{ containerPath: '/m', hostPath: missing }]);
    await sh(id, 'touch /m/file');
    assert.equal(statSync(missing).mode & 0o7777, 0o755);
    assert.ok(existsSync(join(missing, 'file')));
    writeFileSync(join(shared('missing'), 'file'), '');
    const mounts = [{ containerPath: '/m', hostPath: join(shared('missing'), 'file', 'below') }];
    await refused(node().create(await node().pod(), { mounts }), 'INVALID_ARGUMENT', /file\/below.*not a directory/);
  });

  it('of a directory on a file of the image, or the other way, are refused', async () => {
    const dir = shared('kinds');
    writeFileSync(join(dir, 'file'), '');
    const pod = await node().pod();
    for (const [containerPath, hostPath] of [
      ['/etc/passwd', dir],
      ['/etc', join(dir, 'file')],
    ] as const) {
      const mounts = [{ containerPath, hostPath }];
      await refused(node().create(pod, { mounts }), 'INVALID_ARGUMENT', `mount ${hostPath} at ${containerPath}`);
    }
  });

  it('take the place of standard mounts, and one at /dev that of all in it', async () => {
    const dev = shared('dev');
    writeFileSync(join(dev, 'only'), '');
    assert.equal(await sh(await start([{ containerPath: '/dev/', hostPath: dev }]), 'ls /dev'), 'only\n');
    const shm = shared('shm');
    writeFileSync(join(shm, 'file'), '');
    const id = await start([{ containerPath: '/dev/./shm', hostPath: shm }]);
    assert.equal(await sh(id, 'ls /dev/shm; grep -c " /dev/shm " /proc/mounts'), 'file\n1\n');
  });

  it('lie nowhere in /proc but where the kernel’s word may be replaced', async () => {
    const dir = shared('proc');
    writeFileSync(join(dir, 'cpuinfo'), 'fake\n');
    const id = await start([{ containerPath: '/proc/cpuinfo', hostPath: join(dir, 'cpuinfo') }]);
    assert.equal(await sh(id, 'cat /proc/cpuinfo'), 'fake\n');
    for (const containerPath of ['/proc/self/attr', '/proc/sys', '/x/../proc/1', '/proc', '/', '/..']) {
      const mounts = [{ containerPath, hostPath: dir }];
      await refused(node().create(await node().pod(), { mounts }), 'INVALID_ARGUMENT', 'container path');
    }
    assert.equal(readFileSync(join(dir, 'cpuinfo'), 'utf8'), 'fake\n');
  });

  it('do not copy the root of their own container into it', async () => {
    const id = await start([{ containerPath: '/host', hostPath: '/', readonly: true }]);
    assert.equal((await sh(id, `ls ${join('/host', node().daemon.state, 'containers', id, 'rootfs')}`)).trim(), '');
  });
});
