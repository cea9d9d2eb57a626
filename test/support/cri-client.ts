import { join } from 'node:path';
import {
  credentials,
  loadPackageDefinition,
  Metadata,
  type Client,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { patience } from './patience';
import { repoRoot } from './repo';

/** The parts of the answers that tests look at; protobufjs decodes them, not the product's codec. */
export interface ContainerStatus {
  id: string;
  metadata: { name: string; attempt: number };
  state: string;
  createdAt: string;
  startedAt: string;
  finishedAt: string;
  exitCode: number;
  image: { image: string };
  imageRef: string;
  imageId: string;
  reason: string;
  message: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  mounts: {
    containerPath: string;
    hostPath: string;
    readonly: boolean;
    image: { image: string; imageRef: string } | null;
  }[];
  logPath: string;
  stopSignal: string;
  resources: { linux: Record<string, unknown> } | null;
  user: { linux: { uid: string; gid: string; supplementalGroups: string[] } } | null;
}

interface Amount {
  value: string;
}

interface PsiData {
  Total: string;
  Avg10: number;
  Avg60: number;
  Avg300: number;
}

interface Stalls {
  Full: PsiData;
  Some: PsiData;
}

/** What a container, or a pod as a whole, uses. */
interface Used {
  cpu: {
    timestamp: string;
    usageCoreNanoSeconds: Amount;
    usageNanoCores: Amount | null;
    psi: Stalls | null;
  } | null;
  memory: {
    timestamp: string;
    workingSetBytes: Amount;
    availableBytes: Amount | null;
    usageBytes: Amount;
    rssBytes: Amount;
    pageFaults: Amount;
    majorPageFaults: Amount;
    psi: Stalls | null;
  } | null;
  io: { timestamp: string; psi: Stalls } | null;
}

export interface ContainerStats extends Used {
  attributes: {
    id: string;
    metadata: { name: string; attempt: number };
    labels: Record<string, string>;
    annotations: Record<string, string>;
  };
  writableLayer: {
    timestamp: string;
    fsId: { mountpoint: string };
    usedBytes: Amount;
    inodesUsed: Amount;
  } | null;
  swap: { timestamp: string; swapAvailableBytes: Amount | null; swapUsageBytes: Amount } | null;
}

interface InterfaceStats {
  name: string;
  rxBytes: Amount;
  rxErrors: Amount;
  txBytes: Amount;
  txErrors: Amount;
}

export interface PodSandboxStats {
  attributes: { id: string; metadata: { name: string }; labels: Record<string, string> };
  linux: Used & {
    network: { timestamp: string; defaultInterface: InterfaceStats | null; interfaces: InterfaceStats[] } | null;
    process: { processCount: Amount } | null;
    containers: ContainerStats[];
  };
}

export interface Metric {
  name: string;
  timestamp: string;
  metricType: string;
  labelValues: string[];
  value: Amount;
}

export interface PodSandboxMetrics {
  podSandboxId: string;
  metrics: Metric[];
  containerMetrics: { containerId: string; metrics: Metric[] }[];
}

export interface Answers {
  Version: { version: string; runtimeName: string; runtimeVersion: string; runtimeApiVersion: string };
  Status: {
    status: { conditions: { type: string; status: boolean; reason: string; message: string }[] };
    info: Record<string, string>;
    runtimeHandlers: { name: string; features: { recursiveReadOnlyMounts: boolean; userNamespaces: boolean } | null }[];
    features: { mountOptions: boolean; supplementalGroupsPolicy: boolean; userNamespacesHostNetwork: boolean };
  };
  RuntimeConfig: { linux: { cgroupDriver: string } };
  UpdateRuntimeConfig: object;
  RunPodSandbox: { podSandboxId: string };
  StopPodSandbox: object;
  RemovePodSandbox: object;
  PodSandboxStatus: {
    status: {
      id: string;
      state: string;
      createdAt: string;
      labels: Record<string, string>;
      annotations: Record<string, string>;
      metadata: { name: string; uid: string; namespace: string; attempt: number };
      network: { ip: string; additionalIps: { ip: string }[] };
    };
    containersStatuses: ContainerStatus[];
    timestamp: string;
    info: Record<string, string>;
  };
  ListPodSandbox: { items: { id: string; state: string; labels: Record<string, string> }[] };
  CreateContainer: { containerId: string };
  StartContainer: object;
  StopContainer: object;
  RemoveContainer: object;
  ListContainers: {
    containers: { id: string; podSandboxId: string; state: string; imageId: string; labels: Record<string, string> }[];
  };
  ContainerStatus: { status: ContainerStatus; info: Record<string, string> };
  UpdateContainerResources: object;
  UpdatePodSandboxResources: object;
  ExecSync: { stdout: Buffer; stderr: Buffer; exitCode: number };
  Exec: { url: string };
  Attach: { url: string };
  PortForward: { url: string };
  ReopenContainerLog: object;
  ContainerStats: { stats: ContainerStats };
  ListContainerStats: { stats: ContainerStats[] };
  PodSandboxStats: { stats: PodSandboxStats };
  ListPodSandboxStats: { stats: PodSandboxStats[] };
  ListMetricDescriptors: { descriptors: { name: string; help: string; labelKeys: string[] }[] };
  ListPodSandboxMetrics: { podMetrics: PodSandboxMetrics[] };
  PullImage: { imageRef: string };
  ImageStatus: {
    info: Record<string, string>;
    image: { id: string; repoTags: string[]; repoDigests: string[]; size: string; username: string } | null;
  };
  ListImages: {
    images: { id: string; repoTags: string[]; repoDigests: string[]; spec: { runtimeHandler: string } | null }[];
  };
  RemoveImage: object;
  ImageFsInfo: {
    imageFilesystems: { timestamp: string; usedBytes: { value: string }; inodesUsed: { value: string } }[];
  };
}

const IMAGE_RPCS = new Set(['PullImage', 'ImageStatus', 'ListImages', 'RemoveImage', 'ImageFsInfo', 'StreamImages']);

type Unary = (
  request: object,
  options: { deadline: Date },
  callback: (error: ServiceError | null, answer: unknown) => void,
) => unknown;
type UnaryWithMetadata = (
  request: object,
  metadata: Metadata,
  options: { deadline: Date },
  callback: (error: ServiceError | null, answer: unknown) => void,
) => unknown;
type Streaming = (request: object, options: { deadline: Date }) => ClientReadableStream<unknown>;
type Services = Record<'RuntimeService' | 'ImageService', new (address: string, credentials: object) => Client>;

let loaded: Services | undefined;

/** proto/, read by an independent loader. */
function services(): Services {
  if (loaded) return loaded;
  const definition = loadSync(join(repoRoot, 'proto/runtime/v1/api.proto'), {
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const root = loadPackageDefinition(definition) as unknown as { runtime: { v1: Services } };
  return (loaded = root.runtime.v1);
}

/** Speaks the CRI to one socket. Errors are grpc-js's, with `code` and `details`. */
export class CriClient implements Disposable {
  private readonly runtime: Client;
  private readonly image: Client;

  constructor(socket: string) {
    const options = { 'grpc.max_receive_message_length': 64 * 1024 * 1024, 'grpc.use_local_subchannel_pool': 1 };
    const make = (service: keyof Services) =>
      new (services()[service] as new (a: string, c: object, o: object) => Client)(
        `unix:${socket}`,
        credentials.createInsecure(),
        options,
      );
    this.runtime = make('RuntimeService');
    this.image = make('ImageService');
  }

  async call<Name extends keyof Answers>(
    name: Name,
    request: object = {},
    deadlineMs = 30_000 * patience,
  ): Promise<Answers[Name]> {
    return (await this.callAny(name, request, deadlineMs)) as Answers[Name];
  }

  /** Any unary RPC by its name. */
  async callAny(name: string, request: object, deadlineMs = 30_000 * patience): Promise<unknown> {
    const client = IMAGE_RPCS.has(name) ? this.image : this.runtime;
    const method = (client as unknown as Record<string, Unary>)[name];
    if (!method) throw new Error(`api.proto has no RPC ${name}`);
    return new Promise((resolve, reject) => {
      method.call(client, request, { deadline: new Date(Date.now() + deadlineMs) }, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  /** Any unary RPC, as a part of a trace of the caller's. */
  async callTraced(name: string, request: object, traceparent: string): Promise<unknown> {
    const client = IMAGE_RPCS.has(name) ? this.image : this.runtime;
    const method = (client as unknown as Record<string, UnaryWithMetadata>)[name];
    if (!method) throw new Error(`api.proto has no RPC ${name}`);
    const metadata = new Metadata();
    metadata.set('traceparent', traceparent);
    return new Promise((resolve, reject) => {
      method.call(client, request, metadata, { deadline: new Date(Date.now() + 30_000) }, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  /** The first message of a server-streaming RPC, or its error. */
  async firstOf(name: string, request: object, of: 'data' | 'metadata' = 'data'): Promise<unknown> {
    const client = IMAGE_RPCS.has(name) ? this.image : this.runtime;
    const method = (client as unknown as Record<string, Streaming>)[name];
    if (!method) throw new Error(`api.proto has no RPC ${name}`);
    const call = method.call(client, request, { deadline: new Date(Date.now() + 30_000 * patience) });
    return new Promise((resolve, reject) => {
      call.on(of, resolve);
      call.on('error', reject);
      call.on('end', () => resolve(undefined));
      // Where nobody listens to data, neither does the end come.
      call.resume();
    }).finally(() => call.cancel());
  }

  /** All messages of a server-streaming RPC that ends by itself. */
  async allOf(name: string, request: object, deadlineMs = 30_000 * patience): Promise<unknown[]> {
    const client = IMAGE_RPCS.has(name) ? this.image : this.runtime;
    const method = (client as unknown as Record<string, Streaming>)[name];
    if (!method) throw new Error(`api.proto has no RPC ${name}`);
    const call = method.call(client, request, { deadline: new Date(Date.now() + deadlineMs) });
    const messages: unknown[] = [];
    for await (const message of call) messages.push(message);
    return messages;
  }

  /** A server-streaming RPC, open; the caller reads and cancels it. */
  open(name: string, request: object, deadlineMs = 60_000): ClientReadableStream<unknown> {
    const client = IMAGE_RPCS.has(name) ? this.image : this.runtime;
    const method = (client as unknown as Record<string, Streaming>)[name];
    if (!method) throw new Error(`api.proto has no RPC ${name}`);
    return method.call(client, request, { deadline: new Date(Date.now() + deadlineMs) });
  }

  close(): void {
    this.runtime.close();
    this.image.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Names and kinds of all RPCs of api.proto. */
export function allRpcs(): { name: string; isStream: boolean }[] {
  const { RuntimeService, ImageService } = services();
  return [RuntimeService, ImageService].flatMap(service => {
    const { service: definition } = service as unknown as { service: Record<string, { responseStream: boolean }> };
    return Object.entries(definition).map(([name, { responseStream }]) => ({ name, isStream: responseStream }));
  });
}
