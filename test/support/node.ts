import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status, type ServiceError } from '@grpc/grpc-js';
import { berth } from '../cli/berth';
import { ociArchive } from './archives';
import { CriClient, type ContainerStatus } from './cri-client';
import { TestDaemon, type DaemonOptions } from './daemon';
import { busyboxImage, type BuiltImage } from './image-builder';
import { leaked, snapshot, type Snapshot } from './leaks';
import { patience } from './patience';
import { pushImage, startRegistry, type Registry } from './registry';

/** One line of a container's log. */
export interface LogLine {
  time: string;
  stream: string;
  tag: string;
  text: string;
}

export interface Ran {
  status: ContainerStatus;
  stdout: string;
  stderr: string;
}

interface PodOptions {
  [field: string]: unknown;
  linux?: Record<string, unknown>;
}

interface ContainerOptions {
  [field: string]: unknown;
  image?: string;
  /** securityContext of the container. */
  security?: Record<string, unknown>;
  resources?: Record<string, unknown>;
}

/** A daemon, a client and a registry with images, as a kubelet on a node would have them. */
export class TestNode {
  client: CriClient;
  private counter = 0;

  private constructor(
    readonly daemon: TestDaemon,
    readonly registry: Registry,
  ) {
    this.client = new CriClient(daemon.socket);
  }

  static async start(options: DaemonOptions = {}): Promise<TestNode> {
    const registry = await startRegistry();
    try {
      return await TestNode.with(await TestDaemon.start(options), registry, options);
    } catch (error) {
      await registry.stop();
      throw error;
    }
  }

  private static async with(daemon: TestDaemon, registry: Registry, { ownNetwork }: DaemonOptions): Promise<TestNode> {
    const node = new TestNode(daemon, registry);
    try {
      if (ownNetwork) await node.load('box', busyboxImage());
      else await node.pull('box', busyboxImage());
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  get box(): string {
    return this.image('box');
  }

  image(name: string): string {
    return `${this.registry.host}/${name}:1`;
  }

  /** Pushes and pulls an image; its reference. */
  async pull(name: string, image: BuiltImage): Promise<string> {
    await pushImage(this.registry, name, '1', image);
    await this.client.call('PullImage', { image: { image: this.image(name) } });
    return this.image(name);
  }

  /** Takes an image out of an archive: a daemon with a network of its own reaches no registry. */
  async load(name: string, image: BuiltImage): Promise<void> {
    const archive = ociArchive(image, { 'io.containerd.image.name': this.image(name) });
    const file = join(this.daemon.dir, `${name}.tar`);
    writeFileSync(file, archive);
    const ended = await berth(join(this.daemon.state, 'berth.sock'), ['load', '-i', file]);
    assert.equal(ended.code, 0, ended.stderr);
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.daemon.destroy();
    await this.registry.stop();
  }

  async restart(): Promise<void> {
    this.client.close();
    await this.daemon.restart();
    this.client = new CriClient(this.daemon.socket);
  }

  /** A new client, for a daemon that was started by itself. */
  async reconnect(): Promise<void> {
    this.client.close();
    this.client = new CriClient(this.daemon.socket);
  }

  /** A new pod's config; what is given replaces the default fields. */
  podConfig({ linux = {}, ...more }: PodOptions = {}) {
    const name = `pod-${++this.counter}`;
    const logDirectory = join(this.daemon.dir, 'logs', name);
    mkdirSync(logDirectory, { recursive: true });
    return {
      metadata: { name, namespace: 'test', uid: `uid-${this.counter}`, attempt: 0 },
      hostname: name,
      logDirectory,
      // A pod's says that its containers may be; it does nothing by itself.
      linux: { ...linux, securityContext: { privileged: true, ...(linux['securityContext'] as object | undefined) } },
      ...more,
    };
  }

  async pod(options: PodOptions = {}): Promise<string> {
    const { podSandboxId } = await this.client.call('RunPodSandbox', { config: this.podConfig(options) });
    return podSandboxId;
  }

  containerConfig({ image = this.box, security = {}, resources = {}, ...more }: ContainerOptions = {}) {
    const name = `c-${++this.counter}`;
    return {
      metadata: { name, attempt: 0 },
      image: { image },
      command: ['sleep', '1000'],
      logPath: `${name}.log`,
      linux: { securityContext: security, resources },
      ...more,
    };
  }

  async create(pod: string, options: ContainerOptions = {}): Promise<string> {
    const config = this.containerConfig(options);
    const { containerId } = await this.client.call('CreateContainer', { podSandboxId: pod, config });
    return containerId;
  }

  async start(pod: string, options: ContainerOptions = {}): Promise<string> {
    const id = await this.create(pod, options);
    await this.client.call('StartContainer', { containerId: id });
    return id;
  }

  async status(id: string): Promise<ContainerStatus> {
    return (await this.client.call('ContainerStatus', { containerId: id })).status;
  }

  /** The status once it has exited. */
  async exit(id: string, withinMs = 20_000 * patience): Promise<ContainerStatus> {
    const until = Date.now() + withinMs;
    for (;;) {
      const status = await this.status(id);
      if (status.state === 'CONTAINER_EXITED') return status;
      if (Date.now() > until) throw new Error(`container ${id} has not exited within ${withinMs} ms`);
      await sleep(5);
    }
  }

  async logLines(id: string): Promise<LogLine[]> {
    const { logPath } = await this.status(id);
    return parseLog(readFileSync(logPath, 'latin1'));
  }

  /** Runs a command to its end in a pod of its own unless one is given. */
  async run(command: string[], options: ContainerOptions & { pod?: string } = {}): Promise<Ran> {
    const { pod = await this.pod(), ...more } = options;
    const id = await this.start(pod, { command, ...more });
    const exit = await this.exit(id);
    const lines = await this.logLines(id);
    const text = (stream: string) =>
      lines
        .filter(line => line.stream === stream)
        .map(line => line.text + (line.tag === 'F' ? '\n' : ''))
        .join('');
    return { status: exit, stdout: text('stdout'), stderr: text('stderr') };
  }

  /** Standard output of a command in a running container; a failure of the command is an error. */
  async exec(id: string, command: string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await this.client.call('ExecSync', {
      containerId: id,
      cmd: command,
      timeout: 20,
    });
    assert.equal(exitCode, 0, `${command.join(' ')}: ${stderr.toString()}`);
    return stdout.toString();
  }

  async pidOf(id: string): Promise<number> {
    const { info } = await this.client.call('ContainerStatus', { containerId: id, verbose: true });
    return (JSON.parse(info['info'] ?? '{}') as { pid: number }).pid;
  }

  /** Removes all pods that the daemon lists. */
  async removeAll(): Promise<void> {
    const { items } = await this.client.call('ListPodSandbox');
    await Promise.all(items.map(({ id }) => this.client.call('RemovePodSandbox', { podSandboxId: id })));
  }

  /** Waits until nothing is there that was not before; its failure lists what is left. */
  async assertNothingLeft(before: Snapshot, withinMs = 30_000 * patience): Promise<void> {
    const until = Date.now() + withinMs;
    let left: string[];
    // The last helpers of execs and monitors end a moment after the call that they served.
    while ((left = leaked(before, snapshot(this.daemon))).length > 0 && Date.now() < until) await sleep(20);
    assert.deepEqual(left, []);
  }
}

export function parseLog(text: string): LogLine[] {
  const lines = text.split('\n');
  assert.equal(lines.pop(), '', 'a log ends with a newline');
  return lines.map(line => {
    const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) ([^\n]*)$/.exec(line);
    assert.ok(match, `not a line of a CRI log: ${JSON.stringify(line.slice(0, 200))}`);
    const [, time = '', stream = '', tag = '', content = ''] = match;
    return { time, stream, tag, text: content };
  });
}

/** A node for a suite. After each test its pods are removed, and nothing of them may be left. */
export function useNode(options: DaemonOptions = {}): () => TestNode {
  let node: TestNode | undefined;
  let clean: Snapshot | undefined;
  before(async function () {
    this.timeout(60_000);
    node = await TestNode.start(options);
    // Whatever is opened at first use (pools, the helper's memfd) is no leak.
    await node.run(['true']);
    await node.removeAll();
    clean = snapshot(node.daemon);
  });
  afterEach(async function () {
    this.timeout(60_000);
    await node?.removeAll();
  });
  after(async function () {
    this.timeout(60_000);
    try {
      if (node && clean) await node.assertNothingLeft(clean);
    } finally {
      await node?.stop();
    }
  });
  return () => {
    if (!node) throw new Error('the node is there in tests only');
    return node;
  };
}

/** Asserts that a call fails, and how. */
export async function refused(
  call: Promise<unknown>,
  code: keyof typeof status,
  details?: RegExp | string,
): Promise<void> {
  const error = await call.then(
    answer => assert.fail(`was not refused: ${JSON.stringify(answer)}`),
    (reason: unknown) => reason as ServiceError,
  );
  assert.equal(status[error.code], code, error.message);
  if (typeof details === 'string') assert.ok(error.details.includes(details), error.details);
  else if (details) assert.match(error.details, details);
}
