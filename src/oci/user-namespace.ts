import { posix } from 'node:path';
import { BerthError } from '../base/errors';
import { NamespaceMode, type IDMapping, type Mount, type NamespaceOption } from '../cri';
import type { InnerOp, LaunchPlan } from '../native/plan-ops';
import type { HookState, HookView } from './hooks';
import { CLONE, MOUNT_FLAGS, MS } from './linux';
import { podNamespaces } from './namespaces';
import type { IdMappings, IdRange, MountSpec, Spec } from './spec';

/** The kernel's limit: the id before it, -1, is none. */
const ID_LIMIT = 2 ** 32 - 1;

/**
 * The user namespace that a pod asks for; undefined for the host's. Throws
 * `invalid_argument` for anything but one mapping of each kind, from 0 on, and
 * for what cannot be shared with the host beside it.
 */
export function podUserNamespace(options: NamespaceOption | undefined): IdMappings | undefined {
  const asked = options?.usernsOptions;
  if (!asked || asked.mode === NamespaceMode.NODE) {
    if (asked && asked.uids.length + asked.gids.length > 0) {
      throw invalid('userns_options: mode NODE is the user namespace of the node, which has no mappings of its own');
    }
    return undefined;
  }
  if (asked.mode !== NamespaceMode.POD) {
    const name = { [NamespaceMode.CONTAINER]: 'CONTAINER', [NamespaceMode.TARGET]: 'TARGET' }[Number(asked.mode)];
    throw invalid(`userns_options: ${name ?? `mode ${asked.mode}`} is not possible`, 'POD and NODE are');
  }
  const { pid, ipc } = podNamespaces(options);
  for (const [type, mode] of Object.entries({ pid, ipc })) {
    if (mode !== 'host') continue;
    throw invalid(
      `userns_options: a pod with a user namespace cannot have the node's ${type} namespace`,
      `set namespace_options.${type} to POD`,
    );
  }
  return { uid: rangeOf(asked.uids, 'userns_options.uids'), gid: rangeOf(asked.gids, 'userns_options.gids') };
}

/** Refuses a container that asks for another user namespace than its pod has; one that asks for none gets the pod's. */
export function assertPodsUserNamespace(options: NamespaceOption | undefined, pod: IdMappings | undefined): void {
  if (options?.usernsOptions) {
    const asked = podUserNamespace({
      ...options,
      network: NamespaceMode.POD,
      ipc: NamespaceMode.POD,
      pid: NamespaceMode.POD,
    });
    if (!isSame(asked, pod)) {
      throw invalid(
        "userns_options: the container asks for another user namespace than its pod's",
        'give both the same options',
      );
    }
  }
  if (pod && options?.pid === NamespaceMode.NODE) {
    throw invalid("namespace_options.pid: a container in a user namespace cannot have the node's PID namespace");
  }
}

/** What a mount says of its owners, in a spec; nothing when it says nothing. */
export function mountMappings({ uidMappings, gidMappings, containerPath }: Mount): Pick<MountSpec, 'mappings'> {
  if (uidMappings.length + gidMappings.length === 0) return {};
  return {
    mappings: {
      uid: rangeOf(uidMappings, `mount at ${containerPath}: uidMappings`),
      gid: rangeOf(gidMappings, `mount at ${containerPath}: gidMappings`),
    },
  };
}

function rangeOf(mappings: readonly IDMapping[], what: string): IdRange {
  const [mapping, ...more] = mappings;
  if (!mapping || more.length > 0) {
    throw invalid(`${what}: there must be one mapping, and there are ${mappings.length}`);
  }
  const { containerId, hostId, length } = mapping;
  if (length === 0) throw invalid(`${what}: the mapping has a length of 0`);
  if (containerId !== 0) throw invalid(`${what}: id 0 of the container is not mapped`, 'let container_id be 0');
  if (hostId + length > ID_LIMIT) {
    throw invalid(`${what}: host ids ${hostId} to ${hostId + length - 1} go past the last one, ${ID_LIMIT - 1}`);
  }
  return { first: hostId, count: length };
}

function isSame(a: IdMappings | undefined, b: IdMappings | undefined): boolean {
  const text = (mappings: IdMappings | undefined) =>
    mappings && [mappings.uid.first, mappings.uid.count, mappings.gid.first, mappings.gid.count].join();
  return text(a) === text(b);
}

function invalid(message: string, hint?: string): BerthError {
  return new BerthError('invalid_argument', message, hint === undefined ? {} : { hint });
}

/** Whom a file on the host must belong to, so that in the container it belongs to these; what is not mapped becomes root's. */
export function hostIds({ linux: { idMappings } }: Spec, { uid, gid }: { uid: number; gid: number }) {
  return idMappings ? { uid: hostId(idMappings.uid, uid), gid: hostId(idMappings.gid, gid) } : { uid, gid };
}

function hostId({ first, count }: IdRange, id: number): number {
  return id < count ? first + id : first;
}

/** A pod's user namespace, as its containers join it. */
export interface PodUserNamespace extends IdMappings {
  /** Where it is pinned on the host. */
  path: string;
  /** The pod shares the host's network namespace. */
  hostNetwork: boolean;
}

/** The spec of a container in its pod's user namespace, or in the host's. Throws `invalid_argument`. */
export function withUserNamespace(spec: Spec, userns: PodUserNamespace | undefined): Spec {
  const mapped = spec.mounts.find(mount => mount.mappings && !isSame(mount.mappings, userns));
  if (mapped) {
    throw invalid(
      `mount at ${mapped.destination}: its uidMappings and gidMappings are not those of the pod's user namespace`,
      userns ? "give it the pod's own mappings" : 'the pod has none: give no mappings',
    );
  }
  if (!userns) return spec;
  const { path, uid, gid } = userns;
  return {
    ...spec,
    // A node that an image brought would belong to the container's root, and open the host's device.
    root: { ...spec.root, nodev: true },
    mounts: spec.mounts.map(mount => inUserNamespace(mount, userns)),
    linux: {
      ...spec.linux,
      // The host's cgroup namespace, as a privileged one has it, would let it mount no cgroup.
      namespaces: [
        ...spec.linux.namespaces.filter(({ type }) => type !== 'cgroup'),
        { type: 'cgroup' },
        { type: 'user', path },
      ],
      idMappings: { uid, gid },
    },
  };
}

function inUserNamespace(mount: MountSpec, { hostNetwork }: PodUserNamespace): MountSpec {
  if (mount.propagation === 'shared') {
    throw invalid(
      `mount at ${mount.destination}: a container in a user namespace cannot mount anything on the host`,
      'use HOST_TO_CONTAINER instead of BIDIRECTIONAL',
    );
  }
  // sysfs shows the network namespace, so only who owns that one may mount it (sysfs_init_fs_context()).
  if (mount.type === 'sysfs' && hostNetwork) return { ...mount, type: 'bind', source: '/sys' };
  // Also /dev, where nobody can make a node: they are bound one by one.
  return mount.type === 'bind' || mount.type === 'tmpfs' ? { ...mount, nodev: true } : mount;
}

/**
 * The plan for a container in a user namespace, made from the one for a
 * container without: sources and layers are prepared by the host's root, the
 * rest is done inside, by the container's. See native/helper/steps_userns.c.
 */
export function enterUserNamespace(
  plan: LaunchPlan,
  spec: Spec,
  hooks?: { state: HookState; view?: HookView },
): LaunchPlan {
  const mappings = spec.linux.idMappings;
  const userns = spec.linux.namespaces.find(({ type }) => type === 'user')?.path;
  if (!mappings || userns === undefined) return plan;
  const at = plan.inner.findIndex(({ op }) => op === 'ROOT_OVERLAY');
  const root = plan.inner[at];
  if (root?.op !== 'ROOT_OVERLAY') throw new BerthError('internal', 'a launch plan without ROOT_OVERLAY');
  const before = plan.inner.slice(0, at).filter(({ op }) => op !== 'UNSHARE' && op !== 'HOLD_IMAGE');
  const images = plan.inner.filter(op => op.op === 'HOLD_IMAGE');
  const after = plan.inner.slice(at + 1).filter(({ op }) => op !== 'RELABEL');
  const base = commonDirectory([root, ...images].flatMap(({ lowers }) => lowers.map(String)));
  return {
    outer: plan.outer.map(op => (op.op === 'CLONE_FLAGS' ? { ...op, flags: BigInt(CLONE.newns) } : op)),
    inner: [
      ...before,
      ...plan.inner.filter(({ op }) => op === 'RELABEL'),
      { op: 'STDIO_OWNER', uid: mappings.uid.first, gid: mappings.gid.first },
      { op: 'STAGE', dir: root.stage, userns },
      stageOverlay(root, base),
      ...images.map(image => ({ ...image, lowers: mappedLowers(image.lowers, base) })),
      ...heldAttributes([...before, ...images], after, spec.mounts),
      ...(hooks?.view
        ? [{ op: 'HOOK_VIEW', ...hooks.view, stage: root.stage, bundle: hooks.state.bundle } as const]
        : []),
      { op: 'ENTER_USERNS', namespaces: newNamespaces(spec), uids: mappings.uid.count, gids: mappings.gid.count },
      { op: 'ROOT_STAGED' },
      ...after.map(op => (op.op === 'MOUNT_BIND' ? placeHeld(op) : op)),
    ],
  };
}

/** Those that are to belong to the user namespace; the mounts' one always does. */
function newNamespaces({ linux }: Spec): number {
  const isNew = (wanted: string) => linux.namespaces.some(({ type, path }) => type === wanted && path === undefined);
  return CLONE.newns | (isNew('pid') ? CLONE.newpid : 0) | (isNew('cgroup') ? CLONE.newcgroup : 0);
}

type Bind = Extract<InnerOp, { op: 'MOUNT_BIND' }>;

/** The sources of all binds become as they will be: with their flags, which the way into the user namespace locks. */
function heldAttributes(
  before: readonly InnerOp[],
  after: readonly InnerOp[],
  mounts: readonly MountSpec[],
): InnerOp[] {
  // An image's files are idmapped already, by their layers.
  const isMapped = new Set(mounts.filter(mount => mount.mappings && !mount.image).map(mount => mount.destination));
  const held: (string | undefined)[] = before
    .filter(op => op.op === 'HOLD_SOURCE' || op.op === 'HOLD_DEVICE' || op.op === 'HOLD_IMAGE')
    .map(({ target }) => String(target));
  return after
    .filter(op => op.op === 'MOUNT_BIND')
    .map(({ target, set, clear, propagation, flags }) => {
      // Two may have the same target: the first bind takes what was held first.
      const number = held.indexOf(String(target));
      if (number < 0)
        throw new BerthError('internal', `a launch plan that does not hold the source of ${String(target)}`);
      held[number] = undefined;
      const idmap = isMapped.has(String(target)) ? 1 : 0;
      return { op: 'HELD_ATTRS', number, set, clear, propagation, flags, idmap };
    });
}

function placeHeld(bind: Bind): Bind {
  const flags = (bind.flags & MOUNT_FLAGS.targetNoLinks) | MOUNT_FLAGS.sourceHeld;
  return { ...bind, set: 0n, clear: 0n, propagation: 0n, flags };
}

function stageOverlay({ upper, work, flags, lowers }: Extract<InnerOp, { op: 'ROOT_OVERLAY' }>, base: string): InnerOp {
  return { op: 'STAGE_OVERLAY', base, upper, work, flags, lowers: mappedLowers(lowers, base) };
}

/** All layers are mapped by one clone of the directory that they lie in, which the helper mounts at `lower`. */
function mappedLowers(lowers: readonly (string | Buffer)[], base: string): string[] {
  return lowers.map(lower => posix.join('lower', posix.relative(base, String(lower))));
}

function commonDirectory(paths: readonly string[]): string {
  const [first = [], ...others] = paths.map(path => posix.dirname(path).split('/'));
  const ends = others.map(parts => first.findIndex((part, i) => parts[i] !== part));
  const length = Math.min(first.length, ...ends.filter(end => end >= 0));
  return first.slice(0, length).join('/') || '/';
}

/** Any ids will do to find out whether a file system can be idmapped. */
const PROBE_IDS = { uid: 65_536, uids: 1, gid: 65_536, gids: 1 } as const;

/** What a container's root takes in a user namespace, mounted where nobody sees it: an overlay over idmapped layers. */
export function probePlan(layersDir: string, dir: string): LaunchPlan {
  return {
    outer: [
      { op: 'UNSHARE', flags: CLONE.newns },
      { op: 'PROPAGATION', flags: MS.rec | MS.private, path: '/' },
      { op: 'USERNS', path: '', namespaces: 0n, ...PROBE_IDS },
      { op: 'STAGE', dir: posix.join(dir, 'stage'), userns: '' },
      {
        op: 'STAGE_OVERLAY',
        base: layersDir,
        upper: posix.join(dir, 'upper'),
        work: posix.join(dir, 'work'),
        flags: 0,
        lowers: ['lower/empty'],
      },
    ],
    inner: [],
  };
}
