import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { busyboxImage, type TarEntry } from '../support/image-builder';
import { refused, useNode } from '../support/node';

const status = ['cat', '/proc/self/status'];
const field = (text: string, name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim();

/** capabilities(7): bits of the kernel's list. */
const BIT = { CHOWN: 0, NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21 } as const;
const DEFAULT_MASK = 0xa80425fbn;

describe('who a container’s process is', function () {
  this.timeout(30_000);
  const node = useNode();
  const passwd = (lines: string[], group: string[] = []): TarEntry[][] => [
    [
      { path: 'etc/passwd', data: `root:x:0:0:root:/root:/bin/sh\n${lines.map(line => `${line}\n`).join('')}` },
      { path: 'etc/group', data: `root:x:0:\n${group.map(line => `${line}\n`).join('')}` },
    ],
  ];

  /** `id` in the process, and what the status says of it: the same. */
  const identity = async (security: object, image = node().box) => {
    const { stdout, status: end } = await node().run(['sh', '-c', 'echo $(id -u) $(id -g) $(id -G) $HOME'], {
      security: security as Record<string, unknown>,
      image,
    });
    assert.equal(end.exitCode, 0, end.message);
    const [uid, gid, ...rest] = stdout.trim().split(' ');
    const home = rest.pop();
    const linux = end.user?.linux;
    assert.equal(linux?.uid, uid);
    assert.equal(linux?.gid, gid);
    assert.deepEqual(new Set(linux?.supplementalGroups), new Set(rest));
    return { uid, gid, groups: rest.map(Number).sort((a, b) => a - b), home };
  };

  it('is root when nobody says otherwise', async () => {
    assert.deepEqual(await identity({}), { uid: '0', gid: '0', groups: [0], home: '/root' });
  });

  it('is a number, with the group and home of its passwd line', async () => {
    assert.deepEqual(await identity({ runAsUser: { value: 1000 } }), {
      uid: '1000',
      gid: '1000',
      groups: [1000, 2000],
      home: '/home',
    });
    assert.deepEqual(await identity({ runAsUser: { value: 4321 } }), { uid: '4321', gid: '0', groups: [0], home: '/' });
  });

  it('is a name, with another group when one is asked for', async () => {
    assert.deepEqual((await identity({ runAsUsername: 'user' })).groups, [1000, 2000]);
    const other = await identity({ runAsUsername: 'user', runAsGroup: { value: 77 } });
    assert.deepEqual([other.uid, other.gid, other.groups], ['1000', '77', [77, 2000]]);
  });

  it('has the groups of the image with the policy Merge, and without with Strict', async () => {
    const asked = { runAsUser: { value: 1000 }, runAsGroup: { value: 50 }, supplementalGroups: [5, 6, 5] };
    assert.deepEqual((await identity(asked)).groups, [5, 6, 50, 2000]);
    assert.deepEqual((await identity({ ...asked, supplementalGroupsPolicy: 'Strict' })).groups, [5, 6, 50]);
  });

  it('is the image’s USER in all its forms', async () => {
    for (const [user, uid, gid] of [
      ['user', '1000', '1000'],
      ['1000', '1000', '1000'],
      ['user:extra', '1000', '2000'],
      ['1000:2000', '1000', '2000'],
      ['55:extra', '55', '2000'],
      ['user:3', '1000', '3'],
      ['', '0', '0'],
    ] as const) {
      const image = await node().pull('user', busyboxImage({ config: { User: user, Env: ['PATH=/bin'] } }));
      const found = await identity({}, image);
      assert.deepEqual([found.uid, found.gid], [uid, gid], `USER ${user}`);
    }
  });

  it('is never root by an overflow, and digits are never a name', async () => {
    const layers = passwd(
      ['4294967296:x:0:0::/root:/bin/sh', '2147483648:x:0:0::/root:/bin/sh', '77:x:0:0::/root:/bin/sh'],
      ['88:x:0:', 'big:x:4294967295:'],
    );
    for (const user of [
      '4294967295',
      '4294967296',
      '100000000000000000000',
      '-1',
      '1:4294967295',
      '+0',
      ' 0',
      '0:0:0',
    ]) {
      const image = await node().pull(
        'user',
        busyboxImage({ extraLayers: layers, config: { User: user, Env: ['PATH=/bin'] } }),
      );
      await refused(node().run(['true'], { image }), 'INVALID_ARGUMENT', /USER/);
    }
    const image = await node().pull(
      'user',
      busyboxImage({ extraLayers: layers, config: { User: '77:88', Env: ['PATH=/bin'] } }),
    );
    assert.deepEqual((await identity({}, image)).uid, '77');
    assert.deepEqual((await identity({}, image)).gid, '88');
    assert.equal((await identity({ runAsUser: { value: 2147483648 } }, image)).uid, '2147483648');
    for (const value of ['-1', '4294967295', '4294967296', '9223372036854775807']) {
      await refused(node().run(['true'], { security: { runAsUser: { value } } }), 'INVALID_ARGUMENT', value);
      const security = { runAsUser: { value: 1 }, supplementalGroups: [value] };
      await refused(node().run(['true'], { security }), 'INVALID_ARGUMENT', value);
    }
  });

  it('is refused when the name is not in the image, or a group is asked for without a user', async () => {
    await refused(
      node().run(['true'], { security: { runAsUsername: 'nosuch' } }),
      'NOT_FOUND',
      'user nosuch: no such user',
    );
    await refused(node().run(['true'], { security: { runAsGroup: { value: 5 } } }), 'INVALID_ARGUMENT', 'run_as_group');
    const image = await node().pull('user', busyboxImage({ config: { User: 'user:nosuch', Env: ['PATH=/bin'] } }));
    await refused(node().run(['true'], { image }), 'NOT_FOUND', 'group nosuch');
  });

  it('survives passwd and group files of every unfriendly kind', async () => {
    const huge = `${'x'.repeat(1 << 20)}\n`;
    const kinds: [string, TarEntry][] = [
      ['fifo', { path: 'etc/passwd', type: 'fifo' }],
      ['link to the host', { path: 'etc/passwd', type: 'symlink', link: '/proc/1/root/etc/passwd' }],
      ['device', { path: 'etc/passwd', type: 'char', major: 1, minor: 5 }],
      ['one long line', { path: 'etc/passwd', data: huge }],
      ['directory', { path: 'etc/passwd', type: 'dir' }],
    ];
    for (const [what, entry] of kinds) {
      const image = await node().pull(
        'user',
        busyboxImage({ extraLayers: [[entry]], config: { User: '1000', Env: ['PATH=/bin'] } }),
      );
      // No shell: the image's own would read the file.
      const { stdout } = await node().run(status, { image });
      assert.equal(field(stdout, 'Uid')?.split('\t')[0], '1000', what);
      await refused(node().run(['true'], { image, security: { runAsUsername: 'root' } }), 'NOT_FOUND', /root/);
    }
  });

  it('reads hosts, resolv.conf and hostname as any user', async () => {
    const command = ['cat', '/etc/hosts', '/etc/resolv.conf', '/etc/hostname'];
    const { stdout, stderr } = await node().run(command, { security: { runAsUser: { value: 1000 } } });
    assert.equal(stderr, '');
    assert.match(stdout, /localhost/);
  });

  it('writes no line into passwd, whatever HOME is', async () => {
    const home = '/x\nroot2::0:0::/:/bin/sh';
    const { stdout } = await node().run(['sh', '-c', 'cat /etc/passwd; echo "[$HOME]"'], {
      envs: [{ key: 'HOME', value: Buffer.from(home) }],
    });
    assert.ok(stdout.endsWith(`[${home}]\n`));
    assert.doesNotMatch(stdout.slice(0, stdout.indexOf('[')), /root2/);
  });

  it('has exactly the default capabilities, and none to inherit', async () => {
    const { stdout } = await node().run(status);
    for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
      assert.equal(BigInt(`0x${field(stdout, set)}`), DEFAULT_MASK, set);
    for (const set of ['CapInh', 'CapAmb']) assert.equal(BigInt(`0x${field(stdout, set)}`), 0n, set);
    assert.equal(field(stdout, 'NoNewPrivs'), '0');
  });

  it('has no capabilities in effect as another user, but keeps the bounding set', async () => {
    const { stdout } = await node().run(status, { security: { runAsUser: { value: 1000 } } });
    for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb'])
      assert.equal(BigInt(`0x${field(stdout, set)}`), 0n, set);
    assert.equal(BigInt(`0x${field(stdout, 'CapBnd')}`), DEFAULT_MASK);
  });

  it('has capabilities added and dropped as asked', async () => {
    const own = BigInt(`0x${field(readFileSync('/proc/self/status', 'utf8'), 'CapPrm')}`);
    const bit = (name: keyof typeof BIT) => 1n << BigInt(BIT[name]);
    for (const [capabilities, mask] of [
      [{ addCapabilities: ['NET_ADMIN'] }, DEFAULT_MASK | bit('NET_ADMIN')],
      [
        { addCapabilities: ['cap_net_admin'], dropCapabilities: ['CAP_NET_RAW'] },
        (DEFAULT_MASK | bit('NET_ADMIN')) & ~bit('NET_RAW'),
      ],
      [{ dropCapabilities: ['ALL'] }, 0n],
      [{ dropCapabilities: ['all'], addCapabilities: ['CHOWN'] }, bit('CHOWN')],
      [{ addCapabilities: ['ALL'], dropCapabilities: ['SYS_ADMIN'] }, own & ((1n << 41n) - 1n) & ~bit('SYS_ADMIN')],
    ] as const) {
      const { stdout } = await node().run(status, { security: { capabilities } });
      const effective = BigInt(`0x${field(stdout, 'CapEff')}`);
      assert.equal(effective.toString(16), mask.toString(16), JSON.stringify(capabilities));
      assert.equal(BigInt(`0x${field(stdout, 'CapInh')}`), 0n);
    }
    await refused(
      node().run(status, { security: { capabilities: { addCapabilities: ['FLY'] } } }),
      'INVALID_ARGUMENT',
      'FLY',
    );
  });

  it('passes ambient capabilities on to another user', async () => {
    const capabilities = { addAmbientCapabilities: ['NET_RAW'] };
    const { stdout } = await node().run(status, { security: { runAsUser: { value: 1000 }, capabilities } });
    for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb']) {
      assert.equal(BigInt(`0x${field(stdout, set)}`), 1n << BigInt(BIT.NET_RAW), set);
    }
  });

  it('gets no new privileges when that is asked for', async () => {
    const { stdout } = await node().run(status, { security: { noNewPrivs: true } });
    assert.equal(field(stdout, 'NoNewPrivs'), '1');
  });
});
