import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { syscallsOf } from '../../src/oci/seccomp/syscalls';
import { refused, useNode } from '../support/node';
import { repoRoot } from '../support/repo';

const status = ['cat', '/proc/self/status'];
const mode = (text: string) => /^Seccomp:\s*(\d)$/m.exec(text)?.[1];
const numbers = syscallsOf(process.arch === 'arm64' ? 'aarch64' : 'x86_64');

/** A system call that the probe makes, and how it ends with the default profile. */
interface Probe {
  name: string;
  args?: (number | string)[];
  filtered: keyof typeof constants.errno | 'done';
}

const BAD = -1;
const NEWUSER = 0x10000000;
const MATRIX: Probe[] = [
  { name: 'io_uring_setup', args: [0, 0], filtered: 'EPERM' },
  { name: 'io_uring_enter', args: [BAD], filtered: 'EPERM' },
  { name: 'io_uring_register', args: [BAD], filtered: 'EPERM' },
  { name: 'socket', args: [38, 5, 0], filtered: 'EPERM' },
  { name: 'socket', args: ['0x100000026', 5, 0], filtered: 'EPERM' },
  { name: 'socket', args: [40, 1, 0], filtered: 'EPERM' },
  { name: 'socket', args: [1, 1, 0], filtered: 'done' },
  { name: 'socket', args: [2, 2, 0], filtered: 'done' },
  { name: 'socket', args: [16, 3, 0], filtered: 'done' },
  { name: 'userfaultfd', args: [BAD], filtered: 'EPERM' },
  { name: 'keyctl', args: [BAD], filtered: 'EPERM' },
  { name: 'unshare', args: [NEWUSER], filtered: 'EPERM' },
  { name: 'clone3', args: [0, 0], filtered: 'ENOSYS' },
  { name: 'personality', args: ['0xffffffff'], filtered: 'done' },
  { name: 'personality', args: ['0x40000'], filtered: 'EPERM' },
  { name: 'vmsplice', args: [BAD], filtered: 'EPERM' },
  { name: 'futex_waitv', args: [0, 1, 1], filtered: 'ENOSYS' },
  { name: 'file_getattr', args: [BAD, 0, 0, 0, BAD], filtered: 'ENOSYS' },
  { name: 'move_pages', args: [BAD, 0, 0, 0, 0, BAD], filtered: 'EPERM' },
  { name: 'mbind', args: [1, 1, BAD], filtered: 'EPERM' },
  { name: 'ptrace', args: [BAD], filtered: 'ESRCH' },
  { name: 'process_vm_readv', args: [BAD, 0, BAD], filtered: 'EINVAL' },
  { name: 'openat2', args: [BAD], filtered: 'EINVAL' },
  { name: 'pidfd_open', args: [BAD], filtered: 'EINVAL' },
  { name: 'chroot', args: [0], filtered: 'EFAULT' },
];
const RUNTIME_DEFAULT = { profileType: 'RuntimeDefault' };

describe('seccomp', function () {
  this.timeout(60_000);
  const node = useNode();
  let mounts: object[];
  let files: string;

  before(() => {
    const dir = join(node().daemon.dir, 'probe');
    files = join(node().daemon.dir, 'profiles');
    for (const path of [dir, files]) mkdirSync(path, { recursive: true });
    execFileSync('gcc', ['-static', '-O1', '-o', join(dir, 'probe'), join(repoRoot, 'test/support/seccomp/probe.c')]);
    mounts = [{ containerPath: '/probe', hostPath: dir, readonly: true }];
  });

  const profile = (name: string, text: string | object): string => {
    const path = join(files, name);
    writeFileSync(path, typeof text === 'string' ? text : JSON.stringify(text));
    return path;
  };
  const localhost = (path: string) => ({ seccomp: { profileType: 'Localhost', localhostRef: path } });
  const denying = (names: string[], more: object = {}) => ({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names, action: 'SCMP_ACT_ERRNO', ...more }],
  });

  describe('the system call probe matrix', () => {
    const probes = MATRIX.map(({ name, args = [] }) => {
      const number = numbers.get(name);
      assert.ok(number !== undefined, name);
      return [number, ...args].join(':');
    });
    const ask = async (security: object) => {
      const { stdout, status: end } = await node().run(['/probe/probe', ...probes, '900'], {
        security: security as Record<string, unknown>,
        mounts,
      });
      assert.equal(end.exitCode, 0, end.message);
      return stdout
        .trim()
        .split('\n')
        .map(line => Number(line.split(' ')[1]));
    };
    const wanted = (how: Probe['filtered']) => (how === 'done' ? 0 : constants.errno[how]);

    it('is as it should be with the default profile', async () => {
      const found = await ask({ seccomp: RUNTIME_DEFAULT });
      MATRIX.forEach(({ name, args, filtered }, i) => {
        assert.equal(found[i], wanted(filtered), `${name}(${args?.join(', ')}): errno ${found[i]}`);
      });
      assert.equal(found.at(-1), constants.errno.ENOSYS, 'a call of the future');
    });

    it('is the filter’s doing: without a profile the kernel answers otherwise', async () => {
      const found = await ask({ seccomp: { profileType: 'Unconfined' } });
      MATRIX.forEach(({ name, args, filtered }, i) => {
        const isRefused = filtered === 'EPERM' || name === 'clone3';
        if (isRefused) assert.notEqual(found[i], wanted(filtered), `${name}(${args?.join(', ')})`);
        else if (filtered !== 'ENOSYS') assert.equal(found[i], wanted(filtered), name);
      });
    });
  });

  it('confines where it is asked for, in whatever words, and nowhere else', async () => {
    const cases: [Record<string, unknown>, string][] = [
      [{ seccomp: RUNTIME_DEFAULT }, '2'],
      [{ seccomp: {} }, '2'],
      [{ seccomp: { profileType: 'Unconfined' } }, '0'],
      [{}, '0'],
      [{ seccompProfilePath: '' }, '0'],
      [{ seccompProfilePath: 'unconfined' }, '0'],
      [{ seccompProfilePath: 'runtime/default' }, '2'],
      [{ seccompProfilePath: 'docker/default' }, '2'],
      [{ seccompProfilePath: `localhost/${profile('any.json', denying(['chmod']))}` }, '2'],
      [{ seccompProfilePath: 'runtime/default', seccomp: { profileType: 'Unconfined' } }, '0'],
      [{ privileged: true, seccomp: RUNTIME_DEFAULT }, '0'],
      [{ privileged: true, ...localhost('/nowhere.json') }, '0'],
    ];
    for (const [security, wanted] of cases) {
      const { stdout } = await node().run(status, { security });
      assert.equal(mode(stdout), wanted, JSON.stringify(security));
    }
  });

  it('is the same for a command in the container as for the container, whoever runs it', async () => {
    for (const security of [
      { seccomp: RUNTIME_DEFAULT },
      { seccomp: RUNTIME_DEFAULT, noNewPrivs: true },
      { seccomp: RUNTIME_DEFAULT, runAsUser: { value: 1000 } },
      { seccomp: RUNTIME_DEFAULT, runAsUser: { value: 1000 }, noNewPrivs: true },
      { seccomp: RUNTIME_DEFAULT, capabilities: { dropCapabilities: ['ALL'] } },
    ]) {
      const id = await node().start(await node().pod(), { security, mounts });
      assert.equal(mode(await node().exec(id, status)), '2');
      assert.equal(
        await node().exec(id, ['/probe/probe', `${numbers.get('userfaultfd')}:-1`]),
        `${numbers.get('userfaultfd')} 1\n`,
      );
    }
  });

  it('is loaded in a user namespace, too, with and without new privileges', async () => {
    const mapping = { containerId: 0, hostId: 300_000, length: 65_536 };
    const namespaceOptions = { usernsOptions: { mode: 'POD', uids: [mapping], gids: [mapping] } };
    const pod = await node().pod({ linux: { securityContext: { namespaceOptions } } });
    for (const noNewPrivs of [false, true]) {
      const security = { namespaceOptions, noNewPrivs, seccomp: RUNTIME_DEFAULT, runAsUser: { value: 1000 } };
      const id = await node().start(pod, { security });
      assert.equal(mode(readFileSync(`/proc/${await node().pidOf(id)}/status`, 'utf8')), '2');
      assert.equal(mode(await node().exec(id, status)), '2');
    }
  });

  it('stays the same for commands when its file changes and the daemon starts again', async () => {
    const path = profile('changing.json', denying(['fchmodat', 'chmod', 'fchmodat2'], { errnoRet: 113 }));
    const id = await node().start(await node().pod(), { security: localhost(path) });
    const chmod = () => node().client.call('ExecSync', { containerId: id, cmd: ['chmod', '700', '/tmp'], timeout: 20 });
    assert.match((await chmod()).stderr.toString(), /No route to host/);
    rmSync(path);
    await node().restart();
    assert.match((await chmod()).stderr.toString(), /No route to host/);
    assert.equal(mode(await node().exec(id, status)), '2');
  });

  it('takes a profile of the node, compares arguments and ends processes as it says', async () => {
    const kill = profile('kill.json', denying(['mkdir', 'mkdirat'], { action: 'SCMP_ACT_KILL_PROCESS' }));
    const { status: end } = await node().run(['mkdir', '/x'], { security: localhost(kill) });
    assert.equal(end.exitCode, 128 + 31);
    const arg = { index: 0, value: 2, op: 'SCMP_CMP_EQ' };
    const inet = profile('inet.json', denying(['socket'], { errnoRet: 97, args: [arg] }));
    const { stdout } = await node().run(
      ['/probe/probe', `${numbers.get('socket')}:2:2`, `${numbers.get('socket')}:1:2`],
      { security: localhost(inet), mounts },
    );
    assert.deepEqual(stdout.trim().split('\n'), [`${numbers.get('socket')} 97`, `${numbers.get('socket')} 0`]);
  });

  it('can refuse what a capability allows', async () => {
    const path = profile('hostname.json', denying(['sethostname']));
    const capabilities = { addCapabilities: ['SYS_ADMIN'] };
    const run = (security: object) => node().run(['hostname', 'changed'], { security: { capabilities, ...security } });
    assert.equal((await run({})).status.exitCode, 0);
    const { status: end, stderr } = await run(localhost(path));
    assert.notEqual(end.exitCode, 0);
    assert.match(stderr, /not permitted/);
  });

  it('may refuse all that makes an identity, since it is loaded after that', async () => {
    const names = [
      'setuid',
      'setgid',
      'setgroups',
      'setresuid',
      'setresgid',
      'fchown',
      'capget',
      'prctl',
      'close_range',
      'setns',
      'unshare',
      'chdir',
      'umask',
    ];
    const path = profile('identity.json', denying(names));
    for (const noNewPrivs of [false, true]) {
      const security = { ...localhost(path), noNewPrivs, runAsUser: { value: 1000 } };
      const { stdout, status: end } = await node().run(status, { security });
      assert.equal(end.exitCode, 0, end.message);
      assert.match(stdout, /^Uid:\s+1000\s/m);
      assert.match(stdout, /^CapEff:\s+0+$/m);
    }
    // The one thing that has to be let through without no_new_privs, and what it says when it is not.
    const security = localhost(profile('capset.json', denying(['capset'])));
    const id = await node().create(await node().pod(), { security });
    await refused(
      node().client.call('StartContainer', { containerId: id }),
      'INTERNAL',
      /set the capabilities.*not permitted/,
    );
    assert.equal((await node().run(['true'], { security: { ...security, noNewPrivs: true } })).status.exitCode, 0);
  });

  it('refuses a profile that cannot be had, and says why', async () => {
    const create = async (security: object) =>
      node().create(await node().pod(), { security: security as Record<string, unknown> });
    execFileSync('mkfifo', [join(files, 'fifo.json')]);
    const cases: [object, 'INVALID_ARGUMENT' | 'FAILED_PRECONDITION', RegExp][] = [
      [
        localhost(join(files, 'missing.json')),
        'FAILED_PRECONDITION',
        /missing\.json: there is no such file on this node/,
      ],
      [localhost(files), 'FAILED_PRECONDITION', /profiles: it is no regular file/],
      [localhost(join(files, 'fifo.json')), 'FAILED_PRECONDITION', /fifo\.json: it is no regular file/],
      [
        localhost(profile('huge.json', ' '.repeat((1 << 20) + 1))),
        'FAILED_PRECONDITION',
        /has 1048577 bytes, and 1048576 are the most/,
      ],
      [localhost(profile('cut.json', '{\n"defaultAction":\n')), 'INVALID_ARGUMENT', /cut\.json: line 3: no JSON/],
      [
        localhost(profile('field.json', denying(['read'], { errnoRet: 'x' }))),
        'INVALID_ARGUMENT',
        /field\.json: syscalls\[0\]\.errnoRet/,
      ],
      [
        localhost(profile('notify.json', denying(['read'], { action: 'SCMP_ACT_NOTIFY' }))),
        'INVALID_ARGUMENT',
        /SCMP_ACT_NOTIFY asks for an agent/,
      ],
      [localhost('relative.json'), 'INVALID_ARGUMENT', /"relative\.json": the path is not absolute/],
      [localhost(''), 'INVALID_ARGUMENT', /localhost profile and does not say which/],
      [{ seccompProfilePath: 'localhost/' }, 'INVALID_ARGUMENT', /does not say which/],
      [{ seccompProfilePath: 'strict' }, 'INVALID_ARGUMENT', /seccomp "strict" is not known/],
    ];
    for (const [security, code, message] of cases) await refused(create(security), code, message);
    const config = node().podConfig({ linux: { securityContext: { seccompProfilePath: 'strict' } } });
    await refused(node().client.call('RunPodSandbox', { config }), 'INVALID_ARGUMENT', /"strict" is not known/);
  });

  it('passes over names that it does not know, and tells so in the log', async () => {
    const path = profile('unknown.json', denying(['nosuchcall', 'mkdir', 'mkdirat']));
    const { status: end } = await node().run(['mkdir', '/x'], { security: localhost(path) });
    assert.equal(end.exitCode, 1);
    assert.match(node().daemon.log, /names system calls that are not known here.*nosuchcall/);
  });

  it('is told by a verbose status and in the runtime spec', async () => {
    const asked = async (security: object) => {
      const id = await node().create(await node().pod(), { security: security as Record<string, unknown> });
      const { info } = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
      return JSON.parse(info['info'] ?? '') as {
        seccomp: string;
        runtimeSpec: { linux: { seccomp?: { defaultAction: string; syscalls: unknown[] } } };
      };
    };
    const inDefault = await asked({ seccomp: RUNTIME_DEFAULT });
    assert.equal(inDefault.seccomp, 'runtime/default');
    assert.equal(inDefault.runtimeSpec.linux.seccomp?.defaultAction, 'SCMP_ACT_ERRNO');
    assert.ok(inDefault.runtimeSpec.linux.seccomp.syscalls.length > 10);
    const path = profile('shown.json', denying(['chmod']));
    assert.equal((await asked(localhost(path))).seccomp, `localhost/${path}`);
    const free = await asked({});
    assert.equal(free.seccomp, 'unconfined');
    assert.equal(free.runtimeSpec.linux.seccomp, undefined);
  });
});
