import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { BerthError, type ErrorKind } from '../../../src/base/errors';
import type { InnerOp } from '../../../src/native/plan-ops';
import { heldProcesses, heldText } from '../../../src/process/held';
import { openProcess, signalProcess, startTimeOf } from '../../../src/process/identity';
import { launchError } from '../../../src/process/launch-failure';

const { errno } = constants;

describe('what a failed launch says', () => {
  const exec: InnerOp = { op: 'EXEC', candidates: ['/bin/foo', '/usr/bin/foo'], argv: ['foo'], envp: [], addHome: 0 };
  const direct: InnerOp = { ...exec, candidates: ['/x/foo'], argv: ['/x/foo'] };
  const bind: InnerOp = {
    op: 'MOUNT_BIND',
    source: '/src',
    target: '/dst',
    set: 0n,
    clear: 0n,
    propagation: 0n,
    flags: 0,
  };
  const user: InnerOp = {
    op: 'LOOKUP_USER',
    user: 'joe',
    group: 'g',
    hasGroup: 0,
    gid: 0,
    merge: 0,
    groups: Buffer.alloc(0),
  };
  const table: [InnerOp, number, string, ErrorKind, string][] = [
    [exec, errno.ENOENT, '', 'not_found', 'exec: "foo": not found in PATH of the image'],
    [direct, errno.ENOENT, '', 'not_found', 'exec: "/x/foo": no such file in the image'],
    [exec, errno.EACCES, '/bin/foo', 'permission_denied', 'exec: "foo": /bin/foo is not executable for this user'],
    [exec, errno.EISDIR, '/bin/foo', 'failed_precondition', 'exec: "foo": /bin/foo is a directory'],
    [exec, errno.ENOEXEC, '/bin/foo', 'failed_precondition', 'exec: "foo": /bin/foo is not a program for this machine'],
    [
      exec,
      errno.E2BIG,
      '/bin/foo',
      'invalid_argument',
      'exec: "foo": an argument or a variable, or all of them, are too',
    ],
    [exec, 79, '/bin/foo', 'failed_precondition', 'exec: "foo": /bin/foo is there, but not the interpreter or loader'],
    [
      { op: 'CWD', path: '/w' },
      errno.EXDEV,
      '',
      'invalid_argument',
      'working directory /w: it leads out of the container',
    ],
    [bind, errno.ENOENT, 'open /src', 'invalid_argument', 'mount /src at /dst: open /src: no such file or directory'],
    [
      { op: 'HOLD_SOURCE', source: '/src', target: '/dst', flags: 64 },
      errno.ENOLINK,
      'the mount at /x, which it lies on, is not shared',
      'failed_precondition',
      'mount /src at /dst: the mount at /x, which it lies on, is not shared',
    ],
    [user, errno.ENOENT, 'user joe', 'not_found', "user joe: no such user in the image's /etc/passwd"],
    [user, errno.ENOENT, 'group g', 'not_found', "group g: no such group in the image's /etc/group"],
    [{ op: 'MASK', path: '/proc/keys' }, errno.EPERM, '', 'internal', 'mask /proc/keys: not permitted'],
    [{ op: 'SETSID' }, 9999, 'why', 'internal', 'setsid: errno 9999 (why)'],
  ];
  for (const [step, number, detail, kind, message] of table) {
    it(message, () => {
      const plan = { outer: [], inner: [{ op: 'SETSID' } as const, step] };
      const error = launchError({ type: 'FAILED', section: 1, step: 1, errno: number, detail }, plan);
      assert.ok(error instanceof BerthError);
      assert.equal(error.kind, kind);
      assert.ok(error.message.startsWith(message), error.message);
      assert.equal(error.op, step.op);
    });
  }

  it('names the security module that may have refused the program, and the label that it does not know', () => {
    const said = (number: number, step: InnerOp, before: InnerOp[] = []) =>
      launchError(
        { type: 'FAILED', section: 1, step: before.length, errno: number, detail: '/x/foo' },
        { outer: [], inner: [...before, step] },
      ).message;
    const profile: InnerOp = { op: 'EXEC_LABEL', attribute: 'apparmor/exec', label: 'exec mine' };
    const label: InnerOp = { op: 'EXEC_LABEL', attribute: 'exec', label: 'u:r:t:s0' };
    const refused = 'exec: "/x/foo": /x/foo is not executable for this user';
    assert.equal(said(errno.EACCES, direct), refused);
    const others = 'AppArmor profile mine or SELinux label u:r:t:s0';
    assert.equal(
      said(errno.EACCES, direct, [profile, label]),
      `${refused}; if its mode allows it, ${others} does not: the kernel's log says so`,
    );
    assert.equal(said(errno.ENOENT, profile), 'AppArmor profile mine: it is not loaded on this node any more');
    assert.equal(said(errno.EINVAL, label), "SELinux label u:r:t:s0: this node's policy does not have it");
    assert.equal(said(errno.EPERM, label), 'SELinux label u:r:t:s0: /x/foo: not permitted');
  });

  it('is a sentence also for a step that the plan does not have', () => {
    const error = launchError(
      { type: 'FAILED', section: 0, step: 7, errno: errno.EPERM, detail: '' },
      { outer: [], inner: [] },
    );
    assert.equal(error.message, 'start the process: clone: not permitted');
    assert.equal(error.op, undefined);
  });
});

describe('the identity of a process', () => {
  it('is its pid and start time', async () => {
    const child = spawn('sleep', ['100']);
    const pid = child.pid ?? assert.fail('no pid');
    const ended = once(child, 'exit');
    const startTime = startTimeOf(pid) ?? assert.fail('it runs');
    assert.equal(startTime, startTimeOf(pid));
    const pidfd = openProcess(pid, startTime) ?? assert.fail('it runs');
    closeSync(pidfd);
    assert.equal(openProcess(pid, startTime + 1n), undefined, 'another process of the same pid');
    assert.equal(signalProcess(pid, startTime + 1n, 9), false);
    assert.equal(signalProcess(pid, startTime, 15), true);
    assert.deepEqual(await ended, [null, 'SIGTERM']);
    assert.equal(startTimeOf(pid), undefined);
    assert.equal(openProcess(pid, startTime), undefined);
    assert.equal(signalProcess(pid, startTime, 9), false);
  });

  it('is none for a zombie', async () => {
    const child = spawn('sh', ['-c', 'sleep 0 & exec sleep 100']);
    const pid = child.pid ?? assert.fail('no pid');
    try {
      let zombie: number | undefined;
      while (zombie === undefined) {
        const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
        const isZombie = children !== '' && / Z /.test(readFileSync(`/proc/${children}/stat`, 'utf8'));
        if (isZombie) zombie = Number(children);
        else await new Promise(resolve => setImmediate(resolve));
      }
      assert.equal(startTimeOf(zombie), undefined);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('does not depend on what the process calls itself', async () => {
    const child = spawn('sh', ['-c', 'printf "a) Z 1 2 (" > /proc/self/comm; echo ready; read x'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    try {
      await once(child.stdout, 'data');
      assert.ok((startTimeOf(child.pid ?? 0) ?? 0n) > 0n);
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('a killed process that does not end', () => {
  it('is told by pid, name, state and the function that it waits in', async () => {
    const child = spawn('sh', ['-c', 'printf "a) R (b" > /proc/self/comm; echo ready; read x'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    try {
      await once(child.stdout, 'data');
      const pid = child.pid ?? 0;
      const [held, ...more] = heldProcesses([pid, 2 ** 30]);
      assert.deepEqual(more, [], 'there is no process of that pid');
      assert.equal(held?.name, 'a) R (b');
      assert.match(held?.state ?? '', /^[RS]$/);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('stands in a sentence behind those that wait in the kernel', () => {
    const held = (pid: number, state: string, wchan?: string) => ({ pid, name: 'sh', state, wchan });
    assert.equal(
      heldText([held(7, 'Z'), held(8, 'D', 'rpc_wait_bit_killable')]),
      'the kernel holds process 8 (sh) in state D, waiting in rpc_wait_bit_killable, process 7 (sh) in state Z',
    );
    assert.match(heldText([1, 2, 3, 4, 5].map(pid => held(pid, 'D'))), /process 3 \(sh\) in state D, and 2 more$/);
    assert.match(heldText([]), /none of its processes is there any more/);
  });
});
