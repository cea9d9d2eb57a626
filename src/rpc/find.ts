import { BerthError } from '../base/errors';
import type { Container, Containers } from '../container/containers';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';

/* What the CRI may find: only what was made through it. */

export function findSandbox(sandboxes: Sandboxes, id: string): Sandbox | undefined {
  const sandbox = sandboxes.find(id);
  return sandbox && sandbox.record.owner === 'cri' ? sandbox : undefined;
}

export function getSandbox(sandboxes: Sandboxes, id: string): Sandbox {
  const sandbox = findSandbox(sandboxes, id);
  if (sandbox) return sandbox;
  throw new BerthError('not_found', `no pod sandbox has the id ${JSON.stringify(id)}`);
}

export function findContainer(containers: Containers, id: string): Container | undefined {
  const container = containers.find(id);
  return container && container.record.owner === 'cri' ? container : undefined;
}

export function getContainer(containers: Containers, id: string): Container {
  const container = findContainer(containers, id);
  if (container) return container;
  throw new BerthError('not_found', `no container has the id ${JSON.stringify(id)}`);
}
