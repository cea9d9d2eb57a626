import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../support/image-builder';
import { MASKED_PATHS } from '../../src/oci/masked-paths';
import { assertLimits, cgroupDir, cgroupOf } from '../support/cgroup-files';
import { snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';

describe('what a container’s process sees', function () {
  this.timeout(30_000);
  const node = useNode();
  const env = { Env: ['PATH=/bin', 'A=image', 'B=image'] };
  const shared = (name: string) => {
    const dir = join(node().daemon.dir, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  };
  const sh = async (script: string, options: Record<string, unknown> = {}) => {
    const { stdout, stderr, status } = await node().run(['sh', '-c', script], options);
    assert.equal(status.exitCode, 0, stderr + status.message);
    return stdout;
  };

  it('is its command by the rules of command and args, entrypoint and cmd', async () => {
    const image = await node().pull(
      'entry',
      busyboxImage({ config: { ...env, Entrypoint: ['echo', 'E'], Cmd: ['c', 'd'] } }),
    );
    for (const [command, args, expected] of [
      [[], [], 'E c d'],
      [[], ['x'], 'E x'],
      [['echo', 'K'], [], 'K'],
      [['echo', 'K'], ['x', 'y z'], 'K x y z'],
    ] as const) {
      assert.equal((await node().run([...command], { image, args })).stdout, `${expected}\n`);
    }
    const empty = await node().pull('empty', busyboxImage({ config: {} }));
    await refused(node().run([], { image: empty }), 'INVALID_ARGUMENT', 'no command');
  });

  it('has arguments with spaces, newlines, quotes and nothing in them', async () => {
    const args = ['a b', 'c\nd', '', `"'$x`, 'ü'];
    const { stdout } = await node().run(['printf', '[%s]'], { args });
    assert.equal(Buffer.from(stdout, 'latin1').toString(), args.map(arg => `[${arg}]`).join(''));
  });

  it('has the environment of the image, over it the request’s, as bytes', async () => {
    const image = await node().pull('env', busyboxImage({ config: env }));
    const raw = Buffer.from([0xff, 0x80, 0x3d, 0x0a, 0xc3]);
    const { stdout } = await node().run(['cat', '/proc/self/environ'], {
      image,
      envs: [
        { key: 'B', value: Buffer.from('request') },
        { key: 'RAW', value: raw },
        { key: 'EMPTY', value: Buffer.alloc(0) },
        { key: 'B', value: Buffer.from('last') },
      ],
    });
    const entries = stdout.split('\0').slice(0, -1);
    assert.ok(entries.includes('A=image'));
    assert.deepEqual(
      entries.filter(entry => entry.startsWith('B=')),
      ['B=last'],
    );
    assert.ok(entries.includes(`RAW=${raw.toString('latin1')}`));
    assert.ok(entries.includes('EMPTY='));
    assert.ok(entries.includes('PATH=/bin'));
    assert.ok(entries.some(entry => entry.startsWith('HOSTNAME=pod-')));
    assert.equal(entries.filter(entry => /^(NODE|PWD|USER|NOTIFY)/.test(entry)).length, 0, 'nothing of the daemon’s');
    for (const key of ['', 'A=B']) {
      await refused(
        node().run(['true'], { envs: [{ key, value: Buffer.alloc(0) }] }),
        'INVALID_ARGUMENT',
        'environment',
      );
    }
  });

  it('is in its working directory, which is made when missing', async () => {
    const image = await node().pull('cwd', busyboxImage({ config: { ...env, WorkingDir: '/from/image' } }));
    assert.equal(await sh('pwd', { image }), '/from/image\n');
    assert.equal(await sh('pwd; ls -d ..', { image, workingDir: '/made/here' }), '/made/here\n..\n');
    assert.equal(await sh('pwd', {}), '/\n');
    await refused(
      node().run(['true'], { workingDir: '/bin/busybox' }),
      'INVALID_ARGUMENT',
      'working directory /bin/busybox',
    );
  });

  it('never has a working directory outside of its root', async () => {
    const pod = await node().pod();
    for (let fd = 0; fd < 40; fd++) {
      const workingDir = `/proc/self/fd/${fd}`;
      const look = ['sh', '-c', 'readlink /proc/self/cwd; ls ../../../../../etc/os-release 2>/dev/null; true'];
      const { stdout } = await node()
        .run(look, { pod, workingDir })
        .catch((error: Error) => {
          assert.match(error.message, /working directory/);
          return { stdout: '/\n' };
        });
      assert.equal(stdout, '/\n', workingDir);
    }
  });

  it('has descriptors 0, 1 and 2 and no others', async () => {
    const { stdout } = await node().run(['ls', '/proc/self/fd']);
    assert.deepEqual(stdout.trim().split('\n'), ['0', '1', '2', '3']); // 3: of ls itself
    const id = await node().start(await node().pod());
    assert.deepEqual(readdirSync(`/proc/${await node().pidOf(id)}/fd`).sort(), ['0', '1', '2']);
  });

  it('may write to its root, or not when that is asked for', async () => {
    assert.equal(await sh('echo x > /file && cat /file'), 'x\n');
    const security = { readonlyRootfs: true };
    const { stderr, status } = await node().run(['sh', '-c', 'touch /file || echo y > /dev/shm/file && touch /dev/x'], {
      security,
    });
    assert.match(stderr, /Read-only file system/);
    assert.equal(status.exitCode, 0);
  });

  it('has mounts of directories and files, writable or not', async () => {
    const dir = shared('mounts');
    writeFileSync(join(dir, 'file'), 'host\n');
    const mounts = [
      { containerPath: '/rw', hostPath: dir },
      { containerPath: '/ro/deep', hostPath: dir, readonly: true },
      { containerPath: '/etc/conf/one', hostPath: join(dir, 'file'), readonly: true },
    ];
    assert.equal(
      await sh('cat /ro/deep/file /etc/conf/one; echo new > /rw/new; cat /ro/deep/new', { mounts }),
      'host\nhost\nnew\n',
    );
    const { stderr } = await node().run(['sh', '-c', 'touch /ro/deep/x; echo x > /etc/conf/one'], { mounts });
    assert.equal(stderr.match(/Read-only file system/g)?.length, 2);
    assert.equal(readFileSync(join(dir, 'new'), 'utf8'), 'new\n');
  });

  it('has mounts with noexec, nosuid and nodev', async () => {
    const dir = shared('options');
    writeFileSync(join(dir, 'run'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
    const mounts = [{ containerPath: '/m', hostPath: dir, mountOptions: ['noexec', 'nosuid', 'nodev'] }];
    const { stderr } = await node().run(['sh', '-c', '/m/run'], { mounts });
    assert.match(stderr, /Permission denied/);
    assert.match(await sh('grep " /m " /proc/mounts', { mounts }), /nosuid,nodev,noexec/);
    await refused(
      node().run(['true'], { mounts: [{ ...mounts[0], mountOptions: ['suid'] }] }),
      'INVALID_ARGUMENT',
      'suid',
    );
  });

  it('mounts a read-only bind so that nothing below it is writable either', async () => {
    const dir = shared('nested');
    const id = await node().start(await node().pod(), {
      mounts: [{ containerPath: '/m', hostPath: '/dev', readonly: true }],
    });
    assert.ok(dir);
    // The mount itself is; what is mounted below it keeps its own flags, as the CRI has it without recursive_read_only.
    const { exitCode } = await node().client.call('ExecSync', {
      containerId: id,
      cmd: ['touch', '/m/berth-test-file'],
    });
    assert.notEqual(exitCode, 0);
    assert.equal(existsSync('/dev/berth-test-file'), false);
  });

  it('is refused when the source of a mount cannot be, and nothing is left of it', async () => {
    const pod = await node().pod();
    const before = snapshot(node().daemon);
    const mounts = [{ containerPath: '/m', hostPath: '/etc/passwd/place' }];
    await refused(node().create(pod, { mounts }), 'INVALID_ARGUMENT', /\/etc\/passwd\/place.*not a directory/);
    await node().assertNothingLeft(before);
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
    for (const wrong of [
      { containerPath: 'm', hostPath: '/tmp' },
      { containerPath: '/m', hostPath: 'tmp' },
    ]) {
      await refused(node().create(pod, { mounts: [wrong] }), 'INVALID_ARGUMENT', 'not absolute');
    }
  });

  it('does not follow a mount source’s container path out of the root', async () => {
    const dir = shared('escape');
    const target = shared('escape-target');
    const image = await node().pull(
      'links',
      busyboxImage({
        config: env,
        extraLayers: [
          [
            { path: 'out', type: 'symlink', link: target },
            { path: 'up', type: 'symlink', link: `../../../../../..${target}` },
            { path: 'dangling', type: 'symlink', link: '/not/there' },
          ],
        ],
      }),
    );
    const mounts = ['/out/a', '/up/b', '/dangling/c'].map(containerPath => ({ containerPath, hostPath: dir }));
    const seen = await sh(`ls -d ${target}/a ${target}/b /not/there/c`, { image, mounts });
    assert.equal(seen, `${target}/a\n${target}/b\n/not/there/c\n`.split('\n').sort().join('\n').trimStart() + '\n');
    assert.deepEqual(readdirSync(target), [], 'nothing was made on the host');
  });

  it('cannot see what is masked nor write what is read-only', async () => {
    const id = await node().start(await node().pod());
    const writable =
      'for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /sys/kernel/x; do (echo x > $f) 2>/dev/null && echo $f; done; true';
    assert.equal(await node().exec(id, ['sh', '-c', writable]), '');
    assert.equal(
      await node().exec(id, ['sh', '-c', 'cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c']),
      '0\n',
    );
    assert.equal(await node().exec(id, ['sh', '-c', 'ls /sys/firmware | wc -l']), '0\n');
    const asked = await node().start(await node().pod(), { security: { maskedPaths: ['/etc/group', '/home'] } });
    assert.equal(await node().exec(asked, ['sh', '-c', 'cat /etc/group; ls /home']), '');
  });

  it('cannot read a single one of the paths that are masked by default, where the host has them', async () => {
    const id = await node().start(await node().pod(), {
      security: { capabilities: { addCapabilities: ['SYS_ADMIN', 'SYS_PTRACE', 'SYSLOG'] } },
    });
    const thermal = readdirSync('/sys/devices/system/cpu').map(
      cpu => `/sys/devices/system/cpu/${cpu}/thermal_throttle`,
    );
    const paths = [...MASKED_PATHS, ...thermal].filter(path => existsSync(path));
    assert.ok(paths.length > 3);
    const script = `for p in ${paths.join(' ')}; do if [ -d $p ]; then find $p -mindepth 1; else cat $p; fi; done`;
    assert.equal(await node().exec(id, ['sh', '-c', script]), '');
  });

  it('has the devices of a container and no others', async () => {
    const devices = (await sh('cd /dev; ls')).trim().split('\n');
    assert.deepEqual(
      devices,
      'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero'.split(' '),
    );
    assert.equal(await sh('echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c'), '2\n3\n');
    const { stderr } = await node().run(['sh', '-c', 'mknod /tmp/k c 1 1 && head -c 1 /tmp/k']);
    assert.notEqual(stderr, '', 'the memory of the machine is not readable');
  });

  it('has the pod’s hostname, hosts and resolv.conf', async () => {
    const dnsConfig = { servers: ['10.0.0.10', '10.0.0.11'], searches: ['a.local', 'b.local'], options: ['ndots:5'] };
    const pod = await node().pod({ hostname: 'my-host', dnsConfig });
    assert.equal(await sh('hostname; cat /etc/hostname', { pod }), 'my-host\nmy-host\n');
    assert.match(await sh('cat /etc/hosts', { pod }), /^127\.0\.0\.1\s+localhost$[^]*my-host/m);
    assert.equal(
      await sh('cat /etc/resolv.conf', { pod }),
      'nameserver 10.0.0.10\nnameserver 10.0.0.11\nsearch a.local b.local\noptions ndots:5\n',
    );
    await refused(
      node().pod({ dnsConfig: { servers: ['1.1.1.1\nnameserver 6.6.6.6'] } }),
      'INVALID_ARGUMENT',
      'DNS server',
    );
  });

  it('gets a hosts file of the request’s instead of the pod’s', async () => {
    const dir = shared('hosts');
    writeFileSync(join(dir, 'hosts'), '1.2.3.4 other\n');
    const mounts = [{ containerPath: '/etc/hosts', hostPath: join(dir, 'hosts') }];
    assert.equal(await sh('cat /etc/hosts', { mounts }), '1.2.3.4 other\n');
  });

  it('has a loopback interface of its own', async () => {
    const out = await sh('ip -o link; ip -o -4 addr');
    assert.match(out, /lo: <LOOPBACK,UP/);
    assert.equal(out.match(/^\d+: \w+.*link\//gm)?.length, 1);
    // In it nobody needs to be privileged for a low port or a ping, as elsewhere.
    const settings = await sh('cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range');
    assert.match(settings, /^0\n0\s2147483647\n$/);
  });

  it('has the host’s network and name when that is asked for', async () => {
    const options = { network: 'NODE' };
    const pod = await node().pod({ linux: { securityContext: { namespaceOptions: options } } });
    const id = await node().start(pod, { security: { namespaceOptions: options } });
    assert.equal((await node().exec(id, ['readlink', '/proc/self/ns/net'])).trim(), readlinkSync('/proc/self/ns/net'));
    assert.equal(await node().exec(id, ['hostname']), `${hostname()}\n`);
    const abstract = await node().exec(id, ['sh', '-c', 'grep berth /proc/net/unix || true']);
    assert.doesNotMatch(abstract, /@/, 'no abstract socket of ours');
  });

  it('shares the pod’s PID namespace by default, and has one of its own with CONTAINER', async () => {
    const pod = await node().pod();
    const [one, two] = [
      await node().start(pod, { command: ['sleep', '701'] }),
      await node().start(pod, { command: ['sleep', '702'] }),
    ];
    assert.match(await node().exec(one, ['ps']), /sleep 702/);
    const options = { namespaceOptions: { pid: 'CONTAINER' } };
    const own = await node().pod({ linux: { securityContext: options } });
    const [alone, other] = [
      await node().start(own, { security: options }),
      await node().start(own, { security: options, command: ['sleep', '703'] }),
    ];
    assert.doesNotMatch(await node().exec(alone, ['ps']), /sleep 703/);
    assert.equal((await node().exec(alone, ['cat', '/proc/1/comm'])).trim(), 'sleep');
    assert.ok(two && other);
  });

  it('joins the PID namespace of the container that is to be debugged', async () => {
    const options = { namespaceOptions: { pid: 'CONTAINER' } };
    const pod = await node().pod({ linux: { securityContext: options } });
    const target = await node().start(pod, { security: options, command: ['sleep', '704'] });
    const debug = await node().start(pod, { security: { namespaceOptions: { pid: 'TARGET', targetId: target } } });
    assert.match(await node().exec(debug, ['ps']), /sleep 704/);
  });

  it('is in the host’s PID namespace when that is asked for', async () => {
    const options = { namespaceOptions: { pid: 'NODE' } };
    const pod = await node().pod({ linux: { securityContext: options } });
    const id = await node().start(pod, { security: options });
    assert.equal((await node().exec(id, ['readlink', '/proc/self/ns/pid'])).trim(), readlinkSync('/proc/self/ns/pid'));
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
  });

  it('shares /dev/shm and IPC within a pod and not beyond', async () => {
    const pod = await node().pod();
    const [one, two] = [await node().start(pod), await node().start(pod)];
    const stranger = await node().start(await node().pod());
    await node().exec(one, ['sh', '-c', 'echo shared > /dev/shm/file']);
    assert.equal(await node().exec(two, ['cat', '/dev/shm/file']), 'shared\n');
    assert.equal(await node().exec(stranger, ['sh', '-c', 'ls /dev/shm']), '');
    const ipc = ['readlink', '/proc/self/ns/ipc'];
    assert.equal(await node().exec(one, ipc), await node().exec(two, ipc));
    assert.notEqual(await node().exec(one, ipc), await node().exec(stranger, ipc));
  });

  it('has its limits', async () => {
    const resources = {
      memoryLimitInBytes: 64 << 20,
      cpuShares: 512,
      cpuQuota: 50_000,
      cpuPeriod: 100_000,
      cpusetCpus: '0',
    };
    const id = await node().start(await node().pod(), { resources });
    const path = await cgroupOf(node(), id);
    assertLimits(node(), path, { memory: 64 << 20, cpuShares: 512, cpuQuota: 50_000, cpus: '0' });
    for (const controller of ['memory', 'cpu', 'cpuset']) {
      const pids = readFileSync(join(cgroupDir(node(), controller, path), 'cgroup.procs'), 'utf8');
      assert.equal(pids, `${await node().pidOf(id)}\n`, controller);
    }
    assert.equal(await node().exec(id, ['nproc']), '1\n');
    assert.match(await node().exec(id, ['cat', '/proc/self/cgroup']), /(memory|^0:):\/$/m);
  });

  it('cannot write to the cgroups', async () => {
    const { stderr } = await node().run(['sh', '-c', 'mkdir /sys/fs/cgroup/x']);
    assert.notEqual(stderr, '');
  });

  it('does not let an image put its own links where the standard mounts go', async () => {
    const target = shared('standard');
    for (const name of ['dev', 'proc', 'sys']) {
      const image = await node().pull(
        'hostile',
        busyboxImage({ config: env, extraLayers: [[{ path: name, type: 'symlink', link: target }]] }),
      );
      const before = snapshot(node().daemon);
      const pod = await node().pod();
      await refused(node().create(pod, { image }), 'INTERNAL', /symbolic link/);
      await node().client.call('RemovePodSandbox', { podSandboxId: pod });
      await node().assertNothingLeft(before);
    }
    const image = await node().pull(
      'hostile',
      busyboxImage({ config: env, extraLayers: [[{ path: 'etc', type: 'symlink', link: target }]] }),
    );
    await node().run(['true'], { image });
    assert.deepEqual(readdirSync(target), []);
    symlinkSync('/', join(target, 'unused'));
  });
});
