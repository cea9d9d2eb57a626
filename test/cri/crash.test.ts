import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crashPoints, type CrashPoint } from '../../src/base/crash-points';
import { CriClient } from '../support/cri-client';
import { snapshot, type Snapshot } from '../support/leaks';
import { parseLog, TestNode } from '../support/node';

/** Says what it hears and ends on it with 7. */
const polite = ['sh', '-c', 'trap "echo got it; exit 7" TERM; echo ready; while :; do sleep 0.01; done'];

/** Where the daemon dies in the life of one pod with one container. */
const ofPods = crashPoints.filter(point => /^(run|create|start|exec|stop|exit|rm|stop-pod|rm-pod)\./.test(point));

/** A pod's life as the kubelet drives it, call by call; each may be made again after a crash. */
class Story {
  pod = '';
  container = '';
  readonly sandbox;
  readonly config;

  constructor(
    private readonly node: TestNode,
    readonly point: CrashPoint,
  ) {
    this.sandbox = node.podConfig();
    this.config = node.containerConfig({ command: polite });
  }

  get log(): string {
    return join(this.sandbox.logDirectory, this.config.logPath);
  }

  get stopTimeout(): number {
    return this.point === 'stop.killed' ? 0 : 20;
  }

  readonly calls: readonly (() => Promise<void>)[] = [
    async () => {
      this.pod = (await this.node.client.call('RunPodSandbox', { config: this.sandbox })).podSandboxId;
    },
    async () => {
      const request = { podSandboxId: this.pod, config: this.config, sandboxConfig: this.sandbox };
      this.container = (await this.node.client.call('CreateContainer', request)).containerId;
    },
    async () => {
      await this.node.client.call('StartContainer', { containerId: this.container });
      while (!this.says('ready'));
    },
    async () => {
      assert.equal(await this.node.exec(this.container, ['echo', 'hello']), 'hello\n');
    },
    async () => {
      await this.node.client.call('StopContainer', { containerId: this.container, timeout: this.stopTimeout });
      const { state, exitCode, reason } = await this.node.status(this.container);
      const killed = this.point === 'stop.killed';
      assert.deepEqual([state, exitCode, reason], ['CONTAINER_EXITED', killed ? 137 : 7, 'Error']);
      const lines = parseLog(readFileSync(this.log, 'latin1')).map(({ text }) => text);
      assert.deepEqual(lines, killed ? ['ready'] : ['ready', 'got it']);
    },
    async () => {
      await this.node.client.call('RemoveContainer', { containerId: this.container });
    },
    // Another one, so that stopping and removing the pod meets one that runs.
    async () => {
      const config = { ...this.config, metadata: { ...this.config.metadata, attempt: 1 } };
      const request = { podSandboxId: this.pod, config, sandboxConfig: this.sandbox };
      const { containerId } = await this.node.client.call('CreateContainer', request);
      await this.node.client.call('StartContainer', { containerId });
    },
    async () => {
      await this.node.client.call('StopPodSandbox', { podSandboxId: this.pod });
      const { containers } = await this.node.client.call('ListContainers');
      assert.deepEqual(
        containers.map(({ state }) => state),
        ['CONTAINER_EXITED'],
      );
    },
    async () => {
      await this.node.client.call('RemovePodSandbox', { podSandboxId: this.pod });
    },
  ];

  private says(text: string): boolean {
    return existsSync(this.log) && readFileSync(this.log, 'latin1').includes(text);
  }
}

describe('a daemon that dies during the life of a pod', function () {
  this.timeout(120_000);
  let node: TestNode;
  let clean: Snapshot;

  before(async () => {
    node = await TestNode.start();
    await node.run(['true']);
    await node.removeAll();
    clean = snapshot(node.daemon);
  });
  after(() => node.stop());

  const lives = async (env: Record<string, string>) => {
    node.client.close();
    await node.daemon.kill();
    await node.daemon.run([], env);
    node.client = new CriClient(node.daemon.socket);
  };

  /** What is listed is whole: of each pod and container there is what its state promises. */
  const assertWhole = async () => {
    const { items } = await node.client.call('ListPodSandbox');
    const { containers } = await node.client.call('ListContainers');
    for (const { id, podSandboxId, state } of containers) {
      assert.ok(
        items.some(pod => pod.id === podSandboxId),
        `container ${id} has no pod`,
      );
      assert.notEqual(state, 'CONTAINER_UNKNOWN');
      const pid = await node.pidOf(id);
      if (state === 'CONTAINER_RUNNING') assert.ok(existsSync(`/proc/${pid}`), 'a running one has a process');
      if (state === 'CONTAINER_EXITED') assert.ok(!existsSync(`/proc/${pid}`), 'an exited one has none');
    }
  };

  for (const point of ofPods)
    it(`at ${point}: the same call again succeeds, and nothing is left at the end`, async () => {
      await lives({ BERTH_CRASH_AT: point });
      const story = new Story(node, point);
      let hasDied = false;
      for (const [i, call] of story.calls.entries()) {
        const failure = await call().then(
          () => undefined,
          (error: unknown) => error,
        );
        if (failure === undefined && (hasDied || node.daemon.isRunning)) continue;
        assert.ok(!hasDied, `call ${i} failed after the restart: ${String(failure)}`);
        assert.equal(await node.daemon.ended(), 'SIGKILL', String(failure));
        hasDied = true;
        await lives({});
        await assertWhole();
        await call();
      }
      assert.ok(hasDied, `no call came to ${point}`);
      // A pod that was ready when its daemon died, and whose answer was lost, is the kubelet's to collect.
      await node.removeAll();
      assert.deepEqual((await node.client.call('ListContainers')).containers, []);
      assert.deepEqual((await node.client.call('ListPodSandbox')).items, []);
      await node.assertNothingLeft({ ...clean, fds: snapshot(node.daemon).fds });
    });
});
