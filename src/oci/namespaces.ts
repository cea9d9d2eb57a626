import { BerthError } from '../base/errors';
import { NamespaceMode, type NamespaceOption } from '../cri';

/** Which of a pod's namespaces are its own; the others are the host's. */
export interface PodNamespaces {
  network: 'pod' | 'host';
  ipc: 'pod' | 'host';
  /** `shared`: one for all of its containers; `separate`: one for each. */
  pid: 'shared' | 'separate' | 'host';
}

/** Whose PID namespace a container has. */
export type PidNamespace = { kind: 'own' } | { kind: 'pod' } | { kind: 'host' } | { kind: 'target'; id: string };

/**
 * What a pod asks for; the CRI's zero value is POD. Throws `invalid_argument`
 * for modes that mean nothing for a pod.
 */
export function podNamespaces(options: NamespaceOption | undefined): PodNamespaces {
  const { network = NamespaceMode.POD, ipc = NamespaceMode.POD, pid = NamespaceMode.POD } = options ?? {};
  return { network: podOrHost('network', network), ipc: podOrHost('ipc', ipc), pid: podPid(pid) };
}

/**
 * Refuses a container that asks for other namespaces than its pod has: network
 * and IPC are the pod's, and POD means whatever these are.
 */
export function assertPodsNamespaces(asked: NamespaceOption | undefined, pod: PodNamespaces): void {
  for (const type of ['network', 'ipc'] as const) {
    if (podOrHost(type, asked?.[type] ?? NamespaceMode.POD) === 'pod' || pod[type] === 'host') continue;
    throw new BerthError(
      'invalid_argument',
      `namespace_options.${type}: the container asks for the node's namespace (NODE), and its pod has one of its own`,
      { hint: 'ask for the same in the pod sandbox config' },
    );
  }
}

/** Throws `invalid_argument` for a TARGET without a target id. */
export function containerPid(asked: NamespaceOption | undefined, pod: PodNamespaces): PidNamespace {
  switch (asked?.pid ?? NamespaceMode.POD) {
    case NamespaceMode.POD:
      return { kind: pod.pid === 'shared' ? 'pod' : pod.pid === 'separate' ? 'own' : 'host' };
    case NamespaceMode.CONTAINER:
      return { kind: 'own' };
    case NamespaceMode.NODE:
      return { kind: 'host' };
    case NamespaceMode.TARGET:
      if (asked?.targetId) return { kind: 'target', id: asked.targetId };
      throw new BerthError('invalid_argument', 'namespace_options.pid is TARGET and target_id is empty');
    default:
      throw unknownMode('pid', asked?.pid);
  }
}

function podOrHost(type: 'network' | 'ipc', mode: NamespaceMode): 'pod' | 'host' {
  if (mode === NamespaceMode.POD) return 'pod';
  if (mode === NamespaceMode.NODE) return 'host';
  throw unknownMode(type, mode);
}

function podPid(mode: NamespaceMode): PodNamespaces['pid'] {
  switch (mode) {
    case NamespaceMode.POD:
      return 'shared';
    case NamespaceMode.CONTAINER:
      return 'separate';
    case NamespaceMode.NODE:
      return 'host';
    default:
      throw unknownMode('pid', mode);
  }
}

function unknownMode(type: string, mode: NamespaceMode | undefined): BerthError {
  const name = { [NamespaceMode.CONTAINER]: 'CONTAINER', [NamespaceMode.TARGET]: 'TARGET' }[Number(mode)];
  return new BerthError('invalid_argument', `namespace_options.${type}: ${name ?? `mode ${mode}`} is not possible`, {
    hint: type === 'pid' ? 'POD, CONTAINER and NODE are, and TARGET for a container' : 'POD and NODE are',
  });
}
