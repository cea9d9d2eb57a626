import { hostname as hostHostname } from 'node:os';
import { join } from 'node:path';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { randomHexId, type SandboxId } from '../base/ids';
import { Rollback, together } from '../base/rollback';
import { PodSandboxConfig, type PodSandboxMetadata } from '../cri';
import { Stopwatch } from '../base/stopwatch';
import { podFiles } from '../network/pod-files';
import type { PodAttachment } from '../network/pod-network';
import { podNamespaces } from '../oci/namespaces';
import { sandboxPlan } from '../oci/sandbox-plan';
import { profileChoice } from '../oci/security-profile';
import { podFileLabel } from '../oci/selinux';
import { podUserNamespace } from '../oci/user-namespace';
import { makeFiles, mkdirs, removeTree, type FileCall } from '../process/files';
import { signalProcess } from '../process/identity';
import { pinNamespaces, unmountAll } from '../process/pin';
import { makeCgroup, podLimits, removeCgroup } from './pod-cgroup';
import { selinuxHost } from './security-modules';
import { newLevel, selinuxPod } from './selinux-pod';
import { watchInit } from './watch';
import type { Owner, Sandbox, Sandboxes, SandboxPaths, SandboxRecord } from './sandboxes';

export interface RunSandboxRequest {
  config: PodSandboxConfig;
  runtimeHandler: string;
  owner: Owner;
  /** Bytes of /dev/shm; absent: 64 MiB. */
  shmBytes?: bigint;
  /** Lines of /etc/hosts beside the pod's own. */
  extraHosts?: readonly { name: string; address: string }[];
  /** A network of its own with the loopback device alone, whatever the node has for others. */
  isOffline?: boolean;
}

const SHM_BYTES = 64n * 1024n * 1024n;

/** That ping(8) can be allowed to. */
const MOST_GROUPS = 2 ** 31;

/**
 * RunPodSandbox: a ready sandbox on return. Asking again with the same metadata
 * joins the call under way, or returns the ready sandbox that it made.
 */
export async function runSandbox(sandboxes: Sandboxes, ctx: Context, request: RunSandboxRequest): Promise<Sandbox> {
  const metadata = checked(sandboxes, request);
  const key = `${request.owner}/${metadata.namespace}/${metadata.name}/${metadata.uid}/${metadata.attempt}`;
  const isSame = (sandbox: Sandbox) => sandbox.record.state === 'ready' && keyOf(sandbox) === key;
  return ctx.race(sandboxes.runs.run(key, async () => sandboxes.list().find(isSame) ?? make(sandboxes, ctx, request)));
}

/** Nobody's call ends it: who asked first may go away while others wait. */
async function make(
  sandboxes: Sandboxes,
  { log, steps }: Pick<Context, 'log' | 'steps'>,
  request: RunSandboxRequest,
): Promise<Sandbox> {
  const { config, owner } = request;
  const watch = new Stopwatch('RunPodSandbox', steps);
  const fresh = newRecord(sandboxes, request);
  const selinux = await selinuxHost(log);
  podFileLabel(isPrivileged(config), selinuxPod(fresh, config), selinux); // it throws for what cannot be had
  const hasNetwork = fresh.ownNetwork && !fresh.isOffline;
  const planned = hasNetwork ? await sandboxes.network.plan(fresh.id, config, networkOwner(owner)) : undefined;
  const limits = podLimits(config, sandboxes.podPidsLimit);
  // The record is what makes its addresses and its level the pod's: from here to there nothing waits.
  const record = {
    ...fresh,
    ...(planned ? { network: sandboxes.network.lease(planned) } : {}),
    ...newLevel(fresh.id, config, sandboxes.list(), selinux),
  };
  const { id } = record;
  const paths = sandboxes.paths(id);
  await using undo = new Rollback(log, leftovers => sandboxes.add({ ...record, state: 'notready', leftovers }, config));

  const sandbox = await undo.step(
    'record',
    () => sandboxes.add(record, config),
    () => sandboxes.forget(id),
  );
  watch.lap('write the record');
  crashPoint('run.recorded');
  await undo.step(
    'directories',
    () => makeFiles(mkdirs([paths.dir, paths.namespaces], 0o700)),
    () => removeTree(paths.dir),
    { alsoIfActFailed: true },
  );
  watch.lap('make directories');
  crashPoint('run.directories-made');
  const [{ pinned, attachment }] = await together([
    makeNetwork(undo, sandboxes, watch, record, config),
    undo.step(
      'cgroup',
      () =>
        watch
          .time('make the cgroup', () => makeCgroup(sandboxes, record, limits))
          .then(() => crashPoint('run.cgroup-made')),
      () => removeCgroup(sandboxes, record),
      { alsoIfActFailed: true },
    ),
  ]);
  await writePodFiles(record, config, paths, attachment?.ips ?? []);
  watch.lap('write hostname, hosts and resolv.conf');
  crashPoint('run.files-written');
  const { pause } = pinned;
  await sandboxes.update(sandbox, {
    state: 'ready',
    ...(pause ? { pause } : {}),
    ...(attachment ? { network: attachment } : {}),
    timings: watch.laps,
  });
  watch.lap('write the record: ready');
  crashPoint('run.ready-recorded');
  pinned.keep();
  crashPoint('run.kept');
  watchInit(sandboxes, sandbox);
  undo.commit();
  log.info('pod sandbox is ready', { sandbox: id, pod: `${config.metadata?.namespace}/${config.metadata?.name}` });
  return sandbox;
}

/** The request's metadata; refuses what cannot be run here, before anything is done. */
function checked({ handlers }: Sandboxes, { config, runtimeHandler }: RunSandboxRequest): PodSandboxMetadata {
  const { metadata } = config;
  if (!metadata) throw new BerthError('invalid_argument', 'the pod sandbox config has no metadata');
  if (metadata.name === '' || metadata.uid === '' || metadata.namespace === '') {
    throw new BerthError('invalid_argument', 'the pod sandbox metadata needs name, uid and namespace');
  }
  const handler = handlers.find(({ name }) => name === runtimeHandler);
  if (runtimeHandler !== '' && !handler) {
    const others = handlers.length === 0 ? '' : `, and ${handlers.map(({ name }) => JSON.stringify(name)).join(', ')}`;
    throw new BerthError('not_found', `no runtime handler ${JSON.stringify(runtimeHandler)} is configured`, {
      hint: `there is berth's own, with the empty name${others}`,
    });
  }
  if (config.windows) throw new BerthError('unimplemented', 'windows settings: this runtime runs Linux pods only');
  const options = config.linux?.securityContext?.namespaceOptions;
  if (handler && !handler.isOwn && podUserNamespace(options)) {
    throw new BerthError('unimplemented', `runtime handler ${runtimeHandler}: userns_options: user namespaces`);
  }
  // It has no process of its own to be confined; its containers bring their own.
  profileChoice(
    config.linux?.securityContext?.seccomp,
    config.linux?.securityContext?.seccompProfilePath ?? '',
    'seccomp',
  );
  profileChoice(config.linux?.securityContext?.apparmor, '', 'apparmor');
  return metadata;
}

/** A build's steps have the network that a person's containers have. */
export function networkOwner(owner: Owner): 'cri' | 'person' {
  return owner === 'cri' ? 'cri' : 'person';
}

function newRecord(
  { cgroups }: Sandboxes,
  { config, runtimeHandler, owner, isOffline, shmBytes, extraHosts }: RunSandboxRequest,
): SandboxRecord {
  const id = randomHexId() as SandboxId;
  const options = config.linux?.securityContext?.namespaceOptions;
  const { network, ipc } = podNamespaces(options);
  const userns = podUserNamespace(options);
  const ownNetwork = network === 'pod';
  const cgroupParent = config.linux?.cgroupParent ?? '';
  return {
    version: 1,
    id,
    owner,
    state: 'creating',
    config: Buffer.from(PodSandboxConfig.encode(config).finish()),
    runtimeHandler,
    createdAtNs: BigInt(Date.now()) * 1_000_000n,
    hostname: ownNetwork ? config.hostname || id.slice(0, 12) : hostHostname(),
    ownNetwork,
    ...(isOffline ? { isOffline } : {}),
    ownIpc: ipc === 'pod',
    ...(userns ? { userns } : {}),
    ...(shmBytes === undefined ? {} : { shmBytes }),
    ...(extraHosts && extraHosts.length > 0 ? { extraHosts } : {}),
    cgroupDriver: cgroups.driver,
    cgroupParent: cgroupParent === '' ? cgroups.ownParentPath(id) : cgroups.parentPath(cgroupParent),
    ownsCgroupParent: cgroupParent === '',
  };
}

/** The pod's namespaces, and in its network namespace what CNI plugins make. */
export async function makeNetwork(
  undo: Rollback,
  sandboxes: Sandboxes,
  watch: Stopwatch,
  record: SandboxRecord,
  config: PodSandboxConfig,
) {
  const { network: planned } = record;
  const pinned = await watch.time('pin namespaces', () => makeNamespaces(undo, sandboxes, record, config));
  const attachment = planned && (await watch.time('CNI ADD', () => attach(undo, sandboxes, record, planned)));
  crashPoint('run.network-attached');
  return { pinned, attachment };
}

async function attach(undo: Rollback, sandboxes: Sandboxes, { id }: SandboxRecord, planned: PodAttachment) {
  const { network, log } = sandboxes;
  const paths = sandboxes.paths(id);
  let attachment = planned;
  await undo.step(
    'CNI ADD',
    async () => (attachment = await network.attach(Context.of(log), id, paths.network, planned)),
    () => network.detach(log, id, paths.network, attachment),
    { alsoIfActFailed: true },
  );
  return attachment;
}

async function makeNamespaces(undo: Rollback, sandboxes: Sandboxes, record: SandboxRecord, config: PodSandboxConfig) {
  const paths = sandboxes.paths(record.id);
  const pinned = await undo.step(
    'namespaces',
    () => pin(sandboxes, record, config),
    () => unpin(paths),
    { alsoIfActFailed: true },
  );
  crashPoint('run.pinned');
  const { pause } = pinned;
  await undo.step(
    'init of the pod',
    () => undefined,
    () => {
      pinned.release();
      if (pause) signalProcess(pause.pid, pause.pidStartTime, 9);
    },
  );
  return pinned;
}

async function pin(sandboxes: Sandboxes, record: SandboxRecord, config: PodSandboxConfig) {
  const paths = sandboxes.paths(record.id);
  const selinux = await selinuxHost(sandboxes.log);
  const { pid } = podNamespaces(config.linux?.securityContext?.namespaceOptions);
  return pinNamespaces(
    sandboxPlan({
      hostname: record.hostname,
      networkPath: record.ownNetwork ? paths.network : undefined,
      ipcPath: record.ownIpc ? paths.ipc : undefined,
      utsPath: record.ownNetwork ? paths.uts : undefined,
      pidPath: pid === 'shared' ? paths.pid : undefined,
      shmPath: paths.shm,
      shmBytes: record.shmBytes ?? SHM_BYTES,
      fileLabel: podFileLabel(isPrivileged(config), selinuxPod(record, config), selinux),
      sysctls: { ...usualSysctls(record), ...config.linux?.sysctls },
      userns: record.userns && { ...record.userns, path: paths.user },
    }),
    record.id,
  );
}

/**
 * What containerd and Docker set, too, so that images rely on it: in a network of its own, a port below 1024 or a ping takes
 * nothing from anybody, and asks for no privilege.
 */
function usualSysctls({ ownNetwork, userns }: SandboxRecord): Record<string, string> {
  if (!ownNetwork) return {};
  const groups = Math.min(userns?.gid.count ?? MOST_GROUPS, MOST_GROUPS);
  return { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': `0 ${groups - 1}` };
}

function isPrivileged({ linux }: PodSandboxConfig): boolean {
  return linux?.securityContext?.privileged ?? false;
}

/** In a user namespace what the host's root owns belongs to nobody: the pod's own files are its root's. */
export async function writePodFiles(
  { userns, ownIpc, hostname, extraHosts }: SandboxRecord,
  config: PodSandboxConfig,
  paths: SandboxPaths,
  ips: readonly string[],
): Promise<void> {
  const files = Object.entries(await podFiles(config, hostname, ips, extraHosts));
  const made = files.map(([name, data]): FileCall => ({
    call: 'create',
    path: join(paths.dir, name),
    data,
    mode: 0o644,
  }));
  const theirs = userns ? [...made.map(({ path }) => path), ...(ownIpc ? [paths.shm] : [])] : [];
  const [uid, gid] = [userns?.uid.first ?? 0, userns?.gid.first ?? 0];
  await makeFiles([...made, ...theirs.map((path): FileCall => ({ call: 'chown', path, uid, gid }))]);
}

/** Takes the pod's mounts off the host; those that are not there are fine. */
export async function unpin(paths: SandboxPaths): Promise<void> {
  await unmountAll([paths.user, paths.network, paths.ipc, paths.uts, paths.pid, paths.shm]);
}

function keyOf({ record, config }: Sandbox): string {
  const { namespace, name, uid, attempt } = config.metadata ?? { namespace: '', name: '', uid: '', attempt: 0 };
  return `${record.owner}/${namespace}/${name}/${uid}/${attempt}`;
}
