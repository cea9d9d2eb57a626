import type { LaunchPlan, OuterOp } from '../native/plan-ops';
import { CLONE } from './linux';
import { podSysctls } from './sysctls';

/** A pod's namespaces to make; paths are where they are pinned on the host, absent means the host's own. */
export interface SandboxNamespaces {
  hostname: string;
  networkPath: string | undefined;
  ipcPath: string | undefined;
  utsPath: string | undefined;
  /** A shared PID namespace with an init of its own. */
  pidPath: string | undefined;
  shmPath: string;
  shmBytes: bigint;
  /** SELinux label of /dev/shm; absent: none. */
  fileLabel?: string | undefined;
  /** `net.core.somaxconn` → value; only namespaced ones. */
  sysctls: Readonly<Record<string, string>>;
}

/** What the pin helper does for a sandbox. Pure; throws `invalid_argument` for a sysctl that is not the pod's own. */
export function sandboxPlan(pod: SandboxNamespaces): LaunchPlan {
  const flags =
    (pod.networkPath === undefined ? 0 : CLONE.newnet) |
    (pod.ipcPath === undefined ? 0 : CLONE.newipc) |
    (pod.utsPath === undefined ? 0 : CLONE.newuts);
  const outer: OuterOp[] = [{ op: 'UNSHARE', flags }];
  if (pod.networkPath !== undefined) outer.push({ op: 'LOOPBACK_UP' });
  if (pod.utsPath !== undefined) outer.push({ op: 'HOSTNAME', name: pod.hostname });
  const own = { ownNetwork: pod.networkPath !== undefined, ownIpc: pod.ipcPath !== undefined };
  outer.push(...podSysctls(pod.sysctls, own).map(sysctl => ({ op: 'SYSCTL', ...sysctl }) as const));
  if (pod.networkPath !== undefined) outer.push({ op: 'PIN', ns: 'net', path: pod.networkPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'PIN', ns: 'ipc', path: pod.ipcPath });
  if (pod.utsPath !== undefined) outer.push({ op: 'PIN', ns: 'uts', path: pod.utsPath });
  if (pod.ipcPath !== undefined)
    outer.push({ op: 'SHM', path: pod.shmPath, size: pod.shmBytes, label: pod.fileLabel ?? '' });
  if (pod.pidPath !== undefined) outer.push({ op: 'PAUSE', path: pod.pidPath });
  return { outer, inner: [] };
}
