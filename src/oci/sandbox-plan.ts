import { BerthError } from '../base/errors';
import type { LaunchPlan, OuterOp } from '../native/plan-ops';
import { CLONE } from './linux';

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
  outer.push(...sysctlOps(pod));
  if (pod.networkPath !== undefined) outer.push({ op: 'PIN', ns: 'net', path: pod.networkPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'PIN', ns: 'ipc', path: pod.ipcPath });
  if (pod.utsPath !== undefined) outer.push({ op: 'PIN', ns: 'uts', path: pod.utsPath });
  if (pod.ipcPath !== undefined) outer.push({ op: 'SHM', path: pod.shmPath, size: pod.shmBytes });
  if (pod.pidPath !== undefined) outer.push({ op: 'PAUSE', path: pod.pidPath });
  return { outer, inner: [] };
}

/** Sysctls as pairs, and only those that live in the pod's namespaces (CVE-2022-0811). */
function sysctlOps(pod: SandboxNamespaces): OuterOp[] {
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
