import type { Events, Happening } from '../events/events';
import type { Sandbox, SandboxState } from './sandboxes';

/** Tells of a pod's change of state, which is recorded. */
export function tellState(events: Events, sandbox: Sandbox, before: SandboxState): void {
  const { state } = sandbox.record;
  if (state === before) return;
  if (state === 'ready') {
    tell(events, sandbox, 'create');
    tell(events, sandbox, 'start');
  } else if (before === 'ready') {
    tell(events, sandbox, 'stop');
  }
}

/** Tells that a pod is no more. Of one that never was ready nobody has heard. */
export function tellForgotten(events: Events, sandbox: Sandbox): void {
  if (sandbox.record.state !== 'creating') tell(events, sandbox, 'destroy');
}

/** A person's pod is a part of the person's container, which tells for both. */
function tell(events: Events, { record, config }: Sandbox, action: string): void {
  if (record.owner !== 'cri') return;
  const happening: Happening = {
    type: 'pod',
    action,
    id: record.id,
    podId: record.id,
    attributes: { name: `${config.metadata?.namespace}/${config.metadata?.name}` },
    labels: config.labels,
  };
  events.emit(happening);
}
