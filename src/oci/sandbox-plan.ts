import { BerthError } from '../base/errors';
import type { InnerOp, LaunchPlan, OuterOp } from '../native/plan-ops';
import { CLONE } from './linux';
import type { IdMappings } from './spec';

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
  /** `net.core.somaxconn` → value; only namespaced ones. */
  sysctls: Readonly<Record<string, string>>;
}

/** What the pin helper does for a sandbox. Pure; throws `invalid_argument` for a sysctl that is not the pod's own. */
export function sandboxPlan(pod: SandboxNamespaces): LaunchPlan {
  const flags =
    (pod.networkPath === undefined ? 0 : CLONE.newnet) |
    (pod.ipcPath === undefined ? 0 : CLONE.newipc) |
    (pod.utsPath === undefined ? 0 : CLONE.newuts);
  const { userns } = pod;
  const setUp: HostOp[] = [
    ...(pod.networkPath === undefined ? [] : [{ op: 'LOOPBACK_UP' } as const]),
    ...(pod.utsPath === undefined ? [] : [{ op: 'HOSTNAME', name: pod.hostname } as const]),
    ...sysctlOps(pod),
  ];
  const outer: OuterOp[] = userns ? [usernsOp(userns, flags)] : [{ op: 'UNSHARE', flags }, ...setUp];
  if (pod.networkPath !== undefined) outer.push({ op: 'PIN', ns: 'net', path: pod.networkPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'PIN', ns: 'ipc', path: pod.ipcPath });
  if (pod.utsPath !== undefined) outer.push({ op: 'PIN', ns: 'uts', path: pod.utsPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'SHM', path: pod.shmPath, size: pod.shmBytes });
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

/** Sysctls as pairs, and only those that live in the pod's namespaces (CVE-2022-0811). */
function sysctlOps(pod: SandboxNamespaces): HostOp[] {
  return Object.entries(pod.sysctls).map(([name, value]) => {
    const path = name.includes('/') ? name : name.replaceAll('.', '/');
    const isNetwork = path.startsWith('net/');
    const isIpc = /^(kernel\/(shm[a-z_]*|msg[a-z_]*|sem)|fs\/mqueue\/[a-z_]+)$/.test(path);
    if (!/^[a-z0-9_/.-]+$/i.test(path) || path.includes('..') || !(isNetwork || isIpc)) {
      throw new BerthError('invalid_argument', `sysctl ${JSON.stringify(name)} is not one of a pod's own`, {
        hint: 'net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* are',
      });
    }
    if ((isNetwork ? pod.networkPath : pod.ipcPath) === undefined) {
      throw new BerthError(
        'invalid_argument',
        `sysctl ${name} would change the host: the pod shares its ${isNetwork ? 'network' : 'IPC'} namespace`,
      );
    }
    if (value.includes('\0')) throw new BerthError('invalid_argument', `sysctl ${name}: the value holds a NUL`);
    return { op: 'SYSCTL', path, value };
  });
}
