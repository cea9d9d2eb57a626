import type { OomEvents } from '../cgroup/oom';
import type { Exit } from '../process/monitor';

/** What a process is told to have exited with when SIGKILL ended it, and what shells and inits pass on of their child. */
const KILLED = 137;

export interface EndReason {
  reason: 'OOMKilled' | 'Completed' | 'Error';
  message: string;
}

/** What the kernel can tell of a container, asked only when it matters. */
export interface OomOf {
  events(): OomEvents;
  /** Whose limit was reached, when it was not the container's: the pod's, or a cgroup's further up, by its path. */
  limitReachedAbove(): string | undefined;
}

/**
 * Why a container has ended, in the kubelet's words. `OOMKilled` is one that
 * ended by SIGKILL, or with a shell's 137 for it, after the OOM killer had
 * ended processes of it. A container that goes on, or ends some other way,
 * after it lost a process to the OOM killer is not OOMKilled; with
 * memory.oom.group, as the kubelet has it on v2, there is no such container.
 *
 * @param killsBefore of the OOM killer, at the moment when somebody's stop killed the container
 */
export function endReason(
  exit: Pick<Exit, 'exitCode' | 'droppedBytes'>,
  oomOf: OomOf,
  killsBefore: bigint,
  limitBytes: bigint,
): EndReason {
  const dropped =
    exit.droppedBytes > 0n ? [`${exit.droppedBytes} bytes of output could not be written to the log`] : [];
  const oom = exit.exitCode === KILLED ? oomOf.events() : undefined;
  if (!oom || oom.kills <= killsBefore) {
    return { reason: exit.exitCode === 0 ? 'Completed' : 'Error', message: dropped.join('; ') };
  }
  return { reason: 'OOMKilled', message: [whereItRanOut(oom.atLimit, limitBytes, oomOf), ...dropped].join('; ') };
}

function whereItRanOut(isAtLimit: boolean, limitBytes: bigint, oomOf: OomOf): string {
  if (isAtLimit && limitBytes > 0n) return `out of memory: the container's limit of ${limitBytes} bytes was reached`;
  const above = oomOf.limitReachedAbove();
  if (above === 'pod') return "out of memory: the pod's limit was reached";
  if (above !== undefined) return `out of memory: the limit of cgroup ${above}, which the pod is in, was reached`;
  return 'out of memory: no limit of the container or its pod was reached, so the node has no memory left';
}
