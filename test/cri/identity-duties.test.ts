import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { busyboxImage, type TarEntry } from '../support/image-builder';
import { refused, useNode } from '../support/node';

/** What of /proc/self/status says who a process is and what it may do. */
const IDENTITY = /^(Umask|Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):\s*(.*?)\s*$/gm;
const golden = (text: string): Record<string, string> =>
  Object.fromEntries([...text.matchAll(IDENTITY)].map(([, name = '', value = '']): [string, string] => [name, value]));

const DEFAULTS = '00000000a80425fb';
const NONE = '0000000000000000';
/** What this machine's root has: a capability that it lacks itself cannot be given. */
const OWN = /^CapPrm:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';

describe('duties of security: identity', function () {
  this.timeout(60_000);
  const node = useNode();
  const both = async (security: Record<string, unknown>, image = node().box) => {
    const id = await node().start(await node().pod(), { security, image });
    const pid = await node().pidOf(id);
    const command = golden(await node().exec(id, ['cat', '/proc/self/status']));
    return { container: golden(readFileSync(`/proc/${pid}/status`, 'utf8')), command };
  };
  const imageWith = (entries: TarEntry[], user = '') =>
    node().pull('duty', busyboxImage({ extraLayers: [entries], config: { User: user, Env: ['PATH=/bin'] } }));

  it('CVE-2022-27650, -29162, -24769: nothing is inheritable, for run and exec alike, unless ambient ones ask', async () => {
    const caps = (prm: string, eff = prm, bnd = DEFAULTS, inherited = NONE) => ({
      CapInh: inherited,
      CapPrm: prm,
      CapEff: eff,
      CapBnd: bnd,
      CapAmb: inherited,
    });
    const NET_RAW = '0000000000002000';
    const cases: [Record<string, unknown>, Record<string, string>][] = [
      [{}, { Uid: '0\t0\t0\t0', Gid: '0\t0\t0\t0', Groups: '0', NoNewPrivs: '0', Seccomp: '0', ...caps(DEFAULTS) }],
      [{ noNewPrivs: true }, { NoNewPrivs: '1', ...caps(DEFAULTS) }],
      [{ runAsUser: { value: 1000 } }, { Uid: '1000\t1000\t1000\t1000', Groups: '1000 2000', ...caps(NONE) }],
      [{ capabilities: { dropCapabilities: ['ALL'] } }, caps(NONE, NONE, NONE)],
      [
        { capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['CAP_NET_RAW'] } },
        caps(NET_RAW, NET_RAW, NET_RAW),
      ],
      [
        { runAsUser: { value: 1000 }, capabilities: { addAmbientCapabilities: ['net_raw'] } },
        caps(NET_RAW, NET_RAW, DEFAULTS, NET_RAW),
      ],
      [{ privileged: true }, { CapPrm: OWN, CapEff: OWN, CapInh: NONE, CapAmb: NONE }],
      [
        { privileged: true, runAsUser: { value: 1000 } },
        { CapPrm: NONE, CapEff: NONE, CapInh: NONE },
      ],
      [
        {
          seccomp: { profileType: 'RuntimeDefault' },
          noNewPrivs: true,
          runAsUser: { value: 5 },
          runAsGroup: { value: 6 },
        },
        {
          Uid: '5\t5\t5\t5',
          Gid: '6\t6\t6\t6',
          Groups: '6',
          NoNewPrivs: '1',
          Seccomp: '2',
          Umask: '0022',
          ...caps(NONE),
        },
      ],
    ];
    for (const [security, wanted] of cases) {
      const { container, command } = await both(security);
      assert.deepEqual({ ...container, ...wanted }, container, JSON.stringify(security));
      assert.deepEqual(command, container, `exec: ${JSON.stringify(security)}`);
    }
  });

  it('ambient capabilities may be all; unknown ones are refused in every list', async () => {
    const { container } = await both({ runAsUser: { value: 1000 }, capabilities: { addAmbientCapabilities: ['ALL'] } });
    assert.equal(container['CapAmb'], OWN);
    assert.equal(container['CapEff'], OWN);
    for (const list of ['addCapabilities', 'dropCapabilities', 'addAmbientCapabilities']) {
      for (const name of ['CAP_CAP_CHOWN', 'FLY', '', 'CHOWN ', '0']) {
        const pod = await node().pod();
        const security = { capabilities: { [list]: [name] } };
        await refused(node().create(pod, { security }), 'INVALID_ARGUMENT', /unknown capability/);
      }
    }
  });

  it('CVE-2022-36109, CVE-2023-25173: the status has exactly the groups of the process, its primary one included', async () => {
    for (const security of [
      {},
      { runAsUser: { value: 1000 } },
      { runAsUser: { value: 1000 }, supplementalGroups: [7, 0, 7], runAsGroup: { value: 3 } },
      { runAsUser: { value: 1000 }, supplementalGroups: [7], supplementalGroupsPolicy: 'Strict' },
      { runAsUsername: 'user', supplementalGroupsPolicy: 'Strict' },
      { runAsUser: { value: 4294967294 }, runAsGroup: { value: 4294967294 } },
    ]) {
      const id = await node().start(await node().pod(), { security });
      const { user } = await node().status(id);
      const sorted = (ids: readonly (string | number)[] = []) => ids.map(String).sort();
      for (const text of [
        readFileSync(`/proc/${await node().pidOf(id)}/status`, 'utf8'),
        await node().exec(id, ['cat', '/proc/self/status']),
      ]) {
        const found = golden(text);
        assert.deepEqual(
          sorted(user?.linux.supplementalGroups),
          sorted(found['Groups']?.split(' ')),
          JSON.stringify(security),
        );
        assert.equal(found['Gid']?.split('\t')[0], user?.linux.gid);
        assert.equal(found['Uid']?.split('\t')[0], user?.linux.uid);
        assert.ok(found['Groups']?.split(' ').includes(found['Gid']?.split('\t')[0] ?? ''));
      }
    }
  });

  it('CVE-2024-40635, CVE-2026-46680: a huge USER is no user, though passwd has a line for its digits', async () => {
    const lines = ['2147483648', '4294967295', '4294967296', '100000000000000000000', `${'9'.repeat(200)}`];
    const passwd = { path: 'etc/passwd', data: lines.map(name => `${name}:x:0:0::/root:/bin/sh\n`).join('') };
    for (const user of [...lines.slice(1), 'x'.repeat(300), `0:${'9'.repeat(30)}`]) {
      const image = await imageWith([passwd], user);
      await refused(node().run(['true'], { image }), 'INVALID_ARGUMENT', /USER/);
    }
    await refused(imageWith([], 'x'.repeat(100_000)), 'FAILED_PRECONDITION', /User: is longer than/);
    const image = await imageWith([passwd], '2147483648');
    const { stdout } = await node().run(['cat', '/proc/self/status'], { image });
    assert.match(golden(stdout)['Uid'] ?? '', /^2147483648\t/);
  });

  it('CVE-2026-47262: passwd and group without end do not cost memory, and are named', async () => {
    const lines = Buffer.alloc((16 << 20) + (1 << 16), 'some:x:1:someone-else-entirely,and,more\n');
    const rss = () => Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${node().daemon.pid}/status`, 'utf8'))?.[1]);
    const group = await imageWith([{ path: 'etc/group', data: lines }]);
    const before = rss();
    const security = { runAsUser: { value: 1000 } };
    await refused(
      node().run(['true'], { image: group, security }),
      'INVALID_ARGUMENT',
      '/etc/group of the image: the file is larger than 16 MiB',
    );
    const strict = { ...security, supplementalGroupsPolicy: 'Strict' };
    assert.equal((await node().run(['true'], { image: group, security: strict })).status.exitCode, 0);
    const passwd = await imageWith([{ path: 'etc/passwd', data: lines }]);
    await refused(
      node().run(['true'], { image: passwd, security }),
      'INVALID_ARGUMENT',
      '/etc/passwd of the image: the file is larger than 16 MiB',
    );
    assert.ok(rss() - before < 64 * 1024, `grew by ${rss() - before} kB`);
  });

  it('CVE-2024-9676: passwd and group as link, FIFO, device, directory or one endless line hold nothing up', async () => {
    for (const path of ['etc/passwd', 'etc/group']) {
      const kinds: TarEntry[] = [
        { path, type: 'symlink', link: '/proc/1/root/etc/shadow' },
        { path, type: 'symlink', link: '../../../../../../etc/group' },
        { path, type: 'symlink', link: 'passwd' },
        { path, type: 'fifo' },
        { path, type: 'char', major: 1, minor: 5 },
        { path, type: 'block', major: 7, minor: 0 },
        { path, type: 'dir' },
        { path, data: 'x'.repeat(1 << 20) },
        { path, data: '' },
      ];
      for (const entry of kinds) {
        const image = await imageWith([entry], '1000:5');
        const { stdout } = await node().run(['cat', '/proc/self/status'], { image });
        assert.equal(golden(stdout)['Uid']?.split('\t')[0], '1000', JSON.stringify(entry).slice(0, 100));
        assert.equal(golden(stdout)['Gid']?.split('\t')[0], '5');
      }
    }
  });

  it('CVE-2026-15809: a HOME with lines in it writes no line anywhere, and passwd’s own cannot have one', async () => {
    const home = '/x\nroot2::0:0::/:/bin/sh';
    const { stdout } = await node().run(['sh', '-c', 'cat /etc/passwd /etc/group; echo "[$HOME]"'], {
      envs: [{ key: 'HOME', value: Buffer.from(home) }],
    });
    assert.ok(stdout.endsWith(`[${home}]\n`));
    assert.doesNotMatch(stdout.slice(0, stdout.indexOf('[')), /root2/);
    const image = await imageWith([{ path: 'etc/passwd', data: 'user:x:1000:1000::/a\tb\u001b[2J:/bin/sh\n' }], 'user');
    assert.equal((await node().run(['sh', '-c', 'echo "[$HOME]"'], { image })).stdout, '[/]\n');
  });

  it('CVE-2022-0811: a sysctl is one setting of the pod’s own, whatever its name and value say', async () => {
    const before = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
    const asked = (name: string, value = '1', security = {}) =>
      node().pod({ linux: { sysctls: { [name]: value }, securityContext: security } });
    for (const name of [
      'kernel.shm_rmid_forced=1+kernel.core_pattern',
      'kernel.shm_rmid_forced+kernel.core_pattern',
      'kernel.core_pattern',
      'kernel/core_pattern',
      'net/../kernel/core_pattern',
      'net.ipv4./../../kernel/core_pattern',
      'vm.swappiness',
      'user.max_user_namespaces',
    ]) {
      await refused(asked(name), 'INVALID_ARGUMENT', /sysctl/);
    }
    await refused(
      asked('net.core.somaxconn', '1+kernel.core_pattern=|/bin/x'),
      'INVALID_ARGUMENT',
      /net\.core\.somaxconn = "1\+kernel/,
    );
    await refused(asked('net.nosuch.thing'), 'INVALID_ARGUMENT', /net\.nosuch\.thing = "1": no such file/);
    await refused(
      asked('net.core.somaxconn', '5', { namespaceOptions: { network: 'NODE' } }),
      'INVALID_ARGUMENT',
      'shares its network',
    );
    await refused(
      asked('kernel.sem', '1 1 1 1', { namespaceOptions: { ipc: 'NODE' } }),
      'INVALID_ARGUMENT',
      'shares its IPC',
    );
    assert.equal(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'), before);
  });

  it('sets safe and unsafe sysctls of the pod, for all of its containers and for nobody else', async () => {
    const host = readFileSync('/proc/sys/net/core/somaxconn', 'utf8');
    const pod = await node().pod({
      linux: {
        sysctls: {
          'net.ipv4.ip_unprivileged_port_start': '77',
          'net.ipv4.ping_group_range': '5 6',
          'net/core/somaxconn': '99',
          'kernel.shm_rmid_forced': '1',
          'kernel.sem': '300\t32000 32 128',
          'kernel.msgmax': '4096',
          'fs.mqueue.msg_max': '11',
          'net.ipv4.conf.lo.forwarding': '1',
        },
      },
    });
    const files =
      'net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/core/somaxconn kernel/shm_rmid_forced kernel/sem kernel/msgmax fs/mqueue/msg_max net/ipv4/conf/lo/forwarding';
    const { stdout } = await node().run(['cat', ...files.split(' ').map(file => `/proc/sys/${file}`)], { pod });
    assert.equal(stdout.replaceAll('\t', ' '), '77\n5 6\n99\n1\n300 32000 32 128\n4096\n11\n1\n');
    assert.equal(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'), host);
  });

  it('raises and lowers the OOM score as far as this node may, for commands as for the container', async () => {
    const score = async (oomScoreAdj: number) => {
      const id = await node().start(await node().pod(), { resources: { oomScoreAdj } });
      const own = readFileSync(`/proc/${await node().pidOf(id)}/oom_score_adj`, 'utf8').trim();
      assert.equal((await node().exec(id, ['cat', '/proc/self/oom_score_adj'])).trim(), own);
      return Number(own);
    };
    const least = Number(readFileSync(`/proc/${node().daemon.pid}/oom_score_adj`, 'utf8'));
    assert.equal(await score(700), 700);
    assert.equal(await score(1000), 1000);
    assert.ok([-900, least].includes(await score(-900)));
    for (const oomScoreAdj of [1001, -1001]) {
      await refused(
        node().create(await node().pod(), { resources: { oomScoreAdj } }),
        'INVALID_ARGUMENT',
        /oom_score_adj/,
      );
    }
  });

  it('leaves no descriptor open but stdio, with a filter and without', async () => {
    for (const security of [{}, { seccomp: { profileType: 'RuntimeDefault' } }]) {
      const id = await node().start(await node().pod(), { security });
      assert.deepEqual((await node().exec(id, ['ls', '/proc/self/fd'])).trim().split(/\s+/), ['0', '1', '2', '3']);
    }
  });
});
