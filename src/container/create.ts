import { mkdir, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import { randomHexId, type ContainerId } from '../base/ids';
import { Rollback, together } from '../base/rollback';
import { Stopwatch } from '../base/stopwatch';
import { ContainerConfig } from '../cri';
import { RunOptions } from '../cri/generated/berth/v1/run';
import { notFor } from '../image/documents';
import type { Image } from '../image/images';
import { describePlatform, fits } from '../image/platform';
import { containerSpec, type PodFacts } from '../oci/container-spec';
import { externalPlan } from '../oci/external-plan';
import { launchPlan, type Rootfs } from '../oci/launch-plan';
import { assertPodsNamespaces, podNamespaces } from '../oci/namespaces';
import { withRunOptions } from '../oci/run-options';
import { numberOfCriSignal, signalNumber } from '../oci/signals';
import { specToJson, type LinuxSpec, type MountSpec, type Spec } from '../oci/spec';
import { assertPodsUserNamespace, hostIds } from '../oci/user-namespace';
import { makeFiles, mkdirs, removeTree, type FileCall } from '../process/files';
import { Monitor } from '../process/monitor';
import type { Sandbox } from '../sandbox/sandboxes';
import { volumeDirectories } from './anonymous-volumes';
import type { Container, ContainerRecord, Containers } from './containers';
import { deleteLater, GONE } from './delete-later';
import { followToExit } from './exits';
import { fillVolumes } from './fill-volumes';
import { deviceFacts, hostFacts } from './host-facts';
import { laterHooks, prepareHooks, runHostHooks, runPoststop } from './hooks';
import { imageVolumes, volumeImages } from './image-volumes';
import { provideBundle, refuseForRuntime } from './runtimes';
import { assertStillTarget, pidNamespace, type PidPlace } from './pid-namespace';
import { confine } from './confine';
import { containerLabels } from './selinux';
import { launchLaps, tellLaunch } from './timings';

export interface CreateContainerRequest {
  sandbox: Sandbox;
  config: ContainerConfig;
  /** For a person's container. */
  name?: string;
  autoRemove?: boolean;
  /** Instead of the image that the config names. */
  image?: Image;
  /** After those of the config. */
  mounts?: readonly MountSpec[];
  /** Where volumes are mounted that take nothing of the image's, as the config writes it. */
  unfilled?: readonly string[];
  /** NAME and value: in the environment of the process, and in no record. */
  secretEnv?: readonly (readonly [string, Buffer])[];
  options?: RunOptions;
}

const SIGTERM = 15;

/** Below the two minutes of a kubelet's patience, so that it hears why. */
const CREATE_WITHIN_MS = 100_000;

/**
 * CreateContainer: everything is set up and init waits for the start. Asking
 * again with the same metadata joins the call under way, or returns the
 * container that it made and that has not exited.
 */
export async function createContainer(
  containers: Containers,
  ctx: Context,
  request: CreateContainerRequest,
): Promise<Container> {
  const { sandbox, config } = request;
  if (!config.metadata || config.metadata.name === '') {
    throw new BerthError('invalid_argument', 'the container config needs a metadata.name');
  }
  const { name, attempt } = config.metadata;
  const isSame = ({ record, config: other }: Container) =>
    record.sandboxId === sandbox.record.id &&
    (record.state === 'created' || record.state === 'running') &&
    other.metadata?.name === name &&
    other.metadata.attempt === attempt;
  const key = `${sandbox.record.id}/${name}/${attempt}`;
  return ctx.race(
    containers.creates.run(key, async () => containers.list().find(isSame) ?? make(containers, ctx, request)),
  );
}

/** Nobody's call ends it: who asked first may go away while others wait. The pod's end does, and the time. */
async function make(
  containers: Containers,
  { log, steps }: Pick<Context, 'log' | 'steps'>,
  request: CreateContainerRequest,
): Promise<Container> {
  const { sandbox, config } = request;
  const watch = new Stopwatch('CreateContainer', steps);
  const ctx = Context.of(log, { timeoutMs: CREATE_WITHIN_MS, signal: sandbox.closing.signal });
  if (sandbox.record.state !== 'ready') {
    throw new BerthError('failed_precondition', `pod sandbox ${sandbox.record.id} is not ready`, {
      hint: 'run a new one',
    });
  }
  ctx.stage("look up the container's devices");
  const devices = await ctx.race(deviceFacts(config, containers.cdiDirs));
  watch.lap('look up devices');
  refuseMorePrivilege(sandbox, config);
  const image = request.image ?? imageOf(containers, sandbox, config);
  ctx.stage(`verify the layers of ${config.image?.image ?? image.id}`);
  await ctx.race(containers.images.ready(ctx, image));
  const volumes = await ctx.race(volumeImages(containers, ctx, config.mounts));
  watch.lap('make sure of the layers');
  const record = newRecord(containers, request, image, volumes);
  const paths = containers.paths(record.id);
  const options = config.linux?.securityContext?.namespaceOptions;
  assertPodsNamespaces(options, podNamespaces(sandbox.config.linux?.securityContext?.namespaceOptions));
  assertPodsUserNamespace(options, sandbox.record.userns);
  const pid = pidNamespace(containers, sandbox, config);
  const labels = await ctx.race(containerLabels(sandbox, config, log));
  const host = hostFacts(containers, devices, image, volumes, paths.dir, labels);
  const spec = containerSpec(config, image.config, podFacts(containers, sandbox, pid, record, request.options), host);
  if (request.options) withRunOptions(spec, request.options);
  spec.mounts.push(...(request.mounts ?? []));
  await using filling = await fillVolumes(containers, ctx, spec, request.unfilled);
  const runtime = containers.runtimes.of(sandbox.record.runtimeHandler);
  if (runtime) await refuseForRuntime(runtime, config, spec);
  watch.lap('make the spec');
  const filter = await ctx.race(confine(containers, spec, config, labels, ctx.log));
  watch.lap('look up seccomp and AppArmor');
  // Another runtime runs its hooks itself.
  const later = runtime ? {} : laterHooks(spec);
  await using undo = new Rollback(ctx.log, leftovers =>
    containers.add({ ...record, state: 'exited', reason: 'CreateError', leftovers }, config),
  );

  const container = await undo.step(
    'record',
    () => containers.add({ ...record, ...later }, config),
    () => containers.forget(record.id),
  );
  // From the record on the layers stay. Until then a removal of the image could take them.
  for (const one of [image, ...volumes.values()]) containers.images.lowerDirs(one);
  watch.lap('write the record');
  crashPoint('create.recorded');
  const [rootfs, placement] = await together([
    undo.step(
      'directories',
      () => watch.time('make directories', () => makeDirectories(containers, record, image, spec)),
      () => removeDirectories(containers, record.id),
      { alsoIfActFailed: true },
    ),
    undo.step(
      'cgroup',
      () => watch.time('make the cgroup, set its limits', () => makeCgroup(containers, record, spec.linux)),
      () => containers.cgroups.remove(record.cgroupPath),
      { alsoIfActFailed: true },
    ),
    makeLogDirectory(record.logPath),
  ]);
  crashPoint('create.cgroup-made');
  const output = record.logPath === '' ? undefined : { path: record.logPath, maxLineBytes: containers.logLineBytes };
  const stdin = config.stdin && config.stdinOnce ? 'once' : config.stdin;
  const annotations = { ...sandbox.config.annotations, ...config.annotations };
  const hooks = runtime
    ? undefined
    : await prepareHooks(spec, { id: record.id, stateDir: paths.stateDir, rootPath: paths.stage, annotations });
  const launching = withSecretEnv(spec, request.secretEnv ?? []);
  const plan = runtime
    ? externalPlan(launching, rootfs, placement, output, stdin, runtime.commands(paths.stateDir, record.id))
    : launchPlan(launching, rootfs, placement, output, stdin, filter, hooks);
  watch.lap('make the plan');
  if (runtime) {
    const forget = () => runtime.delete(record.id);
    await undo.step('container of the runtime', () => undefined, forget);
  }
  if (hooks)
    await undo.step(
      'hooks',
      () => undefined,
      () => runPoststop(containers, container),
    );
  const monitor = await undo.step(
    'monitor',
    () => Monitor.launch(plan, paths.stateDir, record.id),
    launched => launched?.abandon(),
  );
  watch.lap('start the monitor');
  crashPoint('create.launched');
  ctx.stage('set up the container (a mount source or the log may lie on a file system that does not answer)');
  const home = runtime
    ? await provideBundle(ctx, runtime, monitor, {
        spec: launching,
        stateDir: paths.stateDir,
        rootPath: paths.stage,
        annotations,
      })
    : undefined;
  if (hooks) await runHostHooks(ctx, spec, hooks.state, monitor);
  const created = await ctx.race(monitor.created).catch(async (error: unknown) => {
    throw runtime ? await runtime.explained(error, paths.stateDir) : error;
  });
  watch.lap('wait until init is ready');
  await filling.done();
  if (steps && monitor.times) tellLaunch(steps, monitor.times);
  crashPoint('create.created');
  assertStillTarget(pid);
  container.monitor = monitor;
  await containers.update(container, {
    state: 'created',
    process: { pid: created.pid, pidStartTime: created.pidStartTime },
    user: { uid: created.uid, gid: created.gid, groups: created.groups, ...(home === undefined ? {} : { home }) },
    spec: specToJson(spec),
    ...(filter ? { seccomp: filter } : {}),
    timings: { create: watch.laps, ...(monitor.times ? { launch: launchLaps(monitor.times, watch) } : {}) },
  });
  watch.lap('write the record: created');
  crashPoint('create.created-recorded');
  undo.commit();
  followToExit(containers, container, monitor);
  ctx.log.info('container is created', { container: record.id, sandbox: record.sandboxId });
  return container;
}

/** The last of a name counts. */
function withSecretEnv(spec: Spec, secrets: readonly (readonly [string, Buffer])[]): Spec {
  const isOther = (line: Buffer) => !secrets.some(([name]) => line.toString('latin1').startsWith(`${name}=`));
  const lines = secrets.map(([name, value]) => Buffer.concat([Buffer.from(`${name}=`), value]));
  return { ...spec, process: { ...spec.process, env: [...spec.process.env.filter(isOther), ...lines] } };
}

/** The CRI: a pod in which a container shall be privileged says so itself. */
function refuseMorePrivilege(sandbox: Sandbox, config: ContainerConfig): void {
  if (!config.linux?.securityContext?.privileged || sandbox.config.linux?.securityContext?.privileged) return;
  throw new BerthError('failed_precondition', 'a privileged container in a pod that was not made for one', {
    hint: "set privileged in the pod's security context, too",
  });
}

/** The CRI's containers run on the node's platform alone; of a person's it is known what they asked for. */
export function imageOf({ images }: Containers, { record }: Sandbox, config: ContainerConfig): Image {
  const reference = config.image?.image ?? '';
  if (reference === '') throw new BerthError('invalid_argument', 'the container config names no image');
  const image = images.find(reference, images.node);
  if (!image) throw new BerthError('not_found', `image ${reference} is not on this node`, { hint: 'pull it first' });
  if (record.owner === 'cri' && !fits(image.config, images.node))
    throw notFor([describePlatform(image.config)], images.node, `image ${reference}`);
  return image;
}

function newRecord(
  containers: Containers,
  request: CreateContainerRequest,
  image: Image,
  volumes: ReadonlyMap<string, Image>,
): ContainerRecord {
  const { sandbox, config } = request;
  const id = newId(sandbox);
  return {
    version: 1,
    id,
    sandboxId: sandbox.record.id,
    owner: sandbox.record.owner,
    state: 'creating',
    config: Buffer.from(ContainerConfig.encode(config).finish()),
    ...(request.name === undefined ? {} : { name: request.name }),
    ...(request.autoRemove ? { autoRemove: true } : {}),
    ...(request.options ? { options: Buffer.from(RunOptions.encode(request.options).finish()) } : {}),
    imageId: image.id,
    imageRef: image.digests[0] ?? image.id,
    layerKeys: [...new Set([image, ...volumes.values()].flatMap(({ layers }) => layers.map(layer => layer.key)))],
    ...(volumes.size === 0 ? {} : { imageVolumes: imageVolumes(config.mounts, volumes) }),
    cgroupPath: containers.cgroups.containerPath(sandbox.record.cgroupParent, id),
    logPath: logPathOf(containers, sandbox, config, id),
    stopSignal: numberOfCriSignal(config.stopSignal) ?? signalNumber(image.config.stopSignal ?? '') ?? SIGTERM,
    createdAtNs: BigInt(Date.now()) * 1_000_000n,
    startedAtNs: 0n,
    finishedAtNs: 0n,
    exitCode: 0,
    reason: '',
    message: '',
  };
}

/** A person knows one id: the pod of the container has the same, and the host name is made of it. */
function newId(sandbox: Sandbox): ContainerId {
  return (sandbox.record.owner === 'cri' ? randomHexId() : sandbox.record.id) as ContainerId;
}

/** Where the kubelet wants it, or else beside the writable layer, with which it goes. */
function logPathOf(containers: Containers, sandbox: Sandbox, config: ContainerConfig, id: ContainerId): string {
  if (sandbox.record.owner !== 'cri') return join(containers.paths(id).dir, 'log');
  const { logDirectory } = sandbox.config;
  return logDirectory === '' || config.logPath === '' ? '' : join(logDirectory, config.logPath);
}

export function podFacts(
  containers: Containers,
  sandbox: Sandbox,
  { pidPath, hostPid }: PidPlace,
  record: ContainerRecord,
  options?: RunOptions,
): PodFacts {
  const paths = containers.sandboxes.paths(sandbox.record.id);
  const { ownNetwork, ownIpc, hostname, userns, runtimeHandler } = sandbox.record;
  return {
    hostname,
    networkPath: ownNetwork ? paths.network : undefined,
    ipcPath: ownIpc ? paths.ipc : undefined,
    utsPath: ownNetwork ? paths.uts : undefined,
    pidPath,
    hostPid,
    shmPath: ownIpc ? paths.shm : '/dev/shm',
    files: paths.files,
    makeMountSources: record.owner === 'cri',
    cgroupPath: record.cgroupPath,
    userns: userns && { ...userns, path: paths.user, hostNetwork: !ownNetwork },
    pidsLimit: containers.pidsLimit,
    rlimits: containers.rlimits.for(runtimeHandler, options?.ulimits ?? []),
    hasDeviceControl: containers.cgroups.hasDeviceControl,
  };
}

async function makeDirectories(
  containers: Containers,
  record: ContainerRecord,
  image: Image,
  spec: Spec,
): Promise<Rootfs> {
  const paths = containers.paths(record.id);
  const lowers = containers.images.lowerDirs(image);
  const volumes = spec.mounts.filter(mount => mount.copyUp).map(mount => mount.source);
  await makeFiles([
    ...mkdirs([paths.dir, paths.work, paths.stateDir, paths.stage], 0o700),
    ...(await likeRootOf(lowers, paths.upper, spec)),
    ...volumeDirectories(paths.dir, volumes, hostIds(spec, { uid: 0, gid: 0 })),
  ]);
  crashPoint('create.directories-made');
  return { lowers, upper: paths.upper, work: paths.work, stage: paths.stage, isVolatile: record.owner !== 'person' };
}

/** The root directory of an overlay is its uppermost one: it looks as the image's does. */
async function likeRootOf([top]: readonly string[], upper: string, spec: Spec): Promise<FileCall[]> {
  const made: FileCall = { call: 'mkdir', path: upper, mode: 0o755 };
  if (top === undefined) return [made];
  const { mode, uid, gid } = await stat(top);
  return [
    made,
    { call: 'chown', path: upper, ...hostIds(spec, { uid, gid }) },
    { call: 'chmod', path: upper, mode: mode & 0o7777 },
  ];
}

/**
 * Takes the container's directories away. One whose `dir` is gone is half removed, and a restart finishes that; what it has
 * written is out of reach then, and deleted later.
 */
export async function removeDirectories(containers: Containers, id: ContainerId): Promise<void> {
  const { dir, stateDir } = containers.paths(id);
  const gone = `${dir}${GONE}`;
  await rename(dir, gone).catch((error: unknown) => {
    if (!isAbsent(error)) throw error;
  });
  crashPoint('rm.renamed');
  await removeTree(stateDir);
  crashPoint('rm.deleted');
  deleteLater(containers, gone);
}

export async function makeCgroup({ cgroups }: Containers, { cgroupPath }: ContainerRecord, { resources }: LinuxSpec) {
  return cgroups.makeContainer(cgroupPath, resources, resources.devices);
}

async function makeLogDirectory(logPath: string): Promise<void> {
  if (logPath === '') return;
  try {
    await mkdir(dirname(logPath), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new BerthError(
      'invalid_argument',
      `make the log directory ${dirname(logPath)}: ${errnoOf(error) ?? 'failed'}`,
      {
        cause: error,
      },
    );
  }
}
