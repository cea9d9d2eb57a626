import { BerthError } from '../base/errors';
import type { CapabilitySets, DeviceSpec, MountSpec, ProcessSpec, RlimitSpec, SeccompSpec, Spec } from './spec';

/** Who a process is, once names have been looked up in the image. */
export interface ResolvedUser {
  uid: number;
  gid: number;
  groups: readonly number[];
  /** Of the passwd entry; empty when there is none. */
  home: string;
}

/**
 * The config.json of an OCI bundle (runtime-spec 1.2) as text: the spec in the
 * words of the specification, for a runtime that is not berth. `rootPath` is
 * where the root file system is mounted when the runtime comes to it. The pod's
 * namespaces have their settings already: no hostname and no sysctls here.
 * Throws `invalid_argument` for environment that is no UTF-8: JSON cannot hold it.
 */
export function bundleJson(
  spec: Spec,
  rootPath: string,
  user: ResolvedUser,
  annotations: Readonly<Record<string, string>>,
): string {
  const { linux } = spec;
  return jsonWithBigints({
    ociVersion: '1.0.2',
    process: ociProcess(spec.process, user),
    root: { path: rootPath, readonly: spec.root.readonly },
    mounts: spec.mounts.filter(isOfRuntime).map(ociMount),
    annotations,
    ...(spec.hooks ? { hooks: spec.hooks } : {}),
    linux: {
      namespaces: linux.namespaces,
      // /dev comes with the standard devices whatever is asked for.
      devices: linux.devices.filter(({ path }) => !STANDARD_DEVICES.has(path)).map(ociDevice),
      resources: linux.resources,
      maskedPaths: linux.maskedPaths,
      readonlyPaths: linux.readonlyPaths,
      cgroupsPath: linux.cgroupsPath,
      ...(linux.mountLabel === undefined ? {} : { mountLabel: linux.mountLabel }),
      ...(linux.seccomp ? { seccomp: ociSeccomp(linux.seccomp) } : {}),
      rootfsPropagation: spec.mounts.some(({ propagation }) => propagation === 'slave') ? 'rslave' : 'rprivate',
    },
  });
}

/** The `process` of a config.json as text, for one more process in a container. */
export function processJson(process: ProcessSpec, user: ResolvedUser): string {
  return jsonWithBigints(ociProcess(process, user));
}

function ociProcess(process: ProcessSpec, user: ResolvedUser): object {
  const env = process.env.map(entry => textOf(entry));
  const home = env.some(entry => entry.startsWith('HOME=')) ? [] : [`HOME=${user.home || '/'}`];
  return {
    terminal: false,
    user: { uid: user.uid, gid: user.gid, umask: process.umask, additionalGids: user.groups },
    args: process.args,
    env: [...env, ...home],
    cwd: process.cwd,
    capabilities: ociCapabilities(process.capabilities),
    ...(process.rlimits ? { rlimits: process.rlimits.map(ociRlimit) } : {}),
    noNewPrivileges: process.noNewPrivileges,
    ...(process.apparmorProfile === undefined ? {} : { apparmorProfile: process.apparmorProfile }),
    ...(process.selinuxLabel === undefined ? {} : { selinuxLabel: process.selinuxLabel }),
    oomScoreAdj: process.oomScoreAdj,
  };
}

/** RLIM_INFINITY is the kernel's word for none. */
function ociRlimit({ type, soft, hard }: RlimitSpec): object {
  const value = (limit: number) => (limit === -1 ? 2n ** 64n - 1n : limit);
  return { type, soft: value(soft), hard: value(hard) };
}

function textOf(entry: Buffer): string {
  const text = entry.toString('utf8');
  if (Buffer.from(text).equals(entry)) return text;
  const key = text.split('=', 1)[0] ?? '';
  throw new BerthError('invalid_argument', `environment variable ${JSON.stringify(key)} is no UTF-8`, {
    hint: 'runtimes that are not berth’s own get it as JSON, which cannot hold it',
  });
}

function ociCapabilities(sets: CapabilitySets): object {
  const named = (names: readonly string[]) => names.map(name => `CAP_${name}`);
  return {
    bounding: named(sets.bounding),
    effective: named(sets.effective),
    permitted: named(sets.permitted),
    inheritable: named(sets.inheritable),
    ambient: named(sets.ambient),
  };
}

/** Files of images are in the root already. The cgroup tree is one mount to a runtime, whatever the host's hierarchies are. */
function isOfRuntime({ image, destination }: MountSpec): boolean {
  return !image && !destination.startsWith('/sys/fs/cgroup/');
}

function ociMount(mount: MountSpec): object {
  if (mount.destination === '/sys/fs/cgroup' && mount.type !== 'bind') {
    const options = [mount.readonly ? 'ro' : 'rw', 'nosuid', 'nodev', 'noexec'];
    return { destination: mount.destination, type: 'cgroup', source: 'cgroup', options };
  }
  const isBind = mount.type === 'bind';
  // Runtimes make nodes in its tmpfs, where berth binds the host's.
  const flags = mount.destination === '/dev' ? { ...mount, nodev: false } : mount;
  const r = mount.recursive ? 'r' : '';
  return {
    destination: mount.destination,
    type: mount.type,
    source: isBind ? mount.source : mount.type,
    options: [
      ...(isBind ? [`${r}bind`, `${r}${mount.propagation ?? 'private'}`] : []),
      mount.readonly ? (mount.recursiveOptions ? 'rro' : 'ro') : 'rw',
      ...(['nosuid', 'nodev', 'noexec', 'strictatime'] as const).filter(flag => flags[flag]),
      ...mount.options,
    ],
  };
}

/** Flags that only are our default are left to the runtime, which has one of its own: runc before 1.2 refuses all flags. */
function ociSeccomp({ flags, ...filter }: SeccompSpec): object {
  const areAsked = flags.some(flag => flag !== 'SECCOMP_FILTER_FLAG_SPEC_ALLOW');
  return { ...filter, ...(areAsked ? { flags } : {}) };
}

const STANDARD_DEVICES = new Set(['null', 'zero', 'full', 'random', 'urandom', 'tty'].map(name => `/dev/${name}`));

function ociDevice({ path, type, major, minor, mode, uid, gid }: DeviceSpec): object {
  return { path, type, major, minor, fileMode: mode, uid, gid };
}

/** 64-bit numbers with all their digits, which JSON.stringify refuses to write. No string of a spec holds a NUL. */
function jsonWithBigints(value: unknown): string {
  const marked = JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? `\0${inner}` : inner), 2);
  return marked.replace(/"\\u0000(-?\d+)"/g, '$1');
}
