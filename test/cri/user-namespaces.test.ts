import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { busyboxImage, type TarEntry } from '../support/image-builder';
import { snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';
import { connectRemote } from '../support/remote';

/** Ids 0 to 65535 of the container's; users and groups apart, so that nothing mixes them up. */
const UID = 300_000;
const GID = 500_000;
const COUNT = 65_536;

type Mode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';
interface Mapping {
  containerId: number;
  hostId: number;
  length: number;
}

const mapping = (hostId: number, length = COUNT, containerId = 0): Mapping => ({ containerId, hostId, length });
const uids = [mapping(UID)];
const gids = [mapping(GID)];
const usernsOptions = { mode: 'POD' as Mode, uids, gids };
const env = { Env: ['PATH=/bin'] };

/** Prints its real and effective user and the capabilities in effect. */
const probe = `
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    printf("%d %d ", (int)getuid(), (int)geteuid());
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "CapEff:\\t", 8) == 0)
            fputs(line + 8, stdout);
    return 0;
}
`;

describe('containers in a user namespace', function () {
  this.timeout(60_000);
  const node = useNode();

  const asked = (options: Record<string, unknown> = {}) => ({ usernsOptions, ...options });
  const pod = (options: Record<string, unknown> = {}, linux: Record<string, unknown> = {}) =>
    node().pod({ linux: { securityContext: { namespaceOptions: asked(options) }, ...linux } });
  type Options = Record<string, unknown> & { namespaces?: Record<string, unknown>; security?: Record<string, unknown> };
  /** As the kubelet sends them, with procMount Default. */
  const paths = {
    maskedPaths: ['/proc/keys', '/proc/kcore', '/sys/firmware'],
    readonlyPaths: ['/proc/sys', '/proc/bus'],
  };
  const settings = ({ namespaces, security, ...more }: Options = {}) => ({
    security: { namespaceOptions: asked(namespaces), ...paths, ...security },
    ...more,
  });
  const start = async (options: Options = {}, inPod?: string) =>
    node().start(inPod ?? (await pod(options.namespaces)), settings(options));
  const run = async (script: string, options: Options = {}, inPod?: string) => {
    const ran = await node().run(['sh', '-c', script], {
      pod: inPod ?? (await pod(options.namespaces)),
      ...settings(options),
    });
    return { ...ran, all: ran.stdout + ran.stderr };
  };
  const sh = async (script: string, options: Options = {}, inPod?: string) => {
    const { stdout, stderr, status } = await run(script, options, inPod);
    assert.equal(status.exitCode, 0, `${script}: ${stdout}${stderr}${status.message}`);
    return stdout;
  };
  const dir = (name: string) => {
    const path = join(node().daemon.dir, name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const upperOf = (id: string) => join(node().daemon.root, 'containers', id, 'upper');
  const owner = (path: string) => [statSync(path).uid, statSync(path).gid];
  const mapped = { uidMappings: uids, gidMappings: gids };
  const inHolder = (...command: string[]) =>
    execFileSync('nsenter', [`--mount=/proc/${node().daemon.holderPid}/ns/mnt`, ...command], { encoding: 'utf8' });

  describe('whose namespaces they are', () => {
    const types = ['net', 'ipc', 'uts', 'pid', 'mnt', 'cgroup', 'user'] as const;
    /** Inode and owner of each, as the kernel says. */
    const namespacesOf = (pid: number) =>
      Object.fromEntries(
        execFileSync('lsns', ['-n', '-o', 'TYPE,NS,ONS', '-p', String(pid)], { encoding: 'utf8' })
          .trim()
          .split('\n')
          .map(line => line.trim().split(/\s+/))
          .map(([type = '', inode = '', by = '']) => [type, { inode, by }]),
      ) as Record<(typeof types)[number], { inode: string; by: string }>;
    const own = namespacesOf(process.pid);

    for (const pid of ['POD', 'CONTAINER'] as const) {
      it(`belong to the pod’s, in which all of its containers are, with pid ${pid}`, async () => {
        const inPod = await pod({ pid });
        const ids = [await start({ namespaces: { pid } }, inPod), await start({ namespaces: { pid } }, inPod)];
        const [one, two] = [namespacesOf(await node().pidOf(ids[0]!)), namespacesOf(await node().pidOf(ids[1]!))];
        assert.notEqual(one.user.inode, own.user.inode);
        assert.equal(one.user.inode, two.user.inode);
        assert.equal(one.user.by, own.user.inode);
        for (const type of types.filter(name => name !== 'user')) {
          assert.equal(one[type].by, one.user.inode, `${type} belongs to the pod's user namespace`);
          assert.notEqual(one[type].inode, own[type].inode, type);
        }
        const { inode } = namespacesOf(await node().pidOf(await start({ namespaces: { pid } }))).user;
        assert.notEqual(inode, one.user.inode, 'another pod has another one');
      });
    }

    it('are pinned with the pod’s, and go with it', async () => {
      const id = await pod();
      const pins = () =>
        inHolder('cat', '/proc/self/mountinfo')
          .split('\n')
          .filter(line => / user:\[\d+\] /.test(line));
      assert.equal(pins().length, 1);
      await node().client.call('StopPodSandbox', { podSandboxId: id });
      assert.equal(pins().length, 0);
    });

    it('are joined by a command, all of them', async () => {
      const id = await start();
      const seen = await node().exec(id, [
        'sh',
        '-c',
        `cd /proc/self/ns; for n in ${types.join(' ')}; do readlink $n; done`,
      ]);
      const pid = await node().pidOf(id);
      assert.deepEqual(
        seen.trim().split('\n'),
        types.map(type => readlinkSync(`/proc/${pid}/ns/${type}`)),
      );
      assert.match(await node().exec(id, ['cat', '/proc/self/uid_map']), /^\s*0\s+300000\s+65536\n$/);
      assert.match(await node().exec(id, ['cat', '/proc/self/gid_map']), /^\s*0\s+500000\s+65536\n$/);
      assert.equal(await node().exec(id, ['cat', '/proc/self/setgroups']), 'allow\n');
      assert.equal(await node().exec(id, ['sh', '-c', 'id -u; id -g; id -G']), '0\n0\n0\n');
    });

    it('are joined by a container that debugs another of the pod', async () => {
      const inPod = await pod({ pid: 'CONTAINER' });
      const target = await start({ namespaces: { pid: 'CONTAINER' }, command: ['sleep', '721'] }, inPod);
      const debug = await start({ namespaces: { pid: 'TARGET', targetId: target } }, inPod);
      const [one, two] = [namespacesOf(await node().pidOf(debug)), namespacesOf(await node().pidOf(target))];
      assert.deepEqual([one.user, one.pid], [two.user, two.pid]);
      assert.match(await node().exec(debug, ['ps']), /sleep 721/);
      await node().exec(debug, ['kill', '-9', '1']);
      assert.equal((await node().status(target)).state, 'CONTAINER_RUNNING', 'init is shielded from inside');
    });

    it('let it be root of its own: name, network and memory, not the host’s', async () => {
      const security = { capabilities: { addCapabilities: ['SYS_ADMIN', 'NET_ADMIN'] } };
      assert.equal(
        await sh('hostname other && hostname && ip link set lo down && ip link set lo up && echo up', { security }),
        'other\nup\n',
      );
      const { stderr, status } = await run('echo 1 > /proc/sys/vm/drop_caches', { security });
      assert.notEqual(status.exitCode, 0, stderr);
    });
  });

  describe('what is refused', () => {
    const podWith = (options: unknown) => node().pod({ linux: { securityContext: { namespaceOptions: options } } });
    const table: [string, object, RegExp][] = [
      ['no mapping', { uids: [], gids: [] }, /userns_options.uids: there must be one mapping, and there are 0/],
      ['no mapping of groups', { gids: [] }, /userns_options.gids: there must be one mapping, and there are 0/],
      [
        'two mappings',
        { uids: [mapping(UID, 10), mapping(UID + 10, 10, 10)] },
        /uids: there must be one mapping, and there are 2/,
      ],
      [
        'two mappings of groups',
        { gids: [mapping(1, 1), mapping(1, 1)] },
        /gids: there must be one mapping, and there are 2/,
      ],
      ['root not mapped', { uids: [mapping(UID, COUNT, 1)] }, /uids: id 0 of the container is not mapped/],
      ['root’s group not mapped', { gids: [mapping(GID, COUNT, 1)] }, /gids: id 0 of the container is not mapped/],
      ['no ids', { uids: [mapping(UID, 0)] }, /uids: the mapping has a length of 0/],
      [
        'ids past the last',
        { uids: [mapping(4_294_967_290, 10)] },
        /uids: host ids 4294967290 to 4294967299 go past the last/,
      ],
      ['the id that is none', { gids: [mapping(4_294_967_295, 1)] }, /gids: host ids 4294967295 to 4294967295 go past/],
      ['all of them twice', { uids: [mapping(1, 4_294_967_295)] }, /uids: host ids 1 to 4294967295 go past/],
      ['mode CONTAINER', { mode: 'CONTAINER' }, /userns_options: CONTAINER is not possible/],
      ['mode TARGET', { mode: 'TARGET' }, /userns_options: TARGET is not possible/],
      ['mode NODE with mappings', { mode: 'NODE' }, /mode NODE is the user namespace of the node/],
    ];
    for (const [what, options, says] of table) {
      it(`${what}, for a pod`, async () => {
        const before = snapshot(node().daemon);
        await refused(podWith({ usernsOptions: { ...usernsOptions, ...options } }), 'INVALID_ARGUMENT', says);
        await node().assertNothingLeft(before);
      });
    }

    it('the node’s PID or IPC namespace beside it', async () => {
      await refused(pod({ pid: 'NODE' }), 'INVALID_ARGUMENT', "cannot have the node's pid namespace");
      await refused(pod({ ipc: 'NODE' }), 'INVALID_ARGUMENT', "cannot have the node's ipc namespace");
      await refused(
        start({ namespaces: { pid: 'NODE' } }, await pod()),
        'INVALID_ARGUMENT',
        "the node's PID namespace",
      );
    });

    it('a container with another user namespace than its pod’s', async () => {
      const inPod = await pod();
      for (const other of [
        { ...usernsOptions, uids: [mapping(UID + 1)] },
        { ...usernsOptions, gids: [mapping(GID, COUNT - 1)] },
        { mode: 'NODE' },
      ]) {
        await refused(
          node().create(inPod, { security: { namespaceOptions: { usernsOptions: other } } }),
          'INVALID_ARGUMENT',
          'another user namespace',
        );
      }
      const plain = await node().pod();
      await refused(node().create(plain, settings()), 'INVALID_ARGUMENT', 'another user namespace');
      const id = await node().start(inPod);
      assert.match(
        await node().exec(id, ['cat', '/proc/self/uid_map']),
        /300000/,
        'one that asks for none has the pod’s',
      );
    });

    it('users and groups that it does not have', async () => {
      const small = { ...usernsOptions, uids: [mapping(UID, 1001)], gids: [mapping(GID, 1001)] };
      const inPod = await podWith({ usernsOptions: small });
      const create = (security: object) =>
        node().create(inPod, { security: { namespaceOptions: { usernsOptions: small }, ...security } });
      await refused(
        create({ runAsUser: { value: 1001 } }),
        'INVALID_ARGUMENT',
        "user 1001 is not in the pod's user namespace, which has ids 0 to 1000",
      );
      await refused(create({ runAsUsername: 'nobody' }), 'INVALID_ARGUMENT', 'user 65534 is not');
      await refused(
        create({ runAsUser: { value: 5 }, runAsGroup: { value: 2000 } }),
        'INVALID_ARGUMENT',
        'group 2000 is not',
      );
      await refused(create({ supplementalGroups: [1, 1001] }), 'INVALID_ARGUMENT', 'group 1001 is not');
      await refused(create({ runAsUser: { value: 1000 } }), 'INVALID_ARGUMENT', 'group 2000 is not');
      const id = await create({
        runAsUser: { value: 1000 },
        runAsGroup: { value: 1000 },
        supplementalGroupsPolicy: 'Strict',
      });
      await node().client.call('StartContainer', { containerId: id });
      assert.equal(await node().exec(id, ['sh', '-c', 'id -u; id -G']), '1000\n1000\n');
    });

    it('mounts with other mappings, or with mappings and no user namespace', async () => {
      const hostPath = dir('refused');
      const mount = (more: object) => ({ mounts: [{ hostPath, containerPath: '/m', ...more }] });
      const create = async (more: object) => node().create(await pod(), { ...settings(), ...mount(more) });
      await refused(
        create({ uidMappings: uids }),
        'INVALID_ARGUMENT',
        'mount at /m: gidMappings: there must be one mapping',
      );
      await refused(
        create({ ...mapped, uidMappings: [mapping(UID, 5)] }),
        'INVALID_ARGUMENT',
        /mount at \/m: its uidMappings and gidMappings are not those of the pod's/,
      );
      await refused(create({ uidMappings: [...uids, ...uids], gidMappings: gids }), 'INVALID_ARGUMENT', 'there are 2');
      await refused(node().create(await node().pod(), mount(mapped)), 'INVALID_ARGUMENT', 'the pod has none');
      await refused(
        create({ propagation: 'PROPAGATION_BIDIRECTIONAL' }),
        'INVALID_ARGUMENT',
        'cannot mount anything on the host',
      );
    });
  });

  describe('whose files they have', () => {
    it('their root owns what root owns in the image, and a file made inside has its owner on the host', async () => {
      const extraLayers: TarEntry[][] = [
        [
          { path: 'srv/', type: 'dir', uid: 1000, gid: 2000, mode: 0o750 },
          { path: 'srv/data', data: 'image', uid: 1000, gid: 2000, mode: 0o640 },
        ],
      ];
      const image = await node().pull('owned', busyboxImage({ config: env, extraLayers }));
      const id = await start({ image });
      const look = (path: string) => node().exec(id, ['stat', '-c', '%u %g', path]);
      for (const path of [
        '/',
        '/bin/busybox',
        '/etc/passwd',
        '/dev',
        '/dev/pts',
        '/dev/shm',
        '/etc/hosts',
        '/etc/resolv.conf',
      ])
        assert.equal(await look(path), '0 0\n', path);
      assert.equal(await look('/srv/data'), '1000 2000\n');
      await node().exec(id, ['sh', '-c', 'echo x > /made; echo more >> /srv/data; mkdir /tmp/d; chown 7:8 /tmp/d']);
      assert.equal(await look('/srv/data'), '1000 2000\n');
      assert.deepEqual(owner(join(upperOf(id), 'made')), [UID, GID]);
      assert.deepEqual(owner(join(upperOf(id), 'srv/data')), [UID + 1000, GID + 2000]);
      assert.deepEqual(owner(join(upperOf(id), 'srv')), [UID + 1000, GID + 2000]);
      assert.deepEqual(owner(join(upperOf(id), 'tmp/d')), [UID + 7, GID + 8]);
      assert.deepEqual(owner(upperOf(id)), [UID, GID]);
      const other = await node().start(await node().pod(), { image });
      assert.equal(await node().exec(other, ['cat', '/srv/data']), 'image', 'the layer is as it was');
      assert.equal(await node().exec(other, ['stat', '-c', '%u %g', '/srv/data']), '1000 2000\n');
    });

    it('are written by any of their users', async () => {
      const security = { runAsUser: { value: 1000 }, runAsGroup: { value: 50 }, supplementalGroups: [60] };
      const id = await start({ security });
      assert.equal(
        await node().exec(id, ['sh', '-c', 'id -u; id -g; id -G; touch /tmp/mine; echo x > /dev/shm/mine']),
        '1000\n50\n50 60 2000\n',
      );
      assert.deepEqual(owner(join(upperOf(id), 'tmp/mine')), [UID + 1000, GID + 50]);
      assert.deepEqual((await node().status(id)).user?.linux, {
        uid: '1000',
        gid: '50',
        supplementalGroups: ['50', '60', '2000'],
      });
      const status = readFileSync(`/proc/${await node().pidOf(id)}/status`, 'utf8');
      assert.match(status, new RegExp(`^Uid:\\t${UID + 1000}\\t`, 'm'));
    });

    it('have streams that they can open again, as any user', async () => {
      for (const security of [{}, { runAsUser: { value: 1000 } }]) {
        const script = 'echo out > /dev/stdout; echo err > /dev/stderr';
        const { stdout, stderr, status } = await run(script, { security });
        assert.deepEqual([stdout, stderr, status.exitCode], ['out\n', 'err\n', 0]);
        const id = await start({ security });
        assert.equal(await node().exec(id, ['sh', '-c', `${script}; echo $?`]), 'out\n0\n');
      }
    });

    it('get their mount points and working directory made as their own root’s', async () => {
      const hostPath = dir('points');
      const id = await start({ mounts: [{ hostPath, containerPath: '/made/by/mount' }], workingDir: '/made/as/cwd' });
      for (const path of ['made', 'made/by', 'made/by/mount', 'made/as/cwd'])
        assert.deepEqual(owner(join(upperOf(id), path)), [UID, GID], path);
      await node().client.call('ExecSync', { containerId: id, cmd: ['true'] });
    });

    it('have the devices that are asked for, with the rights that these give to everybody', async () => {
      const devices = [
        { hostPath: '/dev/zero', containerPath: '/dev/asked', permissions: 'rw' },
        { hostPath: '/dev/kmsg', containerPath: '/dev/closed', permissions: 'rw' },
      ];
      const { stdout, stderr } = await run(
        'head -c 2 /dev/asked | wc -c; head -c 1 /dev/closed; chmod 777 /dev/closed',
        { devices },
      );
      assert.equal(stdout, '2\n');
      assert.match(stderr, /\/dev\/closed.*(denied|not permitted)[^]*(not permitted|denied)/i);
    });

    it('have the standard file systems and devices', async () => {
      const mounts = await sh('cat /proc/mounts');
      for (const [path, type] of [
        ['/proc', 'proc'],
        ['/dev', 'tmpfs'],
        ['/dev/pts', 'devpts'],
        ['/dev/mqueue', 'mqueue'],
        ['/dev/shm', 'tmpfs'],
        ['/sys', 'sysfs'],
      ] as const) {
        assert.match(mounts, new RegExp(`^\\S+ ${path} ${type} `, 'm'));
      }
      assert.equal(
        await sh(
          'echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; ls /dev/mqueue; cat /proc/self/comm',
        ),
        '2\n3\ncat\n',
      );
      assert.equal(await sh('cut -d : -f 3 /proc/self/cgroup | sort -u'), '/\n', 'the cgroup namespace is its own');
      assert.equal(await sh('ls /sys/firmware | wc -l; cat /proc/keys | wc -c'), '0\n0\n', 'masked');
      assert.notEqual((await run('echo x > /proc/sys/kernel/hostname')).stderr, '', 'read-only');
      const security = { readonlyRootfs: true };
      assert.match((await run('touch /x', { security })).stderr, /Read-only/);
    });

    it('read the pod’s hostname, hosts and resolv.conf, and as root may change the hosts', async () => {
      const dnsConfig = { servers: ['10.0.0.10'] };
      const namespaceOptions = asked();
      const inPod = await node().pod({
        hostname: 'inside',
        dnsConfig,
        linux: { securityContext: { namespaceOptions } },
      });
      const script = 'hostname; cat /etc/hostname /etc/resolv.conf; grep -c inside /etc/hosts';
      const expected = 'inside\ninside\nnameserver 10.0.0.10\n1\n';
      assert.equal(await sh(script, {}, inPod), expected);
      assert.equal(await sh(script, { security: { runAsUser: { value: 1000 } } }, inPod), expected);
      assert.equal(await sh('echo 1.2.3.4 added >> /etc/hosts && tail -n 1 /etc/hosts', {}, inPod), '1.2.3.4 added\n');
      assert.notEqual(
        (await run('echo x >> /etc/hosts', { security: { runAsUser: { value: 1000 } } }, inPod)).status.exitCode,
        0,
      );
    });

    it('share /dev/shm and IPC with their pod', async () => {
      const inPod = await pod();
      const [one, two] = [await start({}, inPod), await start({ security: { runAsUser: { value: 1000 } } }, inPod)];
      await node().exec(one, ['sh', '-c', 'echo shared > /dev/shm/file']);
      assert.equal(await node().exec(two, ['cat', '/dev/shm/file']), 'shared\n');
      assert.equal(await node().exec(two, ['stat', '-c', '%u %g', '/dev/shm/file']), '0 0\n');
    });

    it('have the pod’s sysctls', async () => {
      const sysctls = {
        'net.ipv4.ip_unprivileged_port_start': '77',
        'kernel.shm_rmid_forced': '1',
        'net.core.somaxconn': '99',
      };
      const inPod = await pod({}, { sysctls });
      const files = Object.keys(sysctls).map(name => `/proc/sys/${name.replaceAll('.', '/')}`);
      assert.equal(await sh(`cat ${files.join(' ')}`, {}, inPod), '77\n1\n99\n');
    });

    it('stand on many layers', async () => {
      const extraLayers = Array.from({ length: 30 }, (_, i): TarEntry[] => [{ path: `layer-${i}`, data: String(i) }]);
      const image = await node().pull('deep', busyboxImage({ config: env, extraLayers }));
      assert.equal(await sh('cat /layer-0 /layer-29; stat -c %u /layer-7', { image }), '0290\n');
    });
  });

  describe('what their root cannot do', () => {
    const powerful = { capabilities: { addCapabilities: ['ALL'] } };

    it('write a file of the host’s root, or read one that is not for everybody', async () => {
      const hostPath = dir('hostile');
      writeFileSync(join(hostPath, 'file'), 'host');
      writeFileSync(join(hostPath, 'secret'), 'secret', { mode: 0o600 });
      for (const security of [{}, powerful, { privileged: true }]) {
        const { all } = await run(
          'cat /m/file; echo; stat -c %u /m/file; echo x > /m/file; touch /m/new; rm -f /m/file; chown 0 /m/file; chmod 777 /m/file; cat /m/secret',
          { security, mounts: [{ hostPath, containerPath: '/m' }] },
        );
        assert.match(all, /^host\n65534\n/);
        assert.doesNotMatch(all, /^secret/m);
        assert.equal(readFileSync(join(hostPath, 'file'), 'utf8'), 'host');
        assert.deepEqual(readdirSync(hostPath).sort(), ['file', 'secret']);
        assert.deepEqual(owner(join(hostPath, 'file')), [0, 0]);
      }
    });

    it('gain anything on the host by setuid and file capabilities, which work inside', async () => {
      const program = join(dir('probe'), 'probe');
      execFileSync('musl-gcc', ['-static', '-Os', '-o', program, '-x', 'c', '-'], { input: probe });
      const data = readFileSync(program);
      const capability = Buffer.alloc(20);
      capability.writeUInt32LE(0x02000001, 0);
      capability.writeUInt32LE(1 << 10, 4); // NET_BIND_SERVICE
      const extraLayers: TarEntry[][] = [
        [
          { path: 'bin/plain', data, mode: 0o755 },
          { path: 'bin/setuid', data, mode: 0o4755 },
          { path: 'bin/setuid-user', data, mode: 0o4755, uid: 33 },
          { path: 'bin/capable', data, mode: 0o755, pax: { 'SCHILY.xattr.security.capability': capability } },
        ],
      ];
      const image = await node().pull('setuid', busyboxImage({ config: env, extraLayers }));
      const security = { runAsUser: { value: 1000 } };
      const id = await start({ image, security });
      const none = '0000000000000000';
      assert.equal(await node().exec(id, ['plain']), `1000 1000 ${none}\n`);
      assert.match(await node().exec(id, ['setuid']), /^1000 0 [0-9a-f]*[1-9a-f][0-9a-f]*\n$/);
      assert.equal(await node().exec(id, ['setuid-user']), `1000 33 ${none}\n`);
      assert.equal(await node().exec(id, ['capable']), '1000 1000 0000000000000400\n');
      // A setuid program that their root made, on a volume: whoever runs it on the host is the mapped user.
      const hostPath = dir('setuid-volume');
      chmodSync(hostPath, 0o777);
      await sh('cp /bin/plain /m/made && chmod 4755 /m/made', { image, mounts: [{ hostPath, containerPath: '/m' }] });
      assert.deepEqual(owner(join(hostPath, 'made')), [UID, GID]);
    });

    it('make device nodes, or use those that an image brings', async () => {
      const extraLayers: TarEntry[][] = [
        [
          { path: 'dev-null', type: 'char', major: 1, minor: 3, mode: 0o666 },
          { path: 'kmsg', type: 'char', major: 1, minor: 11, mode: 0o666 },
        ],
      ];
      const image = await node().pull('nodes', busyboxImage({ config: env, extraLayers }));
      for (const security of [{}, powerful, { privileged: true }]) {
        const script =
          'mknod /tmp/null c 1 3; mount -o remount,bind,dev / ; echo x > /dev-null; cat /dev-null; mount -t tmpfs t /tmp && mknod /tmp/null c 1 3; echo x > /dev/null && echo fine';
        const { stdout, stderr } = await run(script, { image, security });
        assert.equal(stdout, 'fine\n');
        assert.equal(
          stderr.match(/mknod: \/tmp\/null: Operation not permitted/g)?.length,
          security === powerful || 'privileged' in security ? 2 : 1,
          stderr,
        );
        assert.equal(stderr.match(/can't (create|open) '?\/dev-null'?: (Permission denied)/g)?.length, 2, stderr);
      }
    });

    it('make a read-only volume writable, or clear nosuid and noexec', async () => {
      const hostPath = dir('locked');
      chmodSync(hostPath, 0o777);
      writeFileSync(join(hostPath, 'run'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
      const mounts = [{ hostPath, containerPath: '/m', readonly: true, mountOptions: ['noexec', 'nosuid'], ...mapped }];
      for (const security of [powerful, { privileged: true }]) {
        const script =
          'for o in rw exec suid dev; do mount -o remount,bind,$o /m && echo $o; done; touch /m/x; /m/run; mkdir /n; mount --bind /m /n; mount -o remount,bind,rw /n; touch /n/x';
        const { stdout, stderr } = await run(script, { security, mounts });
        assert.equal(stdout, '', stderr);
        assert.deepEqual(readdirSync(hostPath), ['run']);
      }
    });

    it('write to the host’s cgroups, or make one', async () => {
      for (const security of [{}, powerful, { privileged: true }]) {
        const script =
          'for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $d 2>/dev/null; mkdir $d/x && echo $d; echo 1 > $d/release_agent && echo $d; echo 1 > $d/cgroup.procs && echo $d; done; true';
        const id = await start({ security });
        const made = (await node().exec(id, ['sh', '-c', `(${script}) 2>/dev/null`])).trim().split('\n');
        // Of the tmpfs that holds the hierarchies it may well be the owner.
        assert.deepEqual(
          made.filter(path => path !== '' && path !== '/sys/fs/cgroup'),
          [],
        );
      }
    });

    it('see a process of the host’s, or signal it', async () => {
      for (const pid of ['POD', 'CONTAINER']) {
        const id = await start({ namespaces: { pid }, security: powerful });
        assert.equal(
          await node().exec(id, [
            'sh',
            '-c',
            `ls -d /proc/${process.pid} 2>/dev/null | wc -l; ls /proc/1/root/run/ 2>/dev/null | wc -l`,
          ]),
          '0\n0\n',
        );
      }
    });

    it('change the host by being privileged', async () => {
      const security = { privileged: true };
      const { stdout } = await run('grep CapEff /proc/self/status; sed -n 1p /proc/self/uid_map', { security });
      const own = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
      const inside = BigInt(`0x${/CapEff:\s*(\w+)/.exec(stdout)?.[1]}`);
      assert.equal(inside & BigInt(`0x${own}`), BigInt(`0x${own}`), 'all capabilities, in its own user namespace');
      assert.match(stdout, /0\s+300000\s+65536/);
      const before = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
      const tried = await run(
        'echo "|/x" > /proc/sys/kernel/core_pattern; echo 1 > /sys/kernel/profiling; mount -t ext4 /dev/vda /tmp && echo mounted; true',
        { security },
      );
      assert.doesNotMatch(tried.stdout, /mounted/);
      assert.equal(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'), before);
    });
  });

  describe('volumes', () => {
    it('are idmapped where the request says so: owners on the disk are those inside', async () => {
      const hostPath = dir('volume');
      writeFileSync(join(hostPath, 'roots'), 'root', { mode: 0o600 });
      writeFileSync(join(hostPath, 'users'), 'user', { mode: 0o600 });
      chownSync(join(hostPath, 'users'), 1000, 2000);
      const mounts = [{ hostPath, containerPath: '/m', ...mapped }];
      assert.equal(
        await sh('stat -c "%n %u %g" /m /m/*; cat /m/roots /m/users; echo x > /m/new; chown 5:6 /m/new; mkdir /m/dir', {
          mounts,
        }),
        '/m 0 0\n/m/roots 0 0\n/m/users 1000 2000\nrootuser',
      );
      assert.deepEqual(owner(join(hostPath, 'new')), [5, 6]);
      assert.deepEqual(owner(join(hostPath, 'dir')), [0, 0]);
      const security = { runAsUser: { value: 1000 } };
      assert.match(
        (await run('cat /m/users; cat /m/roots', { mounts, security })).all,
        /^usercat: can't open '\/m\/roots'/,
      );
      const fileMount = [{ hostPath: join(hostPath, 'roots'), containerPath: '/file', readonly: true, ...mapped }];
      assert.equal(await sh('cat /file; stat -c %u /file', { mounts: fileMount }), 'root0\n');
    });

    it('are idmapped with what is mounted below them, on tmpfs, too', async () => {
      const hostPath = dir('nested');
      inHolder('mount', '-t', 'tmpfs', 'nested', hostPath);
      try {
        inHolder(
          'sh',
          '-c',
          `mkdir ${hostPath}/below && mount -t tmpfs below ${hostPath}/below && touch ${hostPath}/below/file`,
        );
        const mounts = [{ hostPath, containerPath: '/m', ...mapped }];
        assert.equal(await sh('stat -c "%u %g" /m /m/below/file && touch /m/below/new', { mounts }), '0 0\n0 0\n');
        assert.equal(inHolder('stat', '-c', '%u', join(hostPath, 'below/new')), '0\n');
      } finally {
        inHolder('umount', '-R', hostPath);
      }
    });

    it('that cannot be are refused with the mount, the file system and the kernel’s answer', async () => {
      const inPod = await pod();
      const before = snapshot(node().daemon);
      const create = (hostPath: string) =>
        node().create(inPod, { ...settings(), mounts: [{ hostPath, containerPath: '/m', ...mapped }] });
      await refused(
        create('/sys/kernel'),
        'FAILED_PRECONDITION',
        /mount \/sys\/kernel at \/m: .*cannot be idmapped: its file system is sysfs, and the kernel answers EINVAL/,
      );
      const hostPath = dir('half');
      inHolder('mount', '-t', 'proc', 'proc', hostPath);
      try {
        await refused(create(hostPath), 'FAILED_PRECONDITION', /file system is proc, .*EINVAL/);
      } finally {
        inHolder('umount', hostPath);
      }
      await node().assertNothingLeft(before);
    });

    it('of images, and of an image’s own paths, belong to whom they belong in the image', async () => {
      const data: TarEntry[][] = [
        [
          { path: 'data/', type: 'dir', uid: 5, gid: 6, mode: 0o750 },
          { path: 'data/file', data: 'image', uid: 5, gid: 6 },
        ],
      ];
      const volume = await node().pull('volume', busyboxImage({ config: env, extraLayers: data }));
      const image = await node().pull(
        'own-volume',
        busyboxImage({ config: { ...env, Volumes: { '/data': {} } }, extraLayers: data }),
      );
      for (const more of [{}, mapped]) {
        const mounts = [
          { containerPath: '/v', image: { image: volume }, readonly: true, ...more },
          { containerPath: '/part', image: { image: volume }, imageSubPath: 'data', readonly: true, ...more },
        ];
        const script =
          'stat -c "%n %u %g" /v/data/file /v/bin /part /part/file /data /data/file; touch /v/x /part/x; touch /data/new; chown 9 /data/new';
        const inPod = await pod();
        const id = await start({ image, mounts }, inPod);
        assert.equal(
          await node().exec(id, ['sh', '-c', `(${script}) 2>/dev/null`]),
          '/v/data/file 5 6\n/v/bin 0 0\n/part 5 6\n/part/file 5 6\n/data 5 6\n/data/file 5 6\n',
        );
        const dir = join(upperOf(id), '../volumes/0');
        assert.deepEqual(owner(dir), [UID + 5, GID + 6]);
        assert.deepEqual(owner(join(dir, 'new')), [UID + 9, GID]);
        assert.equal(await node().exec(id, ['sh', '-c', 'ls /v/x /part/x 2>/dev/null; cat /part/file']), 'image');
      }
    });

    it('show what is mounted on the host later, where they are to', async () => {
      const hostPath = dir('propagated');
      inHolder('mount', '-t', 'tmpfs', 'propagated', hostPath);
      inHolder('mkdir', join(hostPath, 'late'));
      try {
        for (const [propagation, sees] of [
          ['PROPAGATION_HOST_TO_CONTAINER', 'late\n'],
          ['PROPAGATION_PRIVATE', ''],
        ] as const) {
          const id = await start({ mounts: [{ hostPath, containerPath: '/m', propagation }] });
          inHolder('sh', '-c', `mount -t tmpfs late ${hostPath}/late && touch ${hostPath}/late/late`);
          assert.equal(await node().exec(id, ['ls', '/m/late']), sees, propagation);
          inHolder('umount', join(hostPath, 'late'));
          assert.equal(await node().exec(id, ['ls', '/m/late']), '');
        }
      } finally {
        inHolder('umount', '-R', hostPath);
      }
    });
  });

  describe('with the host’s network', () => {
    const namespaces = { network: 'NODE' };

    it('have it, with sysfs, and still no rights over it', async () => {
      const id = await start({
        namespaces,
        security: { capabilities: { addCapabilities: ['NET_ADMIN', 'SYS_ADMIN'] } },
      });
      const pid = await node().pidOf(id);
      assert.equal(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync('/proc/self/ns/net'));
      assert.notEqual(readlinkSync(`/proc/${pid}/ns/user`), readlinkSync('/proc/self/ns/user'));
      assert.equal(
        await node().exec(id, ['sh', '-c', 'ls /sys/class/net']),
        execFileSync('ls', ['/sys/class/net'], { encoding: 'utf8' }),
      );
      assert.match(await node().exec(id, ['cat', '/proc/mounts']), /^\S+ \/sys sysfs ro,nosuid,nodev,noexec/m);
      const tried = 'ip link set lo down || mount -o remount,bind,rw /sys || hostname other || echo refused';
      assert.equal(await node().exec(id, ['sh', '-c', `(${tried}) 2>/dev/null`]), 'refused\n');
      assert.equal(await node().exec(id, ['sh', '-c', 'ls /sys/firmware | wc -l']), '0\n');
    });

    it('run with a PID namespace of their own, too', async () => {
      const own = { ...namespaces, pid: 'CONTAINER' };
      assert.equal(await sh('cat /proc/1/comm; id -u', { namespaces: own }), 'sh\n0\n');
    });
  });

  describe('the status', () => {
    it('says that they are there, once they have been tried', async () => {
      const before = snapshot(node().daemon);
      const { runtimeHandlers, features, info } = await node().client.call('Status', { verbose: true });
      assert.deepEqual(
        runtimeHandlers.map(handler => [handler.name, handler.features?.userNamespaces]),
        [['', true]],
      );
      assert.equal(features.userNamespacesHostNetwork, true);
      assert.equal(info['userNamespaces'], 'supported');
      await node().assertNothingLeft(before);
    });

    it('says why not, where layers lie on a file system that cannot be idmapped', async () => {
      await using daemon = await TestDaemon.prepare();
      const root = join(daemon.dir, 'overlay');
      const within = (...command: string[]) =>
        execFileSync('nsenter', [`--mount=/proc/${daemon.holderPid}/ns/mnt`, ...command]);
      for (const name of ['overlay', 'lower', 'upper', 'work']) mkdirSync(join(daemon.dir, name));
      const dirs = ['lower', 'upper', 'work'].map(name => `${name}dir=${join(daemon.dir, name)}`);
      within('mount', '-t', 'overlay', 'layers', '-o', dirs.join(), root);
      await daemon.run(['--root', root]);
      using client = new CriClient(daemon.socket);
      const { runtimeHandlers, features, info } = await client.call('Status', { verbose: true });
      assert.equal(runtimeHandlers[0]?.features?.userNamespaces, false);
      assert.equal(features.userNamespacesHostNetwork, false);
      const why = /layers cannot be idmapped: its file system is overlay, and the kernel answers EINVAL/;
      assert.match(info['userNamespaces'] ?? '', why);
      assert.match(daemon.log, /pods cannot have user namespaces on this host/);
      assert.deepEqual(readdirSync(join(daemon.dir, 'upper/containers')), []);
    });
  });

  describe('their life', () => {
    for (const pid of ['POD', 'CONTAINER'] as const) {
      it(`is as any other’s: log, exit code, stop, kill and memory, with pid ${pid}`, async () => {
        const namespaces = { pid };
        const { status, stdout, stderr } = await run('echo out; echo err >&2; exit 7', { namespaces });
        assert.deepEqual([stdout, stderr, status.exitCode, status.reason], ['out\n', 'err\n', 7, 'Error']);
        assert.deepEqual(owner(status.logPath), [0, 0]);
        assert.equal(statSync(status.logPath).mode & 0o777, 0o640);
        const polite = await start({
          namespaces,
          command: ['sh', '-c', 'trap "exit 5" TERM; echo ready; while :; do sleep 0.05; done'],
        });
        while ((await node().logLines(polite)).length === 0) await sleep(5);
        await node().client.call('StopContainer', { containerId: polite, timeout: 20 });
        assert.equal((await node().status(polite)).exitCode, 5);
        const stubborn = await start({ namespaces });
        await node().client.call('StopContainer', { containerId: stubborn, timeout: 0 });
        assert.equal((await node().status(stubborn)).exitCode, 137);
        const hungry = await start({
          namespaces,
          command: ['sh', '-c', 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'],
          resources: { memoryLimitInBytes: 16 << 20 },
        });
        const end = await node().exit(hungry);
        assert.deepEqual([end.exitCode, end.reason], [137, 'OOMKilled']);
      });
    }

    it('has a terminal of its own when it is asked for', async () => {
      for (const security of [{}, { runAsUser: { value: 1000 } }]) {
        const { stdout, status } = await run(
          'tty && stat -c %u /dev/pts/0 && echo seen > /dev/console && echo also > /dev/tty',
          {
            security,
            tty: true,
          },
        );
        const uid = 'runAsUser' in security ? '1000' : '0';
        assert.deepEqual([stdout.replaceAll('\r', ''), status.exitCode], [`/dev/pts/0\n${uid}\nseen\nalso\n`, 0]);
      }
    });

    it('has commands with a terminal and with streams, as its users', async () => {
      const id = await start({ security: { runAsUser: { value: 1000 } } });
      for (const tty of [true, false]) {
        const cmd = ['sh', '-c', 'id -u; read x; echo got $x > /dev/stdout; [ -t 0 ] && tty; exit 0'];
        const wanted = { stdin: true, stdout: true, stderr: !tty, tty };
        const { url } = await node().client.call('Exec', { containerId: id, cmd, ...wanted });
        const remote = await connectRemote('websocket', url, wanted);
        await remote.write('word\n');
        assert.match(await remote.status, /"Success"/);
        const lines = remote.stdout
          .replaceAll('\r', '')
          .split('\n')
          .filter(line => line !== 'word');
        assert.deepEqual(lines, tty ? ['1000', 'got word', '/dev/pts/0', ''] : ['1000', 'got word', '']);
        await remote.closed;
      }
    });

    it('begins with a clear error when the command is not there', async () => {
      const inPod = await pod({ pid: 'CONTAINER' });
      const id = await node().create(inPod, settings({ namespaces: { pid: 'CONTAINER' }, command: ['/nosuch'] }));
      await refused(
        node().client.call('StartContainer', { containerId: id }),
        'NOT_FOUND',
        'no such file in the image',
      );
      await refused(
        node().create(inPod, settings({ mounts: [{ hostPath: '/etc/hostname', containerPath: '/proc/self' }] })),
        'INVALID_ARGUMENT',
      );
    });

    it('goes on when the daemon is killed', async () => {
      const ids = new Map<string, string>();
      for (const pid of ['POD', 'CONTAINER']) ids.set(await pod({ pid }), pid);
      const running = new Map<string, string>();
      for (const [inPod, pid] of ids) running.set(inPod, await start({ namespaces: { pid } }, inPod));
      const before = await Promise.all([...running.values()].map(id => node().pidOf(id)));
      await node().restart();
      for (const [inPod, id] of running) {
        assert.equal(
          (await node().client.call('PodSandboxStatus', { podSandboxId: inPod })).status.state,
          'SANDBOX_READY',
        );
        assert.equal(await node().exec(id, ['sh', '-c', 'id -u; touch /after; stat -c %u /after']), '0\n0\n');
        assert.deepEqual(owner(join(upperOf(id), 'after')), [UID, GID]);
        const another = await start({ namespaces: { pid: ids.get(inPod) } }, inPod);
        const [one, two] = [await node().pidOf(id), await node().pidOf(another)];
        assert.equal(readlinkSync(`/proc/${one}/ns/user`), readlinkSync(`/proc/${two}/ns/user`));
        await node().client.call('StopContainer', { containerId: id, timeout: 0 });
        assert.equal((await node().status(id)).exitCode, 137);
      }
      assert.ok(before.every(pid => !existsSync(`/proc/${pid}`)));
    });

    it('is over when its namespaces are gone', async () => {
      const id = await pod({ pid: 'CONTAINER' });
      const other = await pod({ pid: 'CONTAINER' });
      await node().daemon.kill();
      inHolder('umount', join(node().daemon.state, 'sandboxes', id, 'ns/user'));
      await node().restart();
      const state = async (podSandboxId: string) =>
        (await node().client.call('PodSandboxStatus', { podSandboxId })).status.state;
      assert.equal(await state(id), 'SANDBOX_NOTREADY');
      assert.equal(await state(other), 'SANDBOX_READY');
    });

    it('leaves nothing half done, whenever the daemon is killed', async function () {
      this.timeout(240_000);
      const clean = snapshot(node().daemon);
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: 80 }), fc.constantFrom('POD', 'CONTAINER'), async (afterMs, pid) => {
          const client = new CriClient(node().daemon.socket);
          const story = async () => {
            const linux = { securityContext: { namespaceOptions: asked({ pid }) } };
            const { podSandboxId } = await client.call('RunPodSandbox', { config: node().podConfig({ linux }) });
            const config = node().containerConfig(settings({ namespaces: { pid } }));
            const { containerId } = await client.call('CreateContainer', { podSandboxId, config });
            await client.call('StartContainer', { containerId });
            await client.call('RemovePodSandbox', { podSandboxId });
          };
          const told = story().catch(() => undefined);
          await sleep(afterMs);
          await node().daemon.kill();
          await told;
          client.close();
          await node().restart();
          await node().removeAll();
          await node().assertNothingLeft({ ...clean, fds: snapshot(node().daemon).fds });
        }),
        { numRuns: 10, endOnFailure: true },
      );
    });
  });
});
