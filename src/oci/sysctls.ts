import { BerthError } from '../base/errors';

/** One setting: the path below /proc/sys. */
export interface Sysctl {
  path: string;
  value: string;
}

/**
 * A pod's sysctls, as pairs: a value is written as it is and never read as more
 * settings (CVE-2022-0811). Only those that live in the pod's own network or IPC
 * namespace; whether one is "safe" is the kubelet's question. Throws `invalid_argument`.
 */
export function podSysctls(
  sysctls: Readonly<Record<string, string>>,
  pod: { ownNetwork: boolean; ownIpc: boolean },
): Sysctl[] {
  return Object.entries(sysctls).map(([name, value]) => {
    const path = pathOf(name);
    const namespace = namespaceOf(path);
    if (namespace === undefined) {
      throw refuse(
        name,
        "is not one of a pod's own",
        'net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* are',
      );
    }
    if (!(namespace === 'network' ? pod.ownNetwork : pod.ownIpc)) {
      throw refuse(name, `would change the host: the pod shares its ${namespace} namespace`);
    }
    if (value === '' || value.includes('\0')) throw refuse(name, 'has a value that is empty or holds a NUL');
    return { path, value };
  });
}

/** The first separator says which one separates; the other stands for a dot in a name: `net.ipv4.conf.eth0/1.mtu`. */
function pathOf(name: string): string {
  const isDotted = /[./]/.exec(name)?.[0] === '.';
  const path = isDotted ? name.replace(/[./]/g, separator => (separator === '.' ? '/' : '.')) : name;
  const isPath = path.split('/').every(part => /^[\w@:-][\w.@:-]*$/.test(part));
  if (!isPath) throw refuse(name, 'is not the name of a setting');
  return path;
}

function namespaceOf(path: string): 'network' | 'IPC' | undefined {
  if (/^net\/./.test(path)) return 'network';
  return /^(kernel\/(shm[a-z_]*|msg[a-z_]*|sem)|fs\/mqueue\/[a-z_]+)$/.test(path) ? 'IPC' : undefined;
}

function refuse(name: string, why: string, hint?: string): BerthError {
  return new BerthError(
    'invalid_argument',
    `sysctl ${JSON.stringify(name)} ${why}`,
    hint === undefined ? {} : { hint },
  );
}
