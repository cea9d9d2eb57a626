import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupDir, cgroupOf } from '../support/cgroup-files';
import { busyboxImage } from '../support/image-builder';
import { CriClient } from '../support/cri-client';
import { allPids, commandLine, linkOf, processesIn } from '../support/processes';
import { residentBytes, snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';
import { patience } from '../support/patience';

const MIB = 1024 * 1024;

describe('ExecSync', function () {
  this.timeout(60_000);
  const node = useNode();
  const container = async () => node().start(await node().pod());
  const sync = (id: string, cmd: string[], timeout = 60 * patience) =>
    node().client.call('ExecSync', { containerId: id, cmd, timeout }, 120_000 * patience);

  /** A command that runs, and who watches it. */
  const watched = (pattern: RegExp) =>
    found(() =>
      childrenOf(node().daemon.pid)
        .filter(pid => commandLine(pid)[1] === 'exec')
        .flatMap(helper => childrenOf(helper).map(command => ({ helper, command })))
        .find(({ command }) => pattern.test(commandLine(command).join(' '))),
    );

  it('returns both streams and the exit code', async () => {
    const id = await container();
    const { stdout, stderr, exitCode } = await sync(id, ['sh', '-c', 'echo out; echo err >&2; printf "\\377"; exit 9']);
    assert.equal(stdout.toString('latin1'), 'out\n\xff');
    assert.equal(stderr.toString(), 'err\n');
    assert.equal(exitCode, 9);
  });

  it('returns 128 and the signal for a command that was killed', async () => {
    assert.equal((await sync(await container(), ['sh', '-c', 'kill -9 $$'])).exitCode, 137);
  });

  it('keeps 16 MiB of each stream and lets the command go on', async () => {
    const id = await container();
    const script = 'yes | head -c 40000000; yes e | head -c 20000000 >&2; echo finished > /done; exit 4';
    const { stdout, stderr, exitCode } = await sync(id, ['sh', '-c', script]);
    assert.equal(exitCode, 4);
    assert.equal(stdout.length, 16 * MIB);
    assert.equal(stderr.length, 16 * MIB);
    assert.equal(stdout.subarray(-2).toString(), 'y\n');
    assert.equal(await node().exec(id, ['cat', '/done']), 'finished\n');
  });

  it('does not grow the daemon by what it throws away', async function () {
    this.timeout(300_000);
    const id = await container();
    const { pid } = node().daemon;
    const say = async (bytes: number) => {
      const cmd = ['sh', '-c', `yes | head -c ${bytes}`];
      assert.equal((await node().client.call('ExecSync', { containerId: id, cmd }, 300_000 * patience)).exitCode, 0);
    };
    await say(40_000_000);
    const before = residentBytes(pid);
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, residentBytes(pid))), 20);
    await say(160_000_000).finally(() => clearInterval(timer));
    assert.ok(most - before < 100 * MIB, `grew by ${(most - before) / MIB} MiB`);
  });

  it('kills a command and what it started when the time is up', async () => {
    const id = await container();
    await refused(sync(id, ['sh', '-c', 'sleep 555 & sleep 556'], 1), 'DEADLINE_EXCEEDED', /sh.*1 s/);
    assert.doesNotMatch(await node().exec(id, ['ps']), /sleep 55/);
  });

  it('kills the command when the caller goes away', async () => {
    const id = await container();
    const call = node().client.call('ExecSync', { containerId: id, cmd: ['sleep', '557'], timeout: 0 }, 300);
    await refused(call, 'DEADLINE_EXCEEDED');
    const until = Date.now() + 60_000;
    while (/sleep 557/.test(await node().exec(id, ['ps'])) && Date.now() < until);
    assert.doesNotMatch(await node().exec(id, ['ps']), /sleep 557/);
  });

  it('does not wait for a child in the background that holds the output open', async () => {
    const id = await container();
    const { stdout, exitCode } = await sync(id, ['sh', '-c', 'sleep 600 & echo started']);
    assert.equal(stdout.toString(), 'started\n');
    assert.equal(exitCode, 0);
  });

  it('refuses a command that is not there, and none at all', async () => {
    const id = await container();
    await refused(sync(id, ['foo']), 'NOT_FOUND', 'exec: "foo": not found in PATH of the image');
    await refused(sync(id, ['/bin/foo']), 'NOT_FOUND', '"/bin/foo": no such file in the image');
    await refused(sync(id, ['/etc/passwd']), 'PERMISSION_DENIED', 'not executable');
    await refused(sync(id, ['/etc']), 'FAILED_PRECONDITION', 'is a directory');
    await refused(sync(id, []), 'INVALID_ARGUMENT');
  });

  it('refuses a container that does not run, and a negative time-out', async () => {
    const pod = await node().pod();
    const created = await node().create(pod);
    await refused(sync(created, ['true']), 'FAILED_PRECONDITION', 'created');
    await node().client.call('StopContainer', { containerId: created, timeout: 0 });
    await refused(sync(created, ['true']), 'FAILED_PRECONDITION', 'exited');
    await refused(sync(await container(), ['true'], -1), 'INVALID_ARGUMENT', 'timeout');
  });

  it('runs as the container runs: user, groups, capabilities, directory, environment, cgroup, namespaces', async () => {
    const id = await node().start(await node().pod(), {
      security: {
        runAsUser: { value: 1000 },
        supplementalGroups: [3000],
        noNewPrivs: true,
        capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['CHOWN'] },
      },
      workingDir: '/tmp',
      envs: [{ key: 'A', value: Buffer.from('b c') }],
    });
    const own = (
      await node().exec(id, ['sh', '-c', 'cat /proc/1/task/*/comm > /dev/null; id; pwd; echo $A; echo $HOME'])
    ).trim();
    assert.equal(own, 'uid=1000(user) gid=1000(user) groups=1000(user),2000(extra),3000\n/tmp\nb c\n/home');
    const pid = await node().pidOf(id);
    const lines = (text: string) => text.split('\n').filter(line => /^(Cap|NoNewPrivs|Groups|Seccomp:)/.test(line));
    assert.deepEqual(
      lines(await node().exec(id, ['cat', '/proc/self/status'])),
      lines(readFileSync(`/proc/${pid}/status`, 'utf8')),
    );
    const ownCgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const execPid = node().client.call('ExecSync', { containerId: id, cmd: ['sleep', '558'], timeout: 0 }, 20_000);
    execPid.catch(() => undefined);
    const find = () =>
      processesIn(node().daemon.cgroupRoots).find(p => {
        try {
          return readFileSync(`/proc/${p}/cmdline`, 'latin1') === 'sleep\x00558\x00';
        } catch {
          return false;
        }
      });
    let found: number | undefined;
    while ((found = find()) === undefined) await new Promise(resolve => setImmediate(resolve));
    assert.equal(readFileSync(`/proc/${found}/cgroup`, 'utf8'), ownCgroups);
  });

  it('begins with no signal ignored or blocked, as the container does', async () => {
    const show = ['grep', '-E', '^Sig(Ign|Blk)', '/proc/self/status'];
    const none = 'SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n';
    const own = readFileSync(`/proc/${node().daemon.pid}/status`, 'utf8');
    assert.doesNotMatch(own, /^SigIgn:\t0{16}$/m, 'the daemon ignores some, so that there is something to see');
    assert.equal(await node().exec(await node().start(await node().pod()), show), none);
    assert.equal((await node().run(show)).stdout, none);
  });

  it('passes environment of the container on as bytes', async () => {
    const value = Buffer.from([0xff, 0xfe, 0x20, 0x0a, 0x80]);
    const id = await node().start(await node().pod(), { envs: [{ key: 'RAW', value }] });
    const { stdout } = await sync(id, ['sh', '-c', 'printf %s "$RAW"']);
    assert.deepEqual(stdout, value);
  });

  it('passes environment of the image on as bytes of UTF-8', async () => {
    const image = await node().pull('utf8', busyboxImage({ config: { Env: ['PATH=/bin', 'WORD=Grüße=1'] } }));
    const { stdout } = await sync(await node().start(await node().pod(), { image }), ['sh', '-c', 'printf %s "$WORD"']);
    assert.equal(stdout.toString(), 'Grüße=1');
  });

  it('runs 20 at once and leaves no process and no descriptor', async () => {
    const id = await container();
    await sync(id, ['true']);
    const before = snapshot(node().daemon);
    for (let round = 0; round < 5; round++) {
      const all = Array.from(
        { length: 20 },
        async (_, i) => (await sync(id, ['sh', '-c', `echo ${i}; exit ${i}`])).exitCode,
      );
      assert.deepEqual(
        await Promise.all(all),
        Array.from({ length: 20 }, (_, i) => i),
      );
      await Promise.allSettled([sync(id, ['foo']), sync(id, ['/etc'])]);
    }
    await node().assertNothingLeft(before);
  });

  it('does without the helpers that wait for their role when somebody kills them', async () => {
    const id = await container();
    const waiting = () => childrenOf(node().daemon.pid).filter(pid => commandLine(pid)[1] === 'spare');
    for (let round = 0; round < 3; round++) {
      assert.equal(await node().exec(id, ['echo', 'said']), 'said\n');
      const spares = await found(() => (waiting().length === 2 ? waiting() : undefined));
      for (const pid of spares) process.kill(pid, 'SIGKILL');
      await found(() => spares.every(pid => commandLine(pid)[0] === ''));
      assert.equal(await node().exec(id, ['echo', 'said']), 'said\n');
      await found(() => !spares.some(pid => childrenOf(node().daemon.pid).includes(pid)));
    }
  });

  it('loses no output of a command that ends at once', async () => {
    const id = await container();
    for (let i = 0; i < 30; i++) assert.equal(await node().exec(id, ['echo', `line ${i}`]), `line ${i}\n`);
  });

  it('is watched from the host’s namespaces, and has a relay once there is output to carry', async () => {
    const id = await node().start(await node().pod(), { resources: { oomScoreAdj: 700 } });
    const wait = (file: string) => `while [ ! -e /${file} ]; do usleep 10000; done`;
    const said = sync(id, ['sh', '-c', `${wait('say')}; echo said; ${wait('end')}`], 120);
    const helper = await found(() => childrenOf(node().daemon.pid).find(pid => commandLine(pid)[1] === 'exec'));
    const command = await found(() => childrenOf(helper).find(pid => commandLine(pid)[0] === 'sh'));
    const namespaces = (pid: number) =>
      ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'uts'].map(ns => linkOf(`/proc/${pid}/ns/${ns}`));
    assert.deepEqual(namespaces(helper), namespaces(node().daemon.pid));
    assert.equal(childrenOf(helper).find(isRelay), undefined);
    await node().exec(id, ['touch', '/say']);
    const relay = await found(() => childrenOf(helper).find(isRelay));
    assert.deepEqual(namespaces(relay), namespaces(node().daemon.pid));
    // Where memory is short it is the command that goes, not who watches it.
    const score = (pid: number) => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim();
    assert.equal(score(command), '700');
    assert.deepEqual([helper, relay].map(score), Array(2).fill(score(node().daemon.pid)));
    await node().exec(id, ['touch', '/end']);
    assert.equal((await said).stdout.toString(), 'said\n');
    await found(() => (linkOf(`/proc/${helper}/exe`) ?? linkOf(`/proc/${relay}/exe`)) === undefined);
  });

  it('loses no output where a relay cannot be started', async () => {
    const id = await container();
    const full = cgroupDir(node(), 'pids', await cgroupOf(node(), await container()));
    const wait = (file: string) => `while [ ! -e /${file} ]; do usleep 10000; done`;
    const said = sync(id, ['sh', '-c', `${wait('say')}; echo said; ${wait('end')}`], 120);
    const { helper } = await watched(/echo said/);
    writeFileSync(join(full, 'cgroup.procs'), String(helper));
    writeFileSync(join(full, 'pids.max'), '1');
    await node().exec(id, ['touch', '/say']);
    await found(() => /^max [1-9]/m.test(readFileSync(join(full, 'pids.events'), 'utf8')));
    await node().exec(id, ['touch', '/end']);
    assert.equal((await said).stdout.toString(), 'said\n');
  });

  it('ends a command whose output nobody carries any more', async () => {
    const id = await container();
    const cut = sync(id, ['sh', '-c', 'yes | head -c 1000000; sleep 7779'], 120);
    const { helper } = await watched(/7779/);
    process.kill(await found(() => childrenOf(helper).find(isRelay)), 'SIGKILL');
    assert.equal((await cut).exitCode, 137);
  });

  it('ends a command that nobody could tell the end of, whoever it runs as', async () => {
    const id = await node().start(await node().pod(), { security: { runAsUser: { value: 1000 } } });
    const lost = sync(id, ['sleep', '7778'], 120);
    const { helper, command } = await watched(/^sleep 7778/);
    process.kill(helper, 'SIGKILL');
    await refused(lost, 'INTERNAL', 'the helper of an exec ended without a word');
    await found(() => linkOf(`/proc/${command}/exe`) === undefined);
  });

  it('gives up in time also where the kernel holds the command, and leaves nothing', async () => {
    const id = await node().start(await node().pod());
    const { info } = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
    const { pid } = JSON.parse(info['info'] ?? '') as { pid: number };
    const freeze = freezerOf(pid);
    freeze(true);
    try {
      const late = node().client.call('ExecSync', { containerId: id, cmd: ['echo', 'hi'], timeout: 1 });
      await refused(late, 'DEADLINE_EXCEEDED', 'did not end within 1 s');
    } finally {
      freeze(false);
    }
    assert.equal(await node().exec(id, ['echo', 'hi']), 'hi\n');
  });

  it('ends the command of a caller that goes away, however early', async () => {
    const id = await node().start(await node().pod());
    const impatient = new CriClient(node().daemon.socket);
    for (let i = 0; i < 20; i++) {
      const call = impatient.call('ExecSync', { containerId: id, cmd: ['sleep', '7777'], timeout: 60 });
      call.catch(() => undefined);
      await new Promise(resolve => setTimeout(resolve, i));
    }
    impatient.close();
    const running = async () => (await node().exec(id, ['sh', '-c', 'pgrep -f "sleep [7]777" | wc -l'])).trim();
    for (let tries = 0; (await running()) !== '0'; tries++) {
      assert.ok(tries < 50, 'commands run on');
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  });
});

function childrenOf(parent: number): number[] {
  return allPids().filter(pid => {
    try {
      return readFileSync(`/proc/${pid}/status`, 'latin1').includes(`\nPPid:\t${parent}\n`);
    } catch {
      return false;
    }
  });
}

function isRelay(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1') === 'berth-relay\n';
  } catch {
    return false;
  }
}

/** What there will be, sooner or later. */
async function found<T>(look: () => T | undefined | false): Promise<T> {
  for (const until = Date.now() + 60_000; ; await new Promise(resolve => setTimeout(resolve, 20))) {
    const what = look();
    if (what !== undefined && what !== false) return what;
    assert.ok(Date.now() < until, 'it does not come');
  }
}

/** Stops and lets go all processes of a process's cgroup. */
function freezerOf(pid: number): (isFrozen: boolean) => void {
  const line = (pattern: RegExp) => pattern.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
  const v1 = line(/^\d+:freezer:(.*)$/m);
  const path =
    v1 === undefined
      ? `/sys/fs/cgroup${line(/^0::(.*)$/m)}/cgroup.freeze`
      : `/sys/fs/cgroup/freezer${v1}/freezer.state`;
  return isFrozen => writeFileSync(path, v1 === undefined ? (isFrozen ? '1' : '0') : isFrozen ? 'FROZEN' : 'THAWED');
}
