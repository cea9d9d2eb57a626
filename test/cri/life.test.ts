import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status as codes, type ServiceError } from '@grpc/grpc-js';
import type { TimingRow } from '../../src/container/timings';
import { parentOf, snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';
import { commandLine, killAndWait, processesIn } from '../support/processes';

const failureOf = (call: Promise<unknown>) =>
  call.then(
    answer => assert.fail(`was not refused: ${JSON.stringify(answer)}`),
    (error: unknown) => error as ServiceError,
  );

/** The kernel calls it busy until its last process is taken apart. */
async function removeCgroupDirectory(dir: string): Promise<void> {
  for (;;) {
    try {
      return rmdirSync(dir);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
      await sleep(5);
    }
  }
}

describe('calls that are repeated, or cut short', function () {
  this.timeout(60_000);
  const node = useNode();

  /** A container whose creation hangs until somebody reads its log: opening a FIFO to write waits for a reader. */
  const hanging = async () => {
    const sandbox = node().podConfig();
    const { podSandboxId } = await node().client.call('RunPodSandbox', { config: sandbox });
    const config = node().containerConfig();
    const log = join(sandbox.logDirectory, config.logPath);
    mkdirSync(dirname(log), { recursive: true });
    execFileSync('mkfifo', [log]);
    const create = (deadlineMs?: number) =>
      node().client.call('CreateContainer', { podSandboxId, config, sandboxConfig: sandbox }, deadlineMs);
    return { podSandboxId, create, letGo: () => openSync(log, constants.O_RDONLY | constants.O_NONBLOCK) };
  };
  const isBeingMade = async () => {
    while (!existsSync(join(node().daemon.state, 'containers'))) await sleep(5);
    const dir = join(node().daemon.state, 'containers');
    const started = () => execFileSync('find', [dir, '-name', 'monitor'], { encoding: 'utf8' }).trim() !== '';
    while (!started()) await sleep(10);
  };

  it('give a second caller the container although the first one’s time ran out', async () => {
    const { podSandboxId, create, letGo } = await hanging();
    const impatient = failureOf(create(500));
    await isBeingMade();
    const { containersStatuses } = await node().client.call('PodSandboxStatus', { podSandboxId });
    assert.deepEqual(containersStatuses, [], 'one that is being made is nobody’s to look at');
    const patient = create();
    assert.equal(codes[(await impatient).code], 'DEADLINE_EXCEEDED');
    const reader = letGo();
    try {
      const { containerId } = await patient;
      assert.equal((await create()).containerId, containerId);
      assert.equal((await node().client.call('ListContainers')).containers.length, 1);
    } finally {
      closeSync(reader);
    }
  });

  it('give the kubelet’s retry the container although nobody waited for it meanwhile', async () => {
    const { create, letGo } = await hanging();
    const impatient = failureOf(create(500));
    await isBeingMade();
    await impatient;
    const reader = letGo();
    try {
      await create();
      assert.equal((await node().client.call('ListContainers')).containers.length, 1);
    } finally {
      closeSync(reader);
    }
  });

  it('give the pod that a caller did not wait for to the next one', async () => {
    const config = node().podConfig();
    await Promise.allSettled([1, 2, 4].map(ms => node().client.call('RunPodSandbox', { config }, ms)));
    const { podSandboxId } = await node().client.call('RunPodSandbox', { config });
    const { items } = await node().client.call('ListPodSandbox');
    assert.deepEqual(
      items.map(({ id }) => id),
      [podSandboxId],
    );
  });

  for (const verb of ['StopPodSandbox', 'RemovePodSandbox'] as const) {
    it(`end a creation under way when ${verb} comes, and leave nothing of it`, async () => {
      const before = snapshot(node().daemon);
      const { podSandboxId, create } = await hanging();
      const creation = failureOf(create());
      await isBeingMade();
      await node().client.call(verb, { podSandboxId });
      const error = await creation;
      assert.equal(codes[error.code], 'ABORTED', error.details);
      assert.match(error.details, /was stopped during: set up the container/);
      assert.deepEqual((await node().client.call('ListContainers')).containers, []);
      await refused(create(), verb === 'StopPodSandbox' ? 'FAILED_PRECONDITION' : 'NOT_FOUND');
      await node().client.call('RemovePodSandbox', { podSandboxId });
      await node().assertNothingLeft(before);
    });
  }

  it('may be made twice at once', async () => {
    const { client } = node();
    const before = snapshot(node().daemon);
    const pod = await node().pod();
    const id = await node().start(pod, { command: ['sh', '-c', 'trap "exit 3" TERM; while :; do sleep 0.01; done'] });
    const twice = (name: 'StopContainer' | 'RemoveContainer' | 'StopPodSandbox' | 'RemovePodSandbox', what: object) =>
      Promise.all([client.call(name, what), client.call(name, what), client.call(name, what)]);
    await twice('StopContainer', { containerId: id, timeout: 20 });
    await twice('RemoveContainer', { containerId: id });
    await twice('StopPodSandbox', { podSandboxId: pod });
    await twice('RemovePodSandbox', { podSandboxId: pod });
    await node().assertNothingLeft(before);
  });
});

describe('the end of a container', function () {
  this.timeout(60_000);
  const node = useNode();
  const info = async (containerId: string) => {
    const answer = await node().client.call('ContainerStatus', { containerId, verbose: true });
    return JSON.parse(answer.info['info'] ?? '{}') as Record<string, unknown>;
  };

  it('tells the signal that ended it', async () => {
    const { status } = await node().run(['sh', '-c', 'kill -USR2 $$; sleep 1000'], {
      linux: { securityContext: { namespaceOptions: { pid: 'POD' } } },
    });
    assert.equal(status.exitCode, 128 + 12);
    assert.equal(status.reason, 'Error');
    assert.equal((await info(status.id))['signal'], 12);
  });

  it('is told of one that was never started', async () => {
    const id = await node().create(await node().pod());
    await node().client.call('StopContainer', { containerId: id, timeout: 5 });
    const status = await node().status(id);
    assert.equal(status.state, 'CONTAINER_EXITED');
    assert.equal(status.exitCode, 137);
    assert.equal(status.startedAt, '0');
    assert.ok(BigInt(status.finishedAt) >= BigInt(status.createdAt));
    assert.match(status.message, /stopped before it was started/);
  });

  it('is not called a failed start when it meets one', async () => {
    const id = await node().create(await node().pod());
    const pid = await node().pidOf(id);
    const monitor = parentOf(pid);
    process.kill(monitor, 'SIGSTOP');
    await killAndWait(pid);
    const started = failureOf(node().client.call('StartContainer', { containerId: id }));
    await node().client.call('Version'); // the call before it is under way
    process.kill(monitor, 'SIGCONT');
    const { code, details } = await started;
    assert.equal(codes[code], 'FAILED_PRECONDITION', details);
    assert.match(details, /ended before it could be started, with 137: it was stopped before it was started/);
    const { exitCode, reason } = await node().exit(id);
    assert.deepEqual([exitCode, reason], [137, 'Error']);
  });

  it('is what a call to open its log again hears of', async () => {
    const id = await node().start(await node().pod());
    const pid = await node().pidOf(id);
    const monitor = parentOf(pid);
    process.kill(monitor, 'SIGSTOP');
    await killAndWait(pid);
    const opened = failureOf(node().client.call('ReopenContainerLog', { containerId: id }));
    await node().client.call('Version'); // the call before it is under way
    process.kill(monitor, 'SIGCONT');
    const { code, details } = await opened;
    assert.equal(codes[code], 'FAILED_PRECONDITION', details);
    await node().exit(id);
  });

  it('is not called a failed start by a daemon that was not there, either', async () => {
    const id = await node().create(await node().pod());
    const pid = await node().pidOf(id);
    await node().daemon.kill();
    process.kill(pid, 'SIGKILL');
    while (existsSync(`/proc/${pid}`)) await sleep(5);
    await node().restart();
    const { exitCode, reason, message } = await node().exit(id);
    assert.deepEqual([exitCode, reason, message], [137, 'Error', 'it was stopped before it was started']);
  });

  it('is StartError, with the reason in words, of one whose command cannot be run', async () => {
    const id = await node().create(await node().pod(), { command: ['/no/such/program'] });
    await refused(node().client.call('StartContainer', { containerId: id }), 'NOT_FOUND', '/no/such/program');
    const status = await node().status(id);
    assert.equal(status.state, 'CONTAINER_EXITED');
    assert.equal(status.reason, 'StartError');
    assert.equal(status.exitCode, 128);
    assert.match(status.message, /"\/no\/such\/program": no such file in the image/);
    assert.ok(BigInt(status.finishedAt) > 0n);
  });

  it('names the process that the kernel does not let go, and comes when it does', async function () {
    const [freezer] = node().daemon.cgroupRoots.filter(dir => dir.includes('/freezer/'));
    if (freezer === undefined) this.skip(); // a v2 freezer lets killed processes go
    const pod = await node().pod({ linux: { cgroupParent: '/held' } });
    const id = await node().start(pod);
    const pid = await node().pidOf(id);
    const said = node().daemon.log.length;
    // The pod's, so that thawing the container's own does not help.
    writeFileSync(join(freezer, 'held/freezer.state'), 'FROZEN');
    try {
      const stop = node().client.call('StopContainer', { containerId: id, timeout: 0 }, 50_000);
      const told = () => /does not end: (.*)/.exec(node().daemon.log.slice(said))?.[1];
      while (told() === undefined) await sleep(20);
      assert.match(told() ?? '', new RegExp(`the kernel holds process ${pid} \\(sleep\\) in state D`));
      assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
      writeFileSync(join(freezer, 'held/freezer.state'), 'THAWED');
      await stop;
    } finally {
      writeFileSync(join(freezer, 'held/freezer.state'), 'THAWED');
    }
    assert.equal((await node().status(id)).exitCode, 137);
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    for (const dir of node().daemon.cgroupRoots)
      execFileSync('rmdir', ['--ignore-fail-on-non-empty', join(dir, 'held')]);
  });

  it('is not all that a stop waits for: what it has left is gone, too, then', async function () {
    const [freezer] = node().daemon.cgroupRoots.filter(dir => dir.includes('/freezer/'));
    if (freezer === undefined || !node().daemon.cgroupRoots.some(dir => existsSync(join(dir, 'cgroup.events'))))
      this.skip(); // with v1 alone the daemon thaws it, and with v2 alone nobody can hold it
    const apart = join(freezer, 'apart');
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & exec sleep 1001'] });
    const left = () => processesIn(node().daemon.cgroupRoots).filter(pid => commandLine(pid).includes('1000'));
    while (left().length === 0) await sleep(5);
    const [held = 0] = left();
    mkdirSync(apart);
    writeFileSync(join(apart, 'cgroup.procs'), String(held));
    // Not the container's freezer, so that thawing that one does not help.
    writeFileSync(join(apart, 'freezer.state'), 'FROZEN');
    try {
      process.kill(await node().pidOf(id), 'SIGKILL');
      await node().exit(id);
      const said = node().daemon.log.length;
      let whenStopped: number[] | undefined;
      const stop = node()
        .client.call('StopContainer', { containerId: id, timeout: 5 }, 50_000)
        .then(() => (whenStopped = left()));
      const isTold = () => node().daemon.log.slice(said).includes(`the kernel holds process ${held}`);
      while (whenStopped === undefined && !isTold()) await sleep(20);
      writeFileSync(join(apart, 'freezer.state'), 'THAWED');
      assert.deepEqual(await stop, []);
    } finally {
      writeFileSync(join(apart, 'freezer.state'), 'THAWED');
      await removeCgroupDirectory(apart);
    }
  });
});

describe('what a container’s status tells when asked for more', function () {
  this.timeout(60_000);
  const node = useNode();

  it('has its pid, its spec and the steps of its launch plan, also after a restart', async () => {
    const id = await node().start(await node().pod(), { envs: [{ key: 'GREETING', value: Buffer.from('hi') }] });
    const look = async () => {
      const answer = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
      return JSON.parse(answer.info['info'] ?? '{}') as {
        pid: number;
        runtimeSpec: { process: { args: string[] } };
        plan: { section: string; op: string; [field: string]: unknown }[];
      };
    };
    const { pid, runtimeSpec, plan } = await look();
    assert.equal(readFileSync(`/proc/${pid}/comm`, 'utf8'), 'sleep\n');
    assert.deepEqual(runtimeSpec.process.args, ['sleep', '1000']);
    const ops = plan.map(({ op }) => op);
    assert.ok(ops.indexOf('ROOT_OVERLAY') < ops.indexOf('PIVOT_ROOT'), ops.join(' '));
    const last = plan.at(-1);
    assert.equal(last?.op, 'EXEC');
    assert.deepEqual(last?.['argv'], ['sleep', '1000']);
    assert.ok((last?.['envp'] as string[]).includes('GREETING=hi'));
    await node().restart();
    assert.deepEqual((await look()).plan, plan);
  });

  it('has the time of each step of its start, also after a restart', async () => {
    const id = await node().start(await node().pod());
    const look = async () => {
      const answer = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
      return (JSON.parse(answer.info['info'] ?? '{}') as { timings: TimingRow[] }).timings;
    };
    const rows = await look();
    const calls = ['RunPodSandbox', 'CreateContainer', 'StartContainer'];
    assert.deepEqual([...new Set(rows.map(({ call }) => call))], calls);
    for (const by of ['daemon', 'monitor', 'init'])
      assert.ok(
        rows.some(row => row.by === by),
        by,
      );
    for (const step of ['ROOT_OVERLAY', 'MOUNT_FS /proc', 'PIVOT_ROOT']) {
      const row = rows.find(each => each.by === 'init' && each.step.startsWith(step));
      assert.ok(row && row.us >= 0, step);
    }
    // What init did lies within the time that the daemon waited for it.
    const end = ({ atUs, us }: TimingRow) => atUs + us;
    const waited = rows.find(({ step }) => step === 'wait until init is ready') ?? assert.fail('no wait');
    const ready = rows.find(({ step }) => step === 'hears that init waits') ?? assert.fail('no word of init');
    assert.ok(end(ready) <= end(waited) + 1, `${end(ready)} ${end(waited)}`);
    const create = rows.filter(({ call }) => call === 'CreateContainer');
    for (const row of create) assert.ok(row.atUs >= 0 && row.us >= 0, JSON.stringify(row));
    await node().restart();
    assert.deepEqual(
      (await look()).map(({ step }) => step).filter(step => !step.startsWith('write the record')),
      rows.map(({ step }) => step).filter(step => !step.startsWith('write the record')),
    );
  });
});
