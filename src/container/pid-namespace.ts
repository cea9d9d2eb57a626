import { BerthError } from '../base/errors';
import type { ContainerConfig } from '../cri';
import type { PodFacts } from '../oci/container-spec';
import { containerPid, podNamespaces } from '../oci/namespaces';
import { startTimeOf } from '../process/identity';
import type { Sandbox } from '../sandbox/sandboxes';
import type { Container, Containers } from './containers';

/** Where a container's PID namespace is. */
export interface PidPlace extends Pick<PodFacts, 'pidPath' | 'hostPid'> {
  /** The container whose namespace it is. */
  target?: Container;
}

/** Throws `invalid_argument` or `failed_precondition` for a target that cannot be joined. */
export function pidNamespace(containers: Containers, sandbox: Sandbox, config: ContainerConfig): PidPlace {
  const pod = podNamespaces(sandbox.config.linux?.securityContext?.namespaceOptions);
  const asked = containerPid(config.linux?.securityContext?.namespaceOptions, pod);
  switch (asked.kind) {
    case 'own':
      return { pidPath: undefined, hostPid: false };
    case 'host':
      return { pidPath: undefined, hostPid: true };
    case 'pod':
      return { pidPath: containers.sandboxes.paths(sandbox.record.id).pid, hostPid: false };
    case 'target': {
      const target = targetOf(containers, sandbox, asked.id);
      return { pidPath: `/proc/${target.record.process?.pid}/ns/pid`, hostPid: false, target };
    }
  }
}

/** Another pod's processes are none of this pod's business. */
function targetOf(containers: Containers, sandbox: Sandbox, id: string): Container {
  const target = containers.find(id);
  if (target?.record.sandboxId !== sandbox.record.id) {
    throw new BerthError(
      'invalid_argument',
      `namespace_options.target_id: pod sandbox ${sandbox.record.id} has no container ${JSON.stringify(id)}`,
      { hint: 'only a container of the same pod can be a target' },
    );
  }
  if (target.record.state !== 'running' || !target.record.process) {
    throw new BerthError(
      'failed_precondition',
      `container ${target.record.id}, whose PID namespace is asked for, is ${target.record.state} and does not run`,
    );
  }
  return target;
}

/** After the namespace was joined by the target's pid: it must have been the target's all the time. */
export function assertStillTarget({ target }: PidPlace): void {
  const process = target?.record.process;
  if (!target || (process && startTimeOf(process.pid) === process.pidStartTime)) return;
  throw new BerthError(
    'failed_precondition',
    `container ${target.record.id} ended while its PID namespace was being joined`,
  );
}
