import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { addon } from '../../src/native/addon';
import { ControlSocket } from '../../src/native/control';
import { nativePath } from '../../src/native/paths';
import { encodePlan } from '../../src/native/plan';
import type { HelperMessage, InnerOp, LaunchPlan } from '../../src/native/plan-ops';
import { capabilityMask, DEFAULT_CAPABILITIES } from '../../src/oci/capabilities';
import { CLONE, MOUNT_FLAGS, MS } from '../../src/oci/linux';
import { reapWhenEnded } from '../../src/process/reap';

const { errno } = constants;
const { EISDIR, ENOENT } = errno;

/** linux/filter.h and linux/seccomp.h: instructions of a filter. */
const instruction = (code: number, jumpTrue: number, jumpFalse: number, k: number) => {
  const bytes = Buffer.from([code, 0, jumpTrue, jumpFalse, 0, 0, 0, 0]);
  bytes.writeUInt32LE(k, 4);
  return bytes;
};
const load = (offset: number) => instruction(0x20, 0, 0, offset);
const ifEqual = (value: number, jumpTrue: number, jumpFalse: number) => instruction(0x15, jumpTrue, jumpFalse, value);
const answer = (value: number) => instruction(0x06, 0, 0, value);
const [ALLOW, ERRNO] = [0x7fff0000, 0x00050000];
const KEYCTL: Partial<Record<string, number>> = { x64: 250, arm64: 219 };

/** Runs a plan in a monitor, from its start to its end; all that the helper said. */
async function execute(plan: Buffer, stateDir: string): Promise<HelperMessage[]> {
  const native = addon();
  const fds = [
    native.memfd(readFileSync(nativePath('berth-helper')), 'helper'),
    native.memfd(plan, 'plan'),
    openSync('/dev/null', 'r+'),
    openSync(stateDir, 'r'),
  ] as const;
  const [program, planFd, devNull, dir] = fds;
  const [ours, theirs] = native.socketPair();
  const child = await native.spawn(
    program,
    ['berth-helper', 'monitor', 'test'],
    [devNull, devNull, devNull, planFd, theirs, dir],
    -1,
  );
  for (const fd of [...fds, theirs]) closeSync(fd);
  const ended = new Promise<void>(resolve => reapWhenEnded(child.pidfd, () => resolve()));
  const heard: HelperMessage[] = [];
  const closed = new Promise<void>(resolve => {
    const socket = ControlSocket.fromFd(
      ours,
      message => {
        heard.push(message);
        if (message.type === 'CREATED') socket.send({ type: 'START' });
      },
      resolve,
    );
  });
  await Promise.all([ended, closed]);
  return heard;
}

describe('the helper', function () {
  this.timeout(60_000);
  let dir: string;
  let rounds = 0;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-helper-'));
    for (const name of ['root', 'stage', 'outside', 'states']) mkdirSync(join(dir, name));
    for (const name of ['bin', 'dev', 'etc', 'proc', 'tmp']) mkdirSync(join(dir, 'root', name));
    copyFileSync('/bin/busybox', join(dir, 'root/bin/busybox'));
    for (const name of ['sh', 'ls', 'cat', 'echo', 'touch', 'pwd', 'readlink'])
      symlinkSync('busybox', join(dir, 'root/bin', name));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const log = () => join(dir, 'log');
  const planOf = (steps: InnerOp[], command: string[], last: InnerOp[] = []): LaunchPlan => ({
    outer: [
      { op: 'CLONE_FLAGS', flags: BigInt(CLONE.newns | CLONE.newpid) },
      { op: 'LOG', path: log(), maxLine: 0 },
      { op: 'STDIN', mode: 0 },
    ],
    inner: [
      { op: 'PROPAGATION', flags: MS.rec | MS.slave, path: '/' },
      { op: 'ROOT_BIND', stage: join(dir, 'stage'), source: join(dir, 'root'), readonly: 0 },
      { op: 'MOUNT_FS', type: 'proc', target: '/proc', attrs: 0n, options: [], flags: 0 },
      ...steps,
      { op: 'PIVOT_ROOT', propagation: MS.private },
      { op: 'LOOKUP_USER', user: '0', group: '', hasGroup: 0, gid: 0, merge: 0, groups: Buffer.alloc(0) },
      { op: 'AWAIT_GO' },
      { op: 'SETSID' },
      ...last,
      { op: 'IDENTITY', bounding: capabilityMask(DEFAULT_CAPABILITIES) },
      {
        op: 'CAPABILITIES',
        effective: capabilityMask(DEFAULT_CAPABILITIES),
        permitted: capabilityMask(DEFAULT_CAPABILITIES),
        inheritable: 0n,
        ambient: 0n,
      },
      { op: 'EXEC', candidates: [command[0] ?? ''], argv: command, envp: ['PATH=/bin'], addHome: 0 },
    ],
  });
  const execBytes = (bytes: Buffer) => {
    const state = join(dir, 'states', String(++rounds));
    mkdirSync(state);
    return execute(bytes, state);
  };
  const run = async (steps: InnerOp[], command: string[], last: InnerOp[] = []) => {
    rmSync(log(), { force: true });
    const heard = await execBytes(encodePlan(planOf(steps, command, last)));
    const end = heard.at(-1);
    const output = existsSync(log()) ? readFileSync(log(), 'utf8') : '';
    return { end, output: output.replace(/^\S+ \S+ [FP] /gm, '') };
  };
  const failedWith = (end: HelperMessage | undefined, number: number, what: string) => {
    assert.ok(end?.type === 'FAILED', `${what}: ${JSON.stringify(end?.type)}`);
    assert.equal(end.errno, number, `${what}: errno ${end.errno} ${end.detail}`);
  };

  it('runs a command and tells how it ended', async () => {
    const { end, output } = await run([], ['/bin/sh', '-c', 'echo hello; exit 3']);
    assert.ok(end?.type === 'EXITED');
    assert.deepEqual([end.exitCode, end.signal], [3, 0]);
    assert.equal(output, 'hello\n');
  });

  it('starts what a filter keeps from keyrings, as it keeps all that is started', async () => {
    const refused = [load(0), ifEqual(KEYCTL[process.arch] ?? 0, 0, 1), answer(ERRNO + errno.EPERM), answer(ALLOW)];
    const seccomp = { op: 'SECCOMP', flags: 0, filter: Buffer.concat(refused) } as const;
    const { end } = await run([], ['/bin/echo'], [seccomp, { op: 'KEYRING', label: '' }]);
    assert.ok(end?.type === 'EXITED' && end.exitCode === 0, JSON.stringify(end?.type));
  });

  it('says which step it was when the root or the log, which its monitor makes meanwhile, cannot be made', async () => {
    const plan = planOf([], ['/bin/echo']);
    const missing = join(dir, 'missing');
    const overlay = {
      op: 'ROOT_OVERLAY',
      stage: join(dir, 'stage'),
      upper: missing,
      work: missing,
      flags: 0,
      lowers: [join(dir, 'root')],
    } as const;
    const inner = plan.inner.map(op => (op.op === 'ROOT_BIND' ? overlay : op));
    const outer = plan.outer.map(op => (op.op === 'LOG' ? { ...op, path: join(dir, 'stage') } : op));
    for (const [heard, section, number] of [
      [await execBytes(encodePlan({ ...plan, inner })), 1, ENOENT],
      [await execBytes(encodePlan({ ...plan, outer })), 0, EISDIR],
    ] as const) {
      const end = heard.at(-1);
      failedWith(end, number, `section ${section}`);
      assert.ok(end?.type === 'FAILED');
      assert.deepEqual([end.section, end.step], [section, 1]);
      assert.equal(end.detail.includes(missing), section === 1);
    }
  });

  it('writes a sysctl to procfs only, whatever lies over it (CVE-2025-52881)', async () => {
    const uts: InnerOp = { op: 'UNSHARE', flags: CLONE.newuts };
    const set = (path: string): InnerOp => ({ op: 'SYSCTL', path, value: 'berth-test' });
    const over = (target: string): InnerOp => ({
      op: 'MOUNT_FS',
      type: 'tmpfs',
      target,
      attrs: 0n,
      options: [],
      flags: 0,
    });
    const show = ['/bin/cat', '/proc/sys/kernel/hostname'];
    assert.equal((await run([], show, [uts, set('kernel/hostname')])).output, 'berth-test\n');
    const outside = constants.errno.EXDEV;
    failedWith((await run([over('/proc/sys')], show, [uts, set('kernel/hostname')])).end, outside, 'over /proc/sys');
    failedWith((await run([over('/proc/sys/kernel')], show, [uts, set('kernel/hostname')])).end, outside, 'below it');
    failedWith((await run([], show, [uts, set('../sys/kernel/hostname')])).end, outside, '..');
  });

  it('writes a label to a procfs that nobody can lie over, and tells what the kernel says (CVE-2025-52881)', async () => {
    const over = (target: string): InnerOp => ({
      op: 'MOUNT_FS',
      type: 'tmpfs',
      target,
      attrs: 0n,
      options: [],
      flags: 0,
    });
    const label = (attribute: string): InnerOp => ({ op: 'EXEC_LABEL', attribute, label: 'a_u:b_r:no_such_t:s0' });
    const { EINVAL, ENOENT, EXDEV, EACCES } = constants.errno;
    for (const steps of [[], [over('/proc')], [over('/proc/sys')]]) {
      const { end } = await run(steps, ['/bin/echo', 'ran'], [label('exec')]);
      // No kernel has this label: where no security module takes labels it is invalid, else it is refused.
      assert.ok(end?.type === 'FAILED' && [EINVAL, EACCES].includes(end.errno), JSON.stringify(end?.type));
      assert.equal(end.detail, 'write attr/exec');
    }
    failedWith((await run([], ['/bin/echo'], [label('nosuch/exec')])).end, ENOENT, 'no such module');
    failedWith((await run([], ['/bin/echo'], [label('../stat')])).end, EXDEV, 'another file');
    assert.equal((await run([], ['/bin/echo', 'ran'])).output, 'ran\n');
  });

  it('refuses a plan that is cut short, wherever', async () => {
    const marker = join(dir, 'root/tmp/ran');
    const bytes = encodePlan(planOf([], ['/bin/touch', '/tmp/ran']));
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), async length => {
        const heard = await execBytes(bytes.subarray(0, length));
        assert.deepEqual(
          heard.map(({ type }) => type),
          ['FAILED'],
          String(length),
        );
        assert.equal(existsSync(marker), false);
      }),
      { numRuns: 60, endOnFailure: true },
    );
    assert.equal((await execBytes(bytes)).at(-1)?.type, 'EXITED');
    assert.equal(existsSync(marker), true);
  });

  it('refuses a plan whose header, operations or lengths are garbled', async () => {
    const marker = join(dir, 'root/tmp/ran');
    const bytes = encodePlan(planOf([], ['/bin/touch', '/tmp/ran']));
    const words = [0, 4, 8];
    for (let at = 16; at < bytes.length; at += 8 + bytes.readUInt32LE(at + 4)) words.push(at, at + 4);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...words), fc.integer({ min: 1000, max: 0xffffffff }), async (at, value) => {
        const garbled = Buffer.from(bytes);
        garbled.writeUInt32LE(value, at);
        fc.pre(!garbled.equals(bytes));
        const heard = await execBytes(garbled);
        assert.deepEqual(
          heard.map(({ type }) => type),
          ['FAILED'],
          `${value} at ${at}`,
        );
        failedWith(heard[0], errno.EBADMSG, `${value} at ${at}`);
        assert.equal(existsSync(marker), false);
      }),
      { numRuns: 80, endOnFailure: true },
    );
  });

  it('refuses noise', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async noise => {
        const heard = await execBytes(Buffer.from(noise));
        assert.deepEqual(
          heard.map(({ type }) => type),
          ['FAILED'],
        );
      }),
      { numRuns: 30, endOnFailure: true },
    );
  });

  it('fails with the step and errno of what went wrong', async () => {
    const steps: InnerOp[] = [{ op: 'MKDIR', path: '/bin/busybox/x', mode: 0o755 }];
    const { end } = await run(steps, ['/bin/echo']);
    failedWith(end, errno.ENOTDIR, 'MKDIR');
    assert.ok(end?.type === 'FAILED');
    assert.deepEqual([end.section, end.step], [1, 3]);
  });

  it('makes nothing outside of the root, whatever links the image has', async () => {
    const outside = join(dir, 'outside');
    writeFileSync(join(outside, 'secret'), 'secret');
    symlinkSync(outside, join(dir, 'root/absolute'));
    symlinkSync(`../../../../../../../..${outside}`, join(dir, 'root/up'));
    symlinkSync('/proc/1/root', join(dir, 'root/magic'));
    for (const via of ['/absolute', '/up', `/magic${outside}`]) {
      const results = await Promise.all([
        run([{ op: 'MKDIR', path: `${via}/dir`, mode: 0o755 }], ['/bin/echo']),
        run([{ op: 'SYMLINK', target: 'x', path: `${via}/link` }], ['/bin/echo']),
        run([{ op: 'MKNOD', path: `${via}/null`, mode: 0o020666, major: 1, minor: 3, uid: 0, gid: 0 }], ['/bin/echo']),
        run(
          [{ op: 'MOUNT_BIND', source: dir, target: `${via}/mount`, set: 0n, clear: 0n, propagation: 0n, flags: 0 }],
          ['/bin/echo'],
        ),
        run([{ op: 'MASK', path: `${via}/secret` }], ['/bin/echo']),
        run([{ op: 'READONLY', path: `${via}/secret` }], ['/bin/echo']),
        run([], ['/bin/echo'], [{ op: 'CWD', path: `${via}/cwd` }]),
      ]);
      for (const { end } of results) assert.ok(end?.type === 'EXITED' || end?.type === 'FAILED', via);
    }
    assert.deepEqual(readdirSync(outside), ['secret']);
    assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret');
  });

  it('mounts at the place that a dangling link names, inside the root', async () => {
    symlinkSync('/not/yet/here', join(dir, 'root/dangling'));
    writeFileSync(join(dir, 'outside/file'), 'content\n');
    const source = join(dir, 'outside/file');
    const bind = {
      op: 'MOUNT_BIND',
      source,
      target: '/dangling',
      set: 0n,
      clear: 0n,
      propagation: 0n,
      flags: 0,
    } as const;
    const { output } = await run([bind], ['/bin/cat', '/not/yet/here']);
    assert.equal(output, 'content\n');
    assert.equal(existsSync('/not/yet/here'), false);
  });

  const held = (source: string, target: string) => ({
    hold: { op: 'HOLD_SOURCE', source, target, flags: 0 } as const,
    bind: {
      op: 'MOUNT_BIND',
      source,
      target,
      set: 0n,
      clear: 0n,
      propagation: MS.private,
      flags: MOUNT_FLAGS.sourceHeld,
    } as const,
  });

  it('copies holes as holes, and what is no file as it is', async () => {
    const [image, volume] = [join(dir, 'root/data'), join(dir, 'outside/volume')];
    mkdirSync(image);
    mkdirSync(volume);
    const sparse = openSync(join(image, 'sparse'), 'w');
    writeSync(sparse, 'end', 2 ** 30);
    closeSync(sparse);
    spawnSync('mkfifo', [join(image, 'fifo')]);
    symlinkSync('/etc/passwd', join(image, 'link'));
    const { hold, bind } = held(volume, '/data');
    const { end } = await run([hold, { op: 'COPY_UP', target: '/data' }, bind], ['/bin/ls']);
    assert.equal(end?.type, 'EXITED');
    const { size, blocks } = statSync(join(volume, 'sparse'));
    assert.equal(size, 2 ** 30 + 3);
    assert.ok(blocks < 64);
    assert.ok(lstatSync(join(volume, 'fifo')).isFIFO());
    assert.equal(readlinkSync(join(volume, 'link')), '/etc/passwd');
  });

  it('copies nothing that is mounted in the root, and nothing deeper than it can walk', async () => {
    const volume = join(dir, 'outside/volume');
    mkdirSync(volume);
    const { hold, bind } = held(volume, '/proc/sys');
    const mounted = await run([hold, { op: 'COPY_UP', target: '/proc/sys' }, bind], ['/bin/ls']);
    assert.equal(mounted.end?.type, 'EXITED');
    assert.deepEqual(readdirSync(volume), []);
    mkdirSync(join(dir, 'root/deep', ...Array.from({ length: 300 }, () => 'd')), { recursive: true });
    const deep = held(volume, '/deep');
    failedWith((await run([deep.hold, { op: 'COPY_UP', target: '/deep' }], ['/bin/ls'])).end, errno.ELOOP, 'too deep');
  });

  it('labels everything in a volume, and nothing that links in it lead to', async () => {
    const [volume, other] = [join(dir, 'outside/volume'), join(dir, 'outside/other')];
    mkdirSync(join(volume, 'sub'), { recursive: true });
    writeFileSync(join(volume, 'sub/file'), '');
    writeFileSync(other, '');
    symlinkSync(other, join(volume, 'link'));
    const label = 'system_u:object_r:container_file_t:s0:c1,c2';
    const { hold, bind } = held(volume, '/vol');
    assert.equal((await run([hold, { op: 'RELABEL', target: '/vol', label }, bind], ['/bin/ls'])).end?.type, 'EXITED');
    const labelOf = (path: string) =>
      spawnSync('getfattr', ['-h', '--absolute-names', '--only-values', '-n', 'security.selinux', path], {
        encoding: 'latin1',
      }).stdout;
    for (const path of ['', 'sub', 'sub/file', 'link']) assert.equal(labelOf(join(volume, path)), `${label}\0`, path);
    assert.equal(labelOf(other), '');
  });

  it('reaches a standard mount’s place through no link', async () => {
    symlinkSync('/tmp', join(dir, 'root/link'));
    const mount = { op: 'MOUNT_FS', type: 'tmpfs', attrs: 0n, options: [], flags: MOUNT_FLAGS.targetNoLinks } as const;
    failedWith((await run([{ ...mount, target: '/link' }], ['/bin/echo'])).end, errno.ELOOP, 'the link itself');
    failedWith((await run([{ ...mount, target: '/link/below' }], ['/bin/echo'])).end, errno.ELOOP, 'a link on the way');
    assert.equal((await run([{ ...mount, target: '/new/place' }], ['/bin/echo'])).end?.type, 'EXITED');
  });

  it('masks files and directories, and passes over what is not there', async () => {
    writeFileSync(join(dir, 'root/etc/secret'), 'secret');
    mkdirSync(join(dir, 'root/etc/secrets'));
    writeFileSync(join(dir, 'root/etc/secrets/one'), 'secret');
    const steps = ['/etc/secret', '/etc/secrets', '/etc/none', '/etc/secret/none'].map(
      path => ({ op: 'MASK', path }) as const,
    );
    const { end, output } = await run(steps, [
      '/bin/sh',
      '-c',
      'cat /etc/secret; ls /etc/secrets; echo x > /etc/secrets/y || echo no',
    ]);
    assert.equal(end?.type, 'EXITED');
    assert.match(output, /^no$/m);
    assert.doesNotMatch(output, /^secret$/m);
  });

  it('masks with the device /dev/null, not with what the image has in its place', async () => {
    symlinkSync('/proc/sys/kernel/core_pattern', join(dir, 'root/dev/null'));
    writeFileSync(join(dir, 'root/etc/secret'), 'secret');
    const { output } = await run(
      [{ op: 'MASK', path: '/etc/secret' }],
      ['/bin/sh', '-c', 'echo x > /etc/secret; cat /etc/secret; [ -c /etc/secret ] && echo device'],
    );
    assert.equal(output, 'device\n');
  });

  it('leaves no descriptor but 0, 1 and 2', async () => {
    const script = 'i=0; while [ $i -lt 64 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done';
    assert.equal((await run([], ['/bin/sh', '-c', script])).output, '0\n1\n2\n');
  });

  it('is never outside of the root, whatever descriptor the working directory names', async () => {
    for (let fd = 0; fd < 12; fd++) {
      const { end, output } = await run([], ['/bin/sh', '-c', 'pwd; ls'], [{ op: 'CWD', path: `/proc/self/fd/${fd}` }]);
      if (end?.type === 'FAILED') continue;
      assert.equal(output.split('\n')[0], '/', `descriptor ${fd}`);
      assert.match(output, /^bin\ndev\netc\n/m);
    }
  });

  it('is a file that nobody can write to', async () => {
    const fd = addon().memfd(Buffer.from('program'), 'test');
    try {
      assert.throws(() => writeSync(fd, 'x', 0), /EPERM|EBADF/);
      assert.throws(() => {
        const again = openSync(`/proc/self/fd/${fd}`, 'r+');
        try {
          writeSync(again, 'x', 0);
        } finally {
          closeSync(again);
        }
      }, /EPERM|EACCES|ETXTBSY/);
      assert.equal(readFileSync(`/proc/self/fd/${fd}`, 'utf8'), 'program');
    } finally {
      closeSync(fd);
    }
    const { end, output } = await run(
      [],
      ['/bin/sh', '-c', 'exec 2>&1; (echo x > /proc/1/exe) || echo refused; exec /bin/echo done'],
    );
    assert.ok(end?.type === 'EXITED' && end.exitCode === 0);
    assert.match(output, /refused\ndone\n$/);
  });

  it('gives back what it is started as when the command is /proc/self/exe, and cannot be changed by that', async () => {
    const { end } = await run([], ['/proc/self/exe', 'monitor']);
    assert.ok(end?.type === 'FAILED' || (end?.type === 'EXITED' && end.exitCode !== 0));
    assert.equal((await run([], ['/bin/echo'])).end?.type, 'EXITED');
  });

  it('says that it is not for people when a person starts it', async () => {
    const { status, stderr } = spawnSync(nativePath('berth-helper'), []);
    assert.equal(status, 2);
    assert.match(stderr.toString(), /started by berthd/);
  });
});
