import { mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Context } from './base/context';
import { BerthError } from './base/errors';
import type { Logger } from './base/log';
import { BuildCache, type CacheRecord } from './build/cache';
import { CacheMounts } from './build/cache-mounts';
import { hasSystemd, openCgroups } from './cgroup/open';
import type { Config } from './config';
import { untilDeleted } from './container/delete-later';
import { Containers, type ContainerRecord } from './container/containers';
import { HealthChecks } from './container/health';
import { LogGrowth } from './container/log-growth';
import { Names } from './container/names';
import { RestartPolicies } from './container/restart-policy';
import { removeOldCgroups, restoreContainers } from './container/restore';
import { Rlimits } from './container/rlimits';
import { Runtimes } from './container/runtimes';
import { ImageServiceService, RuntimeServiceService } from './cri';
import { BerthService } from './cri/generated/berth/v1/berth';
import { BuilderService } from './cri/generated/berth/v1/build';
import { ContainersService } from './cri/generated/berth/v1/containers';
import { RegistryService } from './cri/generated/berth/v1/registry';
import { EventsService } from './cri/generated/berth/v1/events';
import { ExploreService } from './cri/generated/berth/v1/explore';
import { NetworksService } from './cri/generated/berth/v1/network';
import { StatsService } from './cri/generated/berth/v1/stats';
import { Events } from './events/events';
import { openImages } from './image/images';
import { PullBook } from './image/pulls';
import { measure, readingsOf, timedPlugins } from './measure';
import { openMetrics } from './metrics/open';
import { openTraces } from './metrics/traces';
import { OciRuntime } from './process/oci-runtime';
import { keepMemorySmall } from './process/memory';
import { raiseHardLimits } from './process/rlimits';
import { addon } from './native/addon';
import { runProgram } from './native/run-program';
import type { NetworkSettings } from './network/default-network';
import { PodNetwork } from './network/pod-network';
import { buildService } from './rpc/berth-build';
import { registryService } from './rpc/berth-registry';
import { eventsService } from './rpc/berth-events';
import { exploreService } from './rpc/berth-explore';
import { networksService } from './rpc/berth-network';
import { berthService, containersService } from './rpc/berth-service';
import { statsService } from './rpc/berth-stats';
import { imageService } from './rpc/image-service';
import { runtimeService } from './rpc/runtime-service';
import { serve, type RpcServer } from './rpc/server';
import { chooseCgroupDriver } from './sandbox/cgroup-driver';
import { collectNetworks } from './sandbox/network';
import { restoreSandboxes } from './sandbox/restore';
import { Sandboxes, type SandboxRecord } from './sandbox/sandboxes';
import { UserNamespaceSupport } from './sandbox/user-namespaces';
import { Facts } from './stats/metrics/facts';
import { Readings } from './stats/readings';
import { openStore } from './store/store';
import { StreamingServer } from './streaming/server';

export interface Daemon {
  /** Ends calls, closes sockets and the store; containers run on. */
  close(): Promise<void>;
}

/** The wiring: everything is made here, in the order of dependency. */
export async function startDaemon(config: Config, version: string, log: Logger): Promise<Daemon> {
  const { root, state } = config;
  refuseLongPaths(config);
  for (const dir of [root, state, join(root, 'containers'), join(state, 'containers'), join(state, 'sandboxes')]) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }
  lockDirectory(root);

  const store = openStore(join(root, 'db'), log, join(state, 'journal'));
  const measured = await openMetrics(
    config.metrics.address,
    version,
    readingsOf(() => ({ images, containers, growth })),
    log,
  );
  const traces = await openTraces(config.tracing, version, log);
  const sandboxTable = store.quickTable<SandboxRecord>('sandboxes', 1);
  const { driver, stays } = chooseCgroupDriver(sandboxTable.list(), {
    configured: config.runtime.cgroupDriver,
    hasSystemd: hasSystemd(),
    stateDir: state,
  });
  if (stays) log.warn(stays);
  const cgroups = await openCgroups(driver, log);
  const network = new PodNetwork({
    configDir: config.network.cniConfigDir,
    binDirs: config.network.cniBinDirs,
    timeoutMs: config.network.cniTimeoutSeconds * 1000,
    run: measured.isOn ? timedPlugins(runProgram, measured.metrics) : runProgram,
    netlink: (protocol, namespacePath, request) => addon().netlink(protocol, namespacePath, request),
    owner: root,
    byDefault: { ...config.network, settings: store.table<NetworkSettings>('network', 1) },
    log,
  });
  const handlers = Object.entries(config.runtimes).map(([name, { path }]) => ({ name, isOwn: path === 'berth' }));
  const runtimes = Object.entries(config.runtimes).flatMap(([name, { path, args, annotations, root: dir }]) => {
    if (path === 'berth') return [];
    const home = dir || join(state, 'runtimes', name);
    mkdirSync(home, { recursive: true, mode: 0o700 });
    return [new OciRuntime(name, { path, args, annotations, root: home })];
  });
  const events = new Events();
  const sandboxes = new Sandboxes(
    sandboxTable,
    state,
    cgroups,
    network,
    log,
    limitOf(config.runtime.podPidsLimit),
    handlers,
    events,
  );
  const containerTable = store.quickTable<ContainerRecord>('containers', 1);
  // Images and containers need each other: until there are containers, their records answer.
  const buildCache = new BuildCache(store.table<CacheRecord>('build-cache', 1));
  let layersInUse = (): Iterable<string> => containerTable.list().flatMap(record => record.layerKeys);
  const images = await openImages({
    root,
    store,
    log,
    hostsDir: config.registry.hostsDir,
    plainHttp: config.registry.plainHttp,
    dockerConfig: { file: config.registry.dockerConfig, helperDirs: config.registry.credentialHelperDirs },
    transport: { progressTimeoutMs: config.registry.progressTimeoutSeconds * 1000 },
    maxConcurrentDownloads: config.registry.maxConcurrentDownloads,
    allowForeignLayers: config.registry.allowForeignLayers,
    keepLayerBlobs: config.registry.keepLayerBlobs,
    layersInUse: () => layersInUse(),
    keptByBuilds: buildCache,
    book: new PullBook(measured.metrics),
    events,
  });
  const containers = new Containers(
    containerTable,
    root,
    state,
    sandboxes,
    images,
    cgroups,
    log,
    config.cdi.specDirs,
    new Rlimits(config.runtime.rlimits, config.runtimes, raiseHardLimits(), log),
    limitOf(config.runtime.pidsLimit),
    new Runtimes(
      runtimes,
      handlers.filter(({ isOwn }) => isOwn).map(({ name }) => name),
    ),
    config.runtime.logLineBytes,
  );
  layersInUse = () => containers.layersInUse();
  const restarts = new RestartPolicies(containers);
  const health = new HealthChecks(containers);
  const growth = new LogGrowth(containers);
  if (measured.isOn) measure(measured.metrics, cgroups, containers, growth);

  const ctx = Context.of(log);
  const restoring = performance.now();
  await restoreContainers(containers, ctx);
  await restoreSandboxes(sandboxes, ctx);
  const [pods, all] = [sandboxes.list().length, containers.list().length];
  log.info('restored what was there', { pods, containers: all, ms: Math.round(performance.now() - restoring) });

  const streaming = await StreamingServer.start(config.streaming, log);
  const userNamespaces = new UserNamespaceSupport(join(root, 'layers'), join(root, 'containers'), log);
  const readings = new Readings(sandboxes, containers, cgroups, log);
  const facts = new Facts(readings, cgroups, root);
  const runtime = runtimeService({
    log,
    config,
    version,
    sandboxes,
    containers,
    userNamespaces,
    streaming,
    readings,
    facts,
  });
  const image = imageService({ log, images, root, layers: readings.layers });
  const observers = { metrics: measured.isOn ? measured.metrics : undefined, traces };
  const servers: RpcServer[] = [];
  servers.push(
    await serve(
      join(state, 'cri.sock'),
      [
        { definition: RuntimeServiceService, implementation: runtime },
        { definition: ImageServiceService, implementation: image },
      ],
      log,
      observers,
    ),
  );
  const parts = { log, version, config, images, sandboxes, containers, metrics: measured.metrics };
  const names = new Names(containers);
  const builder = buildService(log, {
    ...{ images, sandboxes, containers, cache: buildCache },
    cacheMounts: new CacheMounts(join(root, 'build', 'mounts')),
    secretsDir: freshDirectory(join(state, 'build-secrets')),
  });
  servers.push(
    await serve(
      join(state, 'berth.sock'),
      [
        { definition: BerthService, implementation: berthService(parts, names) },
        { definition: ContainersService, implementation: containersService(parts, names) },
        { definition: EventsService, implementation: eventsService(parts) },
        { definition: ExploreService, implementation: exploreService(parts) },
        { definition: BuilderService, implementation: builder },
        { definition: NetworksService, implementation: networksService(parts) },
        { definition: RegistryService, implementation: registryService(parts) },
        { definition: StatsService, implementation: statsService({ ...parts, readings, cgroups }) },
      ],
      log,
      observers,
    ),
  );
  const endpoint = await measured.listen();
  restarts.begin();
  health.begin();
  void removeOldCgroups(containers);
  void collectNetworks(sandboxes, ctx);
  const stopReleasing = keepMemorySmall(log);
  return {
    close: async () => {
      stopReleasing();
      addon().stopCounting();
      restarts.close();
      health.close();
      // A server waits for its calls, and who listens to events never ends by itself.
      events.close();
      await Promise.all([...servers.map(server => server.close()), streaming.close(), endpoint?.close()]);
      await network.close();
      await untilDeleted(containers);
      await images.close();
      await store.close();
      await traces?.close();
    },
  };
}

/** Made anew: what an earlier daemon left in it is gone. */
function freshDirectory(path: string): string {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** 0 in the configuration is no limit. */
function limitOf(configured: number): bigint | undefined {
  return configured === 0 ? undefined : BigInt(configured);
}

/** Two daemons over one store would undo each other's work. The lock goes with the process, however it ends. */
function lockDirectory(root: string): void {
  const fd = openSync(join(root, 'lock'), 'a', 0o600);
  if (addon().lock(fd)) return;
  throw new BerthError('already_exists', `another daemon uses ${root}`, {
    hint: 'stop it first, or give this one another --root directory',
  });
}

/**
 * fsconfig(2) takes 255 bytes, of which a layer's path below the root takes 90,
 * and a socket's address 107, of which its name takes 11.
 */
function refuseLongPaths({ root, state }: Config): void {
  for (const [key, path, limit] of [
    ['root', root, 160],
    ['state', state, 96],
  ] as const) {
    if (Buffer.byteLength(path) <= limit) continue;
    throw new BerthError('invalid_argument', `${key} directory ${path}: the path is longer than ${limit} bytes`, {
      hint: 'choose a shorter one',
    });
  }
}
