import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import type { Config } from '../config';
import {
  RuntimeServiceService,
  type CreateContainerRequest,
  type LinuxContainerResources,
  type RuntimeServiceServer,
} from '../cri';
import type { Container, Containers } from '../container/containers';
import { createContainer } from '../container/create';
import { execSync } from '../container/exec-sync';
import { removePod, stopPod } from '../container/pods';
import { removeContainer } from '../container/remove';
import { startContainer } from '../container/start';
import { stopContainer } from '../container/stop';
import { tell } from '../container/tell';
import { timingRows } from '../container/timings';
import { updateContainer } from '../container/update';
import { planSteps } from '../process/plan-steps';
import { runSandbox } from '../sandbox/run';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { podCidrs } from '../network/pod-cidrs';
import type { UserNamespaceSupport } from '../sandbox/user-namespaces';
import { updateSandbox } from '../sandbox/update';
import type { Facts } from '../stats/metrics/facts';
import type { Readings } from '../stats/readings';
import type { StreamingServer } from '../streaming/server';
import { sendItems } from './batches';
import { eventRpcs } from './container-events';
import { findContainer, findSandbox, getContainer, getSandbox } from './find';
import { encodedPieces } from './encoded';
import { execSyncResponse } from './exec-sync-response';
import { complete, serverStream, unary } from './handler';
import { jsonText } from './json';
import * as info from './runtime-info';
import { containerItem, listedContainers, listedSandboxes, podItem } from './runtime-lists';
import { metricsRpcs } from './runtime-metrics';
import { statsRpcs } from './runtime-stats';
import { streamingRpcs } from './runtime-streaming';
import { containerStatus, podSandboxStatus } from './to-cri';

export interface RuntimeServiceParts {
  log: Logger;
  config: Config;
  version: string;
  sandboxes: Sandboxes;
  containers: Containers;
  userNamespaces: UserNamespaceSupport;
  streaming: StreamingServer;
  readings: Readings;
  facts: Facts;
}

type Built = Partial<{ [Name in keyof RuntimeServiceServer]: RuntimeServiceServer[Name] }>;

/** The CRI's RuntimeService: each RPC finds what it is about and hands over to its verb. */
export function runtimeService(parts: RuntimeServiceParts): UntypedServiceImplementation {
  const built = {
    ...infoRpcs(parts),
    ...sandboxRpcs(parts),
    ...containerRpcs(parts),
    ...eventRpcs(parts),
    ...streamingRpcs(parts),
    ...statsRpcs({ ...parts, root: parts.config.root }),
    ...metricsRpcs(parts),
  } satisfies Built;
  return complete(RuntimeServiceService, built);
}

function infoRpcs({ log, config, version, containers, sandboxes: { network }, userNamespaces }: RuntimeServiceParts) {
  return {
    version: unary(log, 'Version', () => info.version(version)),
    status: unary(log, 'Status', request =>
      info.status(config, network, userNamespaces, request.verbose, containers.runtimes, log),
    ),
    runtimeConfig: unary(log, 'RuntimeConfig', () => info.runtimeConfig(containers.cgroups.driver)),
    updateRuntimeConfig: unary(log, 'UpdateRuntimeConfig', async ({ runtimeConfig }) => {
      await network.setPodCidrs(podCidrs(runtimeConfig?.networkConfig?.podCidr ?? ''));
      return {};
    }),
  } satisfies Built;
}

function sandboxRpcs({ log, sandboxes, containers }: RuntimeServiceParts) {
  return {
    runPodSandbox: unary(log, 'RunPodSandbox', async ({ config, runtimeHandler }, ctx) => {
      if (!config) throw new BerthError('invalid_argument', 'RunPodSandbox needs a config');
      const sandbox = await runSandbox(sandboxes, ctx, { config, runtimeHandler, owner: 'cri' });
      return { podSandboxId: sandbox.record.id };
    }),
    stopPodSandbox: unary(log, 'StopPodSandbox', async ({ podSandboxId }, ctx) => {
      const sandbox = findSandbox(sandboxes, podSandboxId);
      if (sandbox) await stopPod(containers, ctx, sandbox);
      return {};
    }),
    removePodSandbox: unary(log, 'RemovePodSandbox', async ({ podSandboxId }, ctx) => {
      const sandbox = findSandbox(sandboxes, podSandboxId);
      if (sandbox) await removePod(containers, ctx, sandbox);
      return {};
    }),
    podSandboxStatus: unary(log, 'PodSandboxStatus', ({ podSandboxId, verbose }) => {
      const sandbox = getSandbox(sandboxes, podSandboxId);
      return {
        status: podSandboxStatus(sandbox),
        info: verbose ? { info: sandboxInfo(sandbox) } : {},
        containersStatuses: listedContainers(containers.ofSandbox(sandbox.record.id)).map(containerStatus),
        timestamp: BigInt(Date.now()) * 1_000_000n,
      };
    }),
    updatePodSandboxResources: unary(
      log,
      'UpdatePodSandboxResources',
      async ({ podSandboxId, overhead, resources }, ctx) => {
        await updateSandbox(sandboxes, ctx, getSandbox(sandboxes, podSandboxId), { overhead, resources });
        return {};
      },
    ),
    listPodSandbox: unary(log, 'ListPodSandbox', ({ filter }) =>
      encodedPieces(listedSandboxes(sandboxes.list(), filter).map(podItem)),
    ),
    streamPodSandboxes: serverStream(log, 'StreamPodSandboxes', async ({ filter }, _ctx, send) => {
      const items = listedSandboxes(sandboxes.list(), filter).map(podItem);
      await sendItems(send, items);
    }),
  } satisfies Built;
}

function containerRpcs({ log, sandboxes, containers }: RuntimeServiceParts) {
  return {
    createContainer: unary(log, 'CreateContainer', async (request: CreateContainerRequest, ctx) => {
      if (!request.config) throw new BerthError('invalid_argument', 'CreateContainer needs a config');
      const sandbox = getSandbox(sandboxes, request.podSandboxId);
      const container = await createContainer(containers, ctx, { sandbox, config: request.config });
      return { containerId: container.record.id };
    }),
    startContainer: unary(log, 'StartContainer', async ({ containerId }, ctx) => {
      await startContainer(containers, ctx, getContainer(containers, containerId));
      return {};
    }),
    stopContainer: unary(log, 'StopContainer', async ({ containerId, timeout }, ctx) => {
      const container = findContainer(containers, containerId);
      const isRunning = container?.record.state === 'running';
      if (container) await stopContainer(containers, ctx, container, seconds(timeout, 'timeout'));
      if (container && isRunning) tell(containers, container, 'stop');
      return {};
    }),
    removeContainer: unary(log, 'RemoveContainer', async ({ containerId }, ctx) => {
      const container = findContainer(containers, containerId);
      if (container) await removeContainer(containers, ctx, container);
      return {};
    }),
    listContainers: unary(log, 'ListContainers', ({ filter }) =>
      encodedPieces(listedContainers(containers.list(), filter).map(containerItem)),
    ),
    streamContainers: serverStream(log, 'StreamContainers', async ({ filter }, _ctx, send) => {
      const items = listedContainers(containers.list(), filter).map(containerItem);
      await sendItems(send, items);
    }),
    containerStatus: unary(log, 'ContainerStatus', ({ containerId, verbose }) => {
      const container = getContainer(containers, containerId);
      return {
        status: containerStatus(container),
        info: verbose ? { info: containerInfo(containers, container) } : {},
      };
    }),
    updateContainerResources: unary(log, 'UpdateContainerResources', async ({ containerId, linux, windows }, ctx) => {
      const container = getContainer(containers, containerId);
      await updateContainer(containers, ctx, container, linuxOf(linux, windows));
      tell(containers, container, 'update');
      return {};
    }),
    execSync: unary(log, 'ExecSync', async ({ containerId, cmd, timeout }, ctx) => {
      const container = getContainer(containers, containerId);
      return execSyncResponse(await execSync(containers, ctx, container, cmd, seconds(timeout, 'timeout')));
    }),
    reopenContainerLog: unary(log, 'ReopenContainerLog', async ({ containerId }, ctx) => {
      const { monitor, record } = getContainer(containers, containerId);
      if (record.state !== 'running' || !monitor) {
        throw new BerthError(
          'failed_precondition',
          `container ${record.id} is ${record.state}: only a running one's log is opened again`,
        );
      }
      await ctx.race(monitor.reopenLog());
      return {};
    }),
  } satisfies Built;
}

/** Annotations, which the request may have, too, mean nothing to berth. */
function linuxOf(linux: LinuxContainerResources | undefined, windows: object | undefined): LinuxContainerResources {
  if (windows) throw new BerthError('unimplemented', 'windows resources: this runtime runs Linux containers only');
  if (linux) return linux;
  throw new BerthError('invalid_argument', 'UpdateContainerResources needs linux resources');
}

/** setTimeout's limit: longer waits are as good as this one, 24 days. */
const MAX_SECONDS = 2_147_483n;

function seconds(value: bigint, what: string): number {
  if (value < 0n) throw new BerthError('invalid_argument', `${what} ${value} is negative`);
  return Number(value > MAX_SECONDS ? MAX_SECONDS : value);
}

function sandboxInfo({ record, config }: Sandbox): string {
  const { resources, overhead } = config.linux ?? {};
  return jsonText({ ...record, config: undefined, pid: record.pause?.pid ?? 0, resources, overhead });
}

function containerInfo(containers: Containers, container: Container): string {
  const { record } = container;
  const runtimeSpec: unknown = record.spec === undefined ? undefined : JSON.parse(record.spec);
  return jsonText({
    ...record,
    config: undefined,
    spec: undefined,
    seccomp: record.seccomp?.profile ?? 'unconfined',
    pid: record.process?.pid ?? 0,
    runtimeSpec,
    plan: planSteps(containers.paths(record.id).stateDir),
    timings: timingRows(containers, container),
  });
}
