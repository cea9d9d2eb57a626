import type { Container, Containers, ContainerState } from './containers';

/** Tells of a container's change of state, which is recorded. Of one that was undone nobody has heard. */
export function tellState(containers: Containers, container: Container, before: ContainerState): void {
  const { state, exitCode, signal, startedAtNs, reason } = container.record;
  if (state === 'created' && before === 'creating') tell(containers, container, 'create');
  if (state === 'running') tell(containers, container, 'start');
  if (state !== 'exited' || before === 'creating') return;
  // It may have ended before its start was recorded.
  if (before === 'created' && startedAtNs > 0n) tell(containers, container, 'start');
  if (reason === 'OOMKilled') tell(containers, container, 'oom');
  tell(containers, container, 'die', {
    exitCode: String(exitCode),
    ...(signal === undefined ? {} : { signal: String(signal) }),
  });
}

/** Tells that a container is no more. */
export function tellForgotten(containers: Containers, container: Container): void {
  if (container.record.process) tell(containers, container, 'destroy');
}

/** Tells that something happened to a container, with the names that people know it by. */
export function tell(
  { events, sandboxes }: Containers,
  { record, config }: Container,
  action: string,
  more: Readonly<Record<string, string>> = {},
): void {
  const pod = record.owner === 'cri' ? sandboxes.find(record.sandboxId)?.config.metadata : undefined;
  events.emit({
    type: 'container',
    action,
    id: record.id,
    podId: record.sandboxId,
    attributes: {
      ...more,
      image: config.image?.userSpecifiedImage || config.image?.image || record.imageId,
      name: record.name ?? config.metadata?.name ?? '',
      ...(pod ? { pod: `${pod.namespace}/${pod.name}` } : {}),
    },
    labels: config.labels,
  });
}

/** Tells of a command that somebody runs in a container, and of its end. Those of probes are not told: they are too many. */
export function tellExec(
  containers: Containers,
  container: Container,
  { exited }: { exited: Promise<{ exitCode: number }> },
): void {
  tell(containers, container, 'exec_start');
  exited.then(
    ({ exitCode }) => tell(containers, container, 'exec_die', { exitCode: String(exitCode) }),
    () => undefined, // the daemon has lost it, and knows nothing of its end
  );
}
