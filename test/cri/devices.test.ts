import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spec } from '../../src/oci/spec';
import { refused, useNode } from '../support/node';

describe('devices of a container', function () {
  this.timeout(60_000);
  const node = useNode();
  const dirOf = (name: string) => {
    const dir = join(node().daemon.dir, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  };
  const mknod = (path: string, major: number, minor: number, mode = '640') =>
    execFileSync('mknod', ['-m', mode, path, 'c', String(major), String(minor)]);
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);
  const start = async (options: Record<string, unknown>) => node().start(await node().pod(), options);
  const specOf = async (id: string) => {
    const { info } = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
    return (JSON.parse(info['info'] ?? '{}') as { runtimeSpec?: Spec }).runtimeSpec;
  };

  it('are its own nodes: what it does to one is seen by no other container and not on the host', async () => {
    const before = statSync('/dev/null');
    const pod = await node().pod();
    const [one, two] = [await node().start(pod), await node().start(pod)];
    await sh(one, 'chmod 600 /dev/null /dev/zero; chown 5:6 /dev/full');
    const after = statSync('/dev/null');
    assert.deepEqual([after.mode, after.uid, after.gid], [before.mode, before.uid, before.gid]);
    assert.equal(await sh(one, 'stat -c "%a %u" /dev/null /dev/full'), '600 0\n666 5\n');
    assert.equal(await sh(two, 'stat -c "%a %u" /dev/null /dev/full'), '666 0\n666 0\n');
  });

  it('work, the standard ones', async () => {
    const id = await start({});
    const script =
      'echo x > /dev/null; for d in null zero full random urandom tty; do stat -c "%t:%T %a" /dev/$d; done; head -c 2 /dev/zero | wc -c';
    assert.equal(await sh(id, script), '1:3 666\n1:5 666\n1:7 666\n1:8 666\n1:9 666\n5:0 666\n2\n');
  });

  it('are those of the request, at the place that it names, with the owner and mode of the host’s', async () => {
    const dir = dirOf('request');
    mknod(join(dir, 'zero'), 1, 5);
    symlinkSync('zero', join(dir, 'link'));
    const id = await start({
      devices: [
        { hostPath: join(dir, 'link'), containerPath: '/dev/my/zero', permissions: 'rw' },
        { hostPath: '/dev/full', containerPath: '/opt/full', permissions: 'rwm' },
      ],
    });
    assert.equal(await sh(id, 'stat -c "%t:%T %a %F" /dev/my/zero'), '1:5 640 character special file\n');
    assert.equal(await sh(id, 'head -c 3 /dev/my/zero | wc -c; echo x > /opt/full || echo full'), '3\nfull\n');
  });

  it('are all of a directory when that is asked for', async () => {
    const dir = dirOf('directory');
    mkdirSync(join(dir, 'deep'));
    mknod(join(dir, 'one'), 1, 5);
    mknod(join(dir, 'deep', 'two'), 1, 7);
    writeFileSync(join(dir, 'file'), '');
    const id = await start({ devices: [{ hostPath: dir, containerPath: '/dev/all', permissions: 'r' }] });
    assert.equal(await sh(id, 'cd /dev/all; find . -type c | sort; ls'), './deep/two\n./one\ndeep\none\n');
  });

  it('are refused with a reason when they are none', async () => {
    const pod = await node().pod();
    const dir = dirOf('none');
    writeFileSync(join(dir, 'file'), '');
    const device = { hostPath: '/dev/zero', containerPath: '/dev/x', permissions: 'rwm' };
    for (const [wrong, why] of [
      [{ hostPath: '/dev/not-there' }, 'ENOENT'],
      [{ hostPath: join(dir, 'file') }, 'no device'],
      [{ hostPath: dir }, 'no directory with devices'],
      [{ hostPath: 'dev/zero' }, 'not absolute'],
      [{ containerPath: 'x' }, 'not absolute'],
      [{ permissions: '' }, 'permissions ""'],
      [{ permissions: 'rx' }, 'permissions "rx"'],
    ] as const) {
      await refused(node().create(pod, { devices: [{ ...device, ...wrong }] }), 'INVALID_ARGUMENT', why);
    }
  });

  it('have rules for the device cgroup: nothing, then what is standard, then what is asked for', async () => {
    const devices = [{ hostPath: '/dev/kmsg', containerPath: '/dev/log', permissions: 'mr' }];
    const spec = await specOf(await start({ devices }));
    const rules = spec?.linux.resources.devices ?? [];
    assert.deepEqual(rules[0], { allow: false, type: 'a', access: 'rwm' });
    assert.ok(rules.some(rule => rule.allow && rule.major === 1 && rule.minor === 3 && rule.access === 'rwm'));
    assert.deepEqual(rules.at(-1), { allow: true, type: 'c', major: 1, minor: 11, access: 'rm' });
    const privileged = await specOf(await start({ security: { privileged: true } }));
    assert.deepEqual(privileged?.linux.resources.devices, [{ allow: true, type: 'a', access: 'rwm' }]);
  });

  it('are all of the host’s for a privileged container, and its own nodes even so', async () => {
    const id = await start({ security: { privileged: true } });
    const theirs = new Set((await sh(id, 'cd /dev; find . -type c -o -type b')).trim().split('\n'));
    const hosts = execFileSync('find', ['.', '-type', 'c', '-o', '-type', 'b'], { cwd: '/dev', encoding: 'utf8' });
    const missing = hosts
      .trim()
      .split('\n')
      .filter(path => !/^\.\/(pts|shm|mqueue)\/|^\.\/(console|ptmx)$/.test(path) && !theirs.has(path));
    assert.deepEqual(missing, []);
    const before = statSync('/dev/zero').mode;
    await sh(id, 'chmod 600 /dev/zero; mknod /dev/mine c 1 5; head -c 1 /dev/mine | wc -c');
    assert.equal(statSync('/dev/zero').mode, before);
  });

  it('are there in no other number than a launch needs: the daemon keeps none', async () => {
    const id = await start({});
    const mountinfo = readFileSync(`/proc/${node().daemon.holderPid}/mountinfo`, 'utf8');
    assert.doesNotMatch(mountinfo, new RegExp(`containers/${id}`));
  });
});

describe('the cgroup tree that a container sees', function () {
  this.timeout(60_000);
  const node = useNode();
  const start = async (security: Record<string, unknown> = {}) => node().start(await node().pod(), { security });
  const sh = (id: string, script: string) => node().exec(id, ['sh', '-c', script]);

  it('begins at its own cgroup and is read-only', async () => {
    const id = await start({ capabilities: { addCapabilities: ['ALL'] } });
    assert.match(await sh(id, 'cat /proc/self/cgroup'), /^(\d+:[^:]*:\/(\n|$))+$/);
    const files = await sh(id, 'find /sys/fs/cgroup -name cgroup.procs -o -name tasks | sort');
    assert.ok(files.split('\n').length > 1, files);
    const pids = await sh(id, 'cat $(find /sys/fs/cgroup -name cgroup.procs | head -n 1)');
    assert.match(pids, /^1$|^\d+$/m);
    const write =
      'for d in $(find /sys/fs/cgroup -type d); do mkdir $d/x 2>/dev/null && echo made $d; done; for f in $(find /sys/fs/cgroup -name cgroup.procs); do (echo $$ > $f) 2>/dev/null && echo wrote $f; done; true';
    assert.equal(await sh(id, write), '');
  });

  it('shows every hierarchy with controllers, by its name', async () => {
    const id = await start();
    const hierarchies = readFileSync('/proc/self/cgroup', 'utf8')
      .trim()
      .split('\n')
      .map(line => line.split(':')[1] ?? '')
      .filter(name => name !== '')
      .map(name => name.replace('name=', ''));
    if (hierarchies.length === 0) {
      assert.match(await sh(id, 'cat /proc/mounts'), /^\S+ \/sys\/fs\/cgroup cgroup2 ro,/m);
      return;
    }
    const names = (await sh(id, 'ls /sys/fs/cgroup')).trim().split('\n');
    for (const name of hierarchies) assert.ok(names.includes(name), `${name} of ${names.join(' ')}`);
    assert.ok(names.includes('memory'));
    assert.match(await sh(id, 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes'), /^\d+$/m);
  });

  it('is writable, and the host’s, for a privileged container', async () => {
    const id = await start({ privileged: true });
    const [controller = ''] = (await sh(id, 'cat /proc/self/cgroup')).split('\n').filter(line => /:\/.+/.test(line));
    assert.match(controller, new RegExp(id), 'it knows where it is in the host’s tree');
    assert.doesNotMatch(await sh(id, 'grep " /sys/fs/cgroup" /proc/mounts'), /\bro,/);
  });
});
