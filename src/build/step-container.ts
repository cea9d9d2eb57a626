import { randomUUID } from 'node:crypto';
import { Context } from '../base/context';
import type { Container, Containers } from '../container/containers';
import { createContainer, type CreateContainerRequest } from '../container/create';
import { joinRecords } from '../container/log-records';
import { readLog } from '../container/logs';
import { removePod } from '../container/pods';
import { startContainer } from '../container/start';
import { ContainerConfig, NamespaceMode, PodSandboxConfig, SecurityProfile_ProfileType } from '../cri';
import { RunOptions, type Ulimit } from '../cri/generated/berth/v1/run';
import { runSandbox } from '../sandbox/run';
import { digestOf } from '../image/digest';
import type { Platform } from '../image/platform';
import type { BuiltLayer } from '../image/workshop';
import type { BuildParts } from './steps';

export interface StepCommand {
  readonly argv: readonly string[];
  /** `KEY=VALUE`, in order. */
  readonly env: readonly (readonly [string, string])[];
  /** The same in bytes, in no record. */
  readonly secretEnv: NonNullable<CreateContainerRequest['secretEnv']>;
  readonly cwd: string;
  /** user[:group]; empty for root. */
  readonly user: string;
  /** `default` is the network that a person's containers have, or the host's where there is none. */
  readonly network: 'default' | 'host' | 'none';
  /** Over those that every container has. */
  readonly ulimits: readonly Ulimit[];
  readonly mounts: NonNullable<CreateContainerRequest['mounts']>;
  readonly below: readonly BuiltLayer[];
  readonly platform: Platform;
}

/** How a step's command has ended, and what it has changed. */
export interface StepResult {
  readonly exitCode: number;
  /** `OOMKilled`, `Error`, `Completed` */
  readonly reason: string;
  /** Its upper directory, to be taken away or to go with the container. */
  readonly upper: string;
  /** Where something was mounted in it. */
  readonly mountPoints: readonly string[];
}

/** Runs a command in a container over `below`, hands over how it ended, and removes the container, however that went. */
export async function runStep<T>(
  parts: BuildParts,
  ctx: Context,
  command: StepCommand,
  onOutput: (stream: 'stdout' | 'stderr', data: Buffer) => Promise<void>,
  then: (result: StepResult) => Promise<T>,
): Promise<T> {
  const { sandboxes, containers } = parts;
  const own = Context.of(ctx.log); // half-made things are undone as a whole
  const mode = await namespaceOf(parts, command.network);
  const sandbox = await runSandbox(sandboxes, own, {
    ...{ config: podConfig(mode), runtimeHandler: '', owner: 'build' },
    isOffline: command.network === 'none',
  });
  try {
    ctx.throwIfEnded();
    const container = await createContainer(containers, own, {
      sandbox,
      config: containerConfig(command, mode),
      image: imageOf(command),
      ...{ mounts: command.mounts, secretEnv: command.secretEnv },
      options: RunOptions.fromPartial({ ulimits: [...command.ulimits] }),
    });
    ctx.throwIfEnded();
    await watched(containers, ctx, container, onOutput);
    const { exitCode, reason } = container.record;
    const { upper } = containers.paths(container.record.id);
    return await then({ exitCode, reason, upper, mountPoints: mountPointsOf(container) });
  } finally {
    await removePod(containers, own, sandbox);
  }
}

async function watched(
  containers: Containers,
  ctx: Context,
  container: Container,
  onOutput: (stream: 'stdout' | 'stderr', data: Buffer) => Promise<void>,
): Promise<void> {
  const exited = containers.exitOf(container, ctx.signal);
  let watching: () => void = () => undefined;
  const isWatched = new Promise<void>(resolve => (watching = resolve));
  const reading = (async () => {
    const follow = { ended: exited, signal: ctx.signal, onWatching: watching };
    for await (const records of readLog(container.record.logPath, { tail: undefined, sinceNs: 0n }, follow))
      for (const { stream, data } of joinRecords(records)) await onOutput(stream, data);
  })();
  await Promise.race([isWatched, reading]);
  await startContainer(containers, ctx, container).finally(() => reading.catch(() => undefined));
  await reading;
  await exited;
  ctx.throwIfEnded();
}

function podConfig(network: NamespaceMode): PodSandboxConfig {
  return PodSandboxConfig.fromPartial({
    metadata: { name: 'build', uid: randomUUID(), namespace: 'berth', attempt: 0 },
    hostname: 'build',
    linux: { securityContext: { namespaceOptions: namespaces(network) } },
  });
}

function containerConfig({ argv, env, cwd, user }: StepCommand, network: NamespaceMode): ContainerConfig {
  return ContainerConfig.fromPartial({
    metadata: { name: 'step', attempt: 0 },
    image: { image: 'build' },
    command: [...argv],
    envs: env.map(([key, value]) => ({ key, value: Buffer.from(value) })),
    workingDir: cwd,
    linux: {
      securityContext: {
        namespaceOptions: namespaces(network),
        runAsUsername: user,
        seccomp: { profileType: SecurityProfile_ProfileType.RuntimeDefault },
      },
    },
  });
}

async function namespaceOf({ sandboxes }: BuildParts, network: StepCommand['network']): Promise<NamespaceMode> {
  if (network === 'none') return NamespaceMode.POD;
  if (network === 'host') return NamespaceMode.NODE;
  return (await sandboxes.network.find('person')) ? NamespaceMode.POD : NamespaceMode.NODE;
}

function namespaces(network: NamespaceMode) {
  return {
    network,
    pid: NamespaceMode.CONTAINER,
    ipc: NamespaceMode.POD,
  };
}

/** A stage is no image that could be found by its id. */
const stageId = digestOf(Buffer.from('a stage of a build'));

/** What a stage is so far, as the container's image: its files alone, for the command brings all else. */
function imageOf({ platform, below }: StepCommand): NonNullable<CreateContainerRequest['image']> {
  const layers = below.map(({ layer: { key, dir, diffId, diskBytes, state }, descriptor }) => {
    return { key, dir, diffId, sizeBytes: diskBytes, state, digest: descriptor.digest };
  });
  const empty = {
    env: [],
    entrypoint: [],
    cmd: [],
    user: '',
    workingDir: '',
    volumes: [],
    exposedPorts: [],
    labels: {},
  };
  return {
    id: stageId,
    ...{ tags: [], digests: [], sizeBytes: 0n, pinned: false, runtimeHandler: '' },
    layers,
    config: { ...platform, ...empty, diffIds: layers.map(({ diffId }) => diffId), history: [] },
  };
}

/** Where something is mounted in a container. */
export function mountPointsOf({ record }: Container): string[] {
  const spec = JSON.parse(record.spec ?? '{}') as { mounts?: { destination: string }[] };
  return (spec.mounts ?? []).map(({ destination }) => destination);
}
