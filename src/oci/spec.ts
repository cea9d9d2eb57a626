import { randomUUID } from 'node:crypto';

/**
 * The part of the OCI runtime specification (1.2) that berth uses, in its own
 * words. It is what `berth inspect` shows and what a launch plan is made from.
 * Two differences: environment and arguments are bytes where they need not be
 * UTF-8, and the user is a request that the helper resolves inside the image.
 */
export interface Spec {
  process: ProcessSpec;
  root: { readonly: boolean; nodev: boolean };
  hostname: string;
  mounts: MountSpec[];
  linux: LinuxSpec;
  /** Programs of the host's that devices bring (CDI). */
  hooks?: HooksSpec;
}

/** By the moment at which they run, in the OCI runtime spec's words. */
export type HooksSpec = Partial<Record<HookName, HookSpec[]>>;

export const HOOK_NAMES = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;

export type HookName = (typeof HOOK_NAMES)[number];

export interface HookSpec {
  path: string;
  /** With the program's own name first; none is the path alone. */
  args: string[];
  /** `KEY=value`; all that the program has. */
  env: string[];
  /** Seconds. */
  timeout?: number;
}

export interface ProcessSpec {
  args: string[];
  /** `KEY=value`, each as bytes. */
  env: Buffer[];
  cwd: string;
  /** Stdio is a terminal of the container's own. */
  terminal?: boolean;
  /** In characters, at the start. */
  consoleSize?: { height: number; width: number };
  user: UserRequest;
  capabilities: CapabilitySets;
  noNewPrivileges: boolean;
  /** Name of a profile loaded in the kernel; absent: unconfined. */
  apparmorProfile?: string;
  /** user:role:type:level; absent: what the policy makes of the runtime's own. */
  selinuxLabel?: string;
  oomScoreAdj: number;
  umask: number;
  rlimits?: RlimitSpec[];
  /** Names of the image's /etc/group, for groups beside those of the user's request. */
  groupNames?: string[];
  /** Its parent is a first process of berth's, which hands signals on and reaps. */
  init?: boolean;
}

export interface RlimitSpec {
  type: string;
  /** The kernel's number for it. */
  resource: number;
  /** -1: none. */
  soft: number;
  hard: number;
}

/** Names are looked up in the image's /etc/passwd and /etc/group; digits never are. */
export interface UserRequest {
  /** A name or a decimal number below 2^32 - 1. */
  user: string;
  /** A name or number; empty: the passwd entry's group, or 0 without one. */
  group: string;
  /** Wins over `group`. */
  gid?: number;
  supplementalGroups: number[];
  /** Adds the groups that /etc/group lists the user in. */
  mergeImageGroups: boolean;
}

/** Capability names without `CAP_`. */
export interface CapabilitySets {
  bounding: string[];
  effective: string[];
  permitted: string[];
  inheritable: string[];
  ambient: string[];
}

export interface MountSpec {
  destination: string;
  /** `bind`, or a file system type. */
  type: string;
  /** Absolute host path of a bind. */
  source: string;
  /** File system options (`mode=755`) of a mount that is no bind. */
  options: string[];
  readonly: boolean;
  nosuid: boolean;
  nodev: boolean;
  noexec: boolean;
  strictatime?: boolean;
  /** Binds: with everything mounted below. */
  recursive?: boolean;
  /** Binds: `readonly`, `nosuid`, `nodev` and `noexec` also hold for what is mounted below. */
  recursiveOptions?: boolean;
  /** Binds: what is mounted on the host later is seen (`slave`), and what the container mounts is seen on the host (`shared`). */
  propagation?: 'private' | 'slave' | 'shared';
  /** Binds: not `source`, which is a name then, but the files of an image; `subPath` is what of them, empty for all. */
  image?: { lowers: string[]; subPath: string };
  /** Binds: `source` is an empty directory, which takes first what the image has at `destination`. */
  copyUp?: boolean;
  /** Binds: the SELinux label that everything in it gets. */
  relabel?: string;
  /** No binds: the SELinux label that everything in the file system has. */
  context?: string;
  /** Binds: a source that is missing is made, a directory with mode 0755. */
  makeSource?: boolean;
  /** The destination must be reached through real directories: one of the standard mounts. */
  strictDestination?: boolean;
  /** Binds: owners on the disk are shown as the user namespace with these mappings has them. */
  mappings?: IdMappings;
}

/** Ids 0, 1, 2 … of a container, so many, are these of the host. */
export interface IdRange {
  first: number;
  count: number;
}

export interface IdMappings {
  uid: IdRange;
  gid: IdRange;
}

export interface NamespaceSpec {
  type: 'network' | 'pid' | 'ipc' | 'uts' | 'mount' | 'cgroup' | 'user';
  /** To join; absent: a new one. */
  path?: string;
}

/** A device node of the container's. */
export interface DeviceSpec {
  path: string;
  type: 'b' | 'c';
  major: number;
  minor: number;
  /** Permission bits. */
  mode: number;
  uid: number;
  gid: number;
}

/** Limits of cgroups; what is absent is not set. */
export interface ResourcesSpec {
  cpu: { shares?: bigint; quota?: bigint; period?: bigint; cpus?: string; mems?: string };
  /** Bytes; -1 is no limit. `swap` is memory and swap together. */
  memory: { limit?: bigint; swap?: bigint };
  pids?: { limit: bigint };
  hugepageLimits: { pageSize: string; limit: bigint }[];
  /** Files of cgroup v2 and what to write there. */
  unified: Readonly<Record<string, string>>;
}

/**
 * What a container may do with device nodes, in the OCI specification's words. A list of them is read in order and the
 * last one that fits decides.
 */
export interface DeviceRule {
  allow: boolean;
  /** `a`: every device there is, with no numbers. */
  type: 'a' | 'b' | 'c';
  /** Absent: any. */
  major?: number;
  minor?: number;
  /** Out of `r`, `w` and `m` (mknod), each at most once, at least one. */
  access: string;
}

export interface LinuxSpec {
  namespaces: NamespaceSpec[];
  /** Of the user namespace, when it is not the host's. */
  idMappings?: IdMappings;
  devices: DeviceSpec[];
  resources: ResourcesSpec & { devices: DeviceRule[] };
  /** In the namespaces of the pod. */
  maskedPaths: string[];
  readonlyPaths: string[];
  cgroupsPath: string;
  /** Absent: unconfined. */
  seccomp?: SeccompSpec;
  /** SELinux label of the root's files. */
  mountLabel?: string;
}

/** Names and values are the specification's: `SCMP_ACT_ALLOW`, `SCMP_CMP_EQ`, `SCMP_ARCH_X86_64`. */
export interface SeccompSpec {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures: string[];
  flags: string[];
  syscalls: SeccompSyscall[];
}

export interface SeccompSyscall {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: SeccompArgument[];
}

/** `value` is the mask and `valueTwo` what is left of it when `op` is SCMP_CMP_MASKED_EQ. */
export interface SeccompArgument {
  index: number;
  value: bigint;
  valueTwo?: bigint | undefined;
  op: string;
}

/** The same spec with other limits; the text is {@link specToJson}'s. */
export function jsonWithResources(json: string, resources: ResourcesSpec, oomScoreAdj: number): string {
  const mark = randomUUID();
  // A line that ends in digits ends in a number; the long ones are marked again, and stay what they are.
  const marked = json.replace(/(-?\d{16,})(,?)$/gm, `"${mark}$1"$2`);
  const spec = JSON.parse(marked) as Omit<Spec, 'process'> & { process: object };
  return stringify(
    {
      ...spec,
      process: { ...spec.process, oomScoreAdj },
      linux: { ...spec.linux, resources: { ...spec.linux.resources, ...resources } },
    },
    mark,
  );
}

/** The spec as JSON text: bytes as text, the shape of a bundle's config.json. */
export function specToJson(spec: Spec): string {
  return stringify(
    {
      ociVersion: '1.2.0',
      ...spec,
      process: { ...spec.process, env: spec.process.env.map(entry => entry.toString('utf8')) },
    },
    randomUUID(),
  );
}

/** JSON's numbers have no limit, JavaScript's have: values of 64 bits go through as marked text that nobody can guess. */
function stringify(spec: object, mark: string): string {
  const text = JSON.stringify(spec, (_, value: unknown) => (typeof value === 'bigint' ? `${mark}${value}` : value), 2);
  return text.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}
