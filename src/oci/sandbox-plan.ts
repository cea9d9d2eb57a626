import { BerthError } from '../base/errors';
import type { InnerOp, LaunchPlan, OuterOp } from '../native/plan-ops';
import { CLONE } from './linux';
import type { IdMappings } from './spec';
import { podSysctls } from './sysctls';

/** A pod's namespaces to make; paths are where they are pinned on the host, absent means the host's own. */
export interface SandboxNamespaces {
  hostname: string;
  networkPath: string | undefined;
  ipcPath: string | undefined;
  utsPath: string | undefined;
  /** A user namespace that owns all of them. */
  userns?: (IdMappings & { path: string }) | undefined;
  /** A shared PID namespace with an init of its own. */
  pidPath: string | undefined;
  shmPath: string;
  shmBytes: bigint;
  /** SELinux label of /dev/shm; absent: none. */
  fileLabel?: string | undefined;
  /** `net.core.somaxconn` → value; only namespaced ones. */
  sysctls: Readonly<Record<string, string>>;
}

/** The kernel's limit; utsname(2). */
const HOSTNAME_BYTES_MAX = 64;

/**
 * What the pin helper does for a sandbox. Pure; throws `invalid_argument` for a sysctl that is not the pod's own, and for a
 * hostname that is none.
 */
export function sandboxPlan(pod: SandboxNamespaces): LaunchPlan {
  if (Buffer.byteLength(pod.hostname) > HOSTNAME_BYTES_MAX)
    throw new BerthError('invalid_argument', `hostname ${pod.hostname}: it has more than ${HOSTNAME_BYTES_MAX} bytes`);
  const flags =
    (pod.networkPath === undefined ? 0 : CLONE.newnet) |
    (pod.ipcPath === undefined ? 0 : CLONE.newipc) |
    (pod.utsPath === undefined ? 0 : CLONE.newuts);
  const { userns } = pod;
  const own = { ownNetwork: pod.networkPath !== undefined, ownIpc: pod.ipcPath !== undefined };
  const setUp: HostOp[] = [
    ...(pod.networkPath === undefined ? [] : [{ op: 'LOOPBACK_UP' } as const]),
    ...(pod.utsPath === undefined ? [] : [{ op: 'HOSTNAME', name: pod.hostname } as const]),
    ...podSysctls(pod.sysctls, own).map(sysctl => ({ op: 'SYSCTL', ...sysctl }) as const),
  ];
  const outer: OuterOp[] = userns ? [usernsOp(userns, flags)] : [{ op: 'UNSHARE', flags }, ...setUp];
  if (pod.networkPath !== undefined) outer.push({ op: 'PIN', ns: 'net', path: pod.networkPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'PIN', ns: 'ipc', path: pod.ipcPath });
  if (pod.utsPath !== undefined) outer.push({ op: 'PIN', ns: 'uts', path: pod.utsPath });
  if (pod.ipcPath !== undefined)
    outer.push({ op: 'SHM', path: pod.shmPath, size: pod.shmBytes, label: pod.fileLabel ?? '' });
  if (pod.pidPath === undefined) return { outer, inner: userns ? setUp : [] };
  if (!userns) return { outer: [...outer, { op: 'PAUSE', path: pod.pidPath }], inner: [] };
  // Inside, nothing can be mounted on the host.
  return {
    outer: [...outer, { op: 'PIN', ns: 'pid', path: pod.pidPath }],
    inner: [...setUp, { op: 'PAUSE', path: '' }],
  };
}

/** Operations of either section. */
type HostOp = OuterOp & InnerOp;

/** A child in a new user namespace, and in others that belong to it, sets them up; they are pinned from outside. */
function usernsOp({ path, uid, gid }: IdMappings & { path: string }, namespaces: number): OuterOp {
  return {
    op: 'USERNS',
    path,
    namespaces: BigInt(namespaces),
    uid: uid.first,
    uids: uid.count,
    gid: gid.first,
    gids: gid.count,
  };
}
