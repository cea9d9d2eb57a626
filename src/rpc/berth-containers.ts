import { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Container, Containers, ContainerState } from '../container/containers';
import { containerByName } from '../container/find';
import { isPaused, letGo } from '../container/pause';
import { removeForPerson } from '../container/pods';
import { relaunchContainer } from '../container/relaunch';
import { startContainer } from '../container/start';
import { signalContainer, stopContainer } from '../container/stop';
import { tell } from '../container/tell';
import { timingRows } from '../container/timings';
import {
  ContainerState as BerthState,
  type BerthServer,
  type Container as BerthContainer,
  type PublishedPort,
} from '../cri/generated/berth/v1/berth';
import { signalName, signalNumber } from '../oci/signals';
import type { BerthParts } from './berth-service';
import { portsOf } from './berth-network';
import { dockerContainer, networkName, type ProcessView } from './docker-view';
import { unary } from './handler';
import { jsonText } from './json';

const SIGKILL = 9;
const DEFAULT_STOP_SECONDS = 10n;
/** setTimeout's limit: longer waits are as good as this one, 24 days. */
const MAX_STOP_SECONDS = 2_147_483n;

/** The RPCs about containers that are there, a person's and the kubelet's. */
export function containerRpcs({ log, containers }: BerthParts) {
  const named = (text: string) => containerByName(containers, text);
  return {
    start: unary(log, 'Start', async ({ container }, ctx) => {
      await startForPerson(containers, ctx, named(container));
      return {};
    }),
    kill: unary(log, 'Kill', async ({ container, signal }) => {
      const found = named(container);
      const number = signalOf(signal);
      kill(containers, found, number);
      if (number === SIGKILL || number === found.record.stopSignal) await noteStopped(containers, found, true);
      await letGo(containers, found);
      return {};
    }),
    stop: unary(log, 'Stop', async ({ container, timeoutSeconds }, ctx) => {
      await stopForPerson(containers, ctx, named(container), timeoutSeconds);
      return {};
    }),
    remove: unary(log, 'Remove', async ({ container, force }, ctx) => {
      const found = named(container);
      if (found.record.state === 'running' && !force) {
        throw new BerthError('failed_precondition', `container ${nameOf(found)} is running`, {
          hint: 'stop it first, or force it',
        });
      }
      await removeForPerson(containers, ctx, found);
      return {};
    }),
    listContainers: unary(log, 'ListContainers', ({ all }) => ({
      containers: containers
        .list()
        .reverse()
        .filter(({ record }) => record.owner !== 'build')
        .filter(({ record: { state } }) => (all ? state !== 'creating' : state === 'running'))
        .sort((a, b) => Number(b.record.createdAtNs - a.record.createdAtNs))
        .map(container => berthContainer(containers, container)),
    })),
    inspectContainer: unary(log, 'InspectContainer', ({ container }) => ({
      json: jsonText(inspected(containers, named(container))),
    })),
  } satisfies Partial<BerthServer>;
}

/** What a person calls it. */
export function nameOf({ record, config }: Container): string {
  return record.name ?? config.metadata?.name ?? record.id.slice(0, 12);
}

/** The number of a signal as people write it. */
export function signalOf(text: string): number {
  const number = text === '' ? SIGKILL : signalNumber(text);
  if (number !== undefined) return number;
  throw new BerthError('invalid_argument', `${JSON.stringify(text)} is not a signal`, {
    hint: 'signals look like SIGTERM, TERM, 15 or SIGRTMIN+3',
  });
}

async function startForPerson(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { state } = container.record;
  // The kubelet's second start is one whose answer was lost; a person's is a mistake.
  if (state === 'running')
    throw new BerthError('failed_precondition', `container ${nameOf(container)} is running already`);
  if (state === 'exited') await relaunchContainer(containers, container);
  await noteStopped(containers, container, false);
  await startContainer(containers, ctx, container);
}

function kill(containers: Containers, container: Container, signal: number): void {
  const { state } = container.record;
  if (state === 'running' && signalContainer(containers, container, signal)) return;
  const is = state === 'running' ? 'exited' : state;
  throw new BerthError('failed_precondition', `container ${nameOf(container)} is ${is}: signals are for running ones`);
}

/** The stop signal, then a kill; one that does not run is no error, and a paused one goes on to hear it. */
export async function stopForPerson(
  containers: Containers,
  ctx: Context,
  container: Container,
  timeoutSeconds: bigint | undefined,
): Promise<void> {
  const patience = stopSeconds(timeoutSeconds ?? container.options.stopTimeoutSeconds ?? DEFAULT_STOP_SECONDS);
  await noteStopped(containers, container, true);
  const { returning } = container;
  await returning;
  if (container.record.state !== 'running') return;
  // Nobody else would end what a policy has started meanwhile: then a caller that goes away does not break it off.
  const stopping = returning ? Context.of(ctx.log) : ctx;
  await letGo(containers, container);
  await stopContainer(containers, stopping, container, patience);
  tell(containers, container, 'stop');
}

/**
 * What a person does to it: a restart policy goes by that. A start is noted once the container is ready: by then the
 * policy has heard of the last run's end, which still was a person's.
 */
export async function noteStopped(containers: Containers, container: Container, isStopped: boolean): Promise<void> {
  const { options, record } = container;
  if (options.restart && !(record.isStopped && isStopped))
    await containers.update(container, { isStopped, ...(isStopped ? {} : { restarts: 0 }) });
  delete container.isRestarting;
}

function stopSeconds(seconds: bigint): number {
  if (seconds < 0n) throw new BerthError('invalid_argument', `timeout ${seconds} s is negative`);
  return Number(seconds > MAX_STOP_SECONDS ? MAX_STOP_SECONDS : seconds);
}

function berthContainer(containers: Containers, container: Container): BerthContainer {
  const { record, config } = container;
  return {
    id: record.id,
    name: nameOf(container),
    image: config.image?.userSpecifiedImage || config.image?.image || record.imageId,
    imageId: record.imageId,
    command: [...commandOf(container)],
    state: stateOf(containers, container),
    createdAtNs: record.createdAtNs,
    startedAtNs: record.startedAtNs,
    finishedAtNs: record.finishedAtNs,
    exitCode: record.exitCode,
    reason: record.reason,
    labels: config.labels,
    pod: podOf(containers, container),
    health: record.state === 'running' ? (container.health?.status ?? '') : '',
    mounts: config.mounts.map(({ hostPath }) => containers.volumes.nameOf(hostPath) ?? hostPath),
    network: networkName(containers, record.sandboxId),
    restarts: record.restarts ?? 0,
    ports: publishedBy(containers, container),
  };
}

function publishedBy({ sandboxes }: Containers, { record }: Container): PublishedPort[] {
  const pod = record.owner === 'person' && record.state === 'running' ? sandboxes.find(record.sandboxId) : undefined;
  return pod ? portsOf(pod) : [];
}

function stateOf(containers: Containers, container: Container): BerthState {
  const { state } = container.record;
  if (isPaused(containers, container)) return BerthState.CONTAINER_STATE_PAUSED;
  return state === 'exited' && container.isRestarting ? BerthState.CONTAINER_STATE_RESTARTING : STATES[state];
}

const STATES: Readonly<Record<ContainerState, BerthState>> = {
  creating: BerthState.CONTAINER_STATE_UNKNOWN,
  created: BerthState.CONTAINER_STATE_CREATED,
  running: BerthState.CONTAINER_STATE_RUNNING,
  exited: BerthState.CONTAINER_STATE_EXITED,
};

/** By spec, which never changes; a list of a thousand containers parses each once. */
const commands = new WeakMap<Container, readonly string[]>();

function commandOf(container: Container): readonly string[] {
  const known = commands.get(container);
  if (known) return known;
  const { args } = specOf(container)?.process ?? { args: [] };
  if (container.record.spec !== undefined) commands.set(container, args);
  return args;
}

function specOf({ record }: Container): { process: ProcessView } | undefined {
  return record.spec === undefined ? undefined : (JSON.parse(record.spec) as { process: ProcessView });
}

function podOf(containers: Containers, { record }: Container): { name: string; namespace: string } | undefined {
  if (record.owner !== 'cri') return undefined;
  const { name = '', namespace = '' } = containers.sandboxes.find(record.sandboxId)?.config.metadata ?? {};
  return { name, namespace };
}

function inspected(containers: Containers, container: Container): object {
  const { record, config } = container;
  return {
    ...dockerContainer(containers, container, nameOf(container), specOf(container)?.process),
    id: record.id,
    name: nameOf(container),
    state: record.state,
    paused: isPaused(containers, container),
    pid: record.state === 'exited' ? 0 : (record.process?.pid ?? 0),
    exitCode: record.exitCode,
    reason: record.reason,
    message: record.message,
    createdAtNs: record.createdAtNs,
    startedAtNs: record.startedAtNs,
    finishedAtNs: record.finishedAtNs,
    image: config.image?.userSpecifiedImage || config.image?.image,
    imageId: record.imageId,
    imageRef: record.imageRef,
    command: commandOf(container),
    hostname: containers.sandboxes.find(record.sandboxId)?.record.hostname ?? '',
    user: record.user,
    seccomp: record.seccomp?.profile ?? 'unconfined',
    stopSignal: signalName(record.stopSignal),
    autoRemove: record.autoRemove ?? false,
    restarts: record.restarts ?? 0,
    health: container.health ?? null,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map(({ hostPath, containerPath, readonly }) => ({
      source: hostPath,
      target: containerPath,
      readonly,
    })),
    pod: podOf(containers, container) ?? null,
    sandboxId: record.sandboxId,
    cgroupPath: record.cgroupPath,
    logPath: record.logPath,
    runtimeSpec: specOf(container) ?? null,
    timings: timingRows(containers, container),
  };
}
