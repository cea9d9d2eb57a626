import { BerthError } from '../base/errors';
import type { Containers } from '../container/containers';
import type { ContainersServer, PodEntry } from '../cri/generated/berth/v1/containers';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { nameOf } from './berth-containers';
import type { BerthParts } from './berth-service';
import { unary } from './handler';
import { jsonText } from './json';

export function podRpcs({ log, sandboxes, containers }: BerthParts) {
  return {
    listPods: unary(log, 'ListPods', () => ({
      pods: sandboxes
        .list()
        .filter(({ record }) => record.state !== 'creating')
        .sort((a, b) => Number(b.record.createdAtNs - a.record.createdAtNs))
        .map(pod => entry(containers, pod)),
    })),
    inspectPod: unary(log, 'InspectPod', ({ pod }) => ({
      json: jsonText(inspected(containers, podByName(sandboxes, pod))),
    })),
  } satisfies Partial<ContainersServer>;
}

function entry(containers: Containers, { record, config }: Sandbox): PodEntry {
  const { name = '', namespace = '', attempt = 0 } = config.metadata ?? {};
  return {
    id: record.id,
    name,
    namespace,
    attempt,
    ready: record.state === 'ready',
    createdAtNs: record.createdAtNs,
    runtimeHandler: record.runtimeHandler,
    ips: [...(record.network?.ips ?? [])],
    labels: config.labels,
    containers: containers.ofSandbox(record.id).length,
    ofPerson: record.owner !== 'cri',
  };
}

/** By id, the beginning of one, name, or namespace/name; of a pod that was made again, the newest. */
function podByName(sandboxes: Sandboxes, text: string): Sandbox {
  if (text === '') throw new BerthError('invalid_argument', 'no pod is named');
  const named = sandboxes.list().filter(({ config: { metadata } }) => {
    return metadata?.name === text || `${metadata?.namespace}/${metadata?.name}` === text;
  });
  const spaces = new Set(named.map(({ config }) => config.metadata?.namespace));
  if (spaces.size > 1) {
    throw new BerthError('invalid_argument', `${text} is in several namespaces: ${[...spaces].join(', ')}`, {
      hint: `write namespace/${text}`,
    });
  }
  const newest = named.sort((a, b) => Number(b.record.createdAtNs - a.record.createdAtNs))[0];
  const found = newest ?? sandboxes.find(text);
  if (found) return found;
  throw new BerthError('not_found', `no pod is called ${JSON.stringify(text)}`, { hint: 'berth pods lists them' });
}

function inspected(containers: Containers, pod: Sandbox): object {
  const { record, config } = pod;
  const { sandboxes } = containers;
  return {
    ...entry(containers, pod),
    uid: config.metadata?.uid ?? '',
    state: record.state,
    annotations: config.annotations,
    hostname: record.hostname,
    containers: containers.ofSandbox(record.id).map(container => ({
      id: container.record.id,
      name: nameOf(container),
      state: container.record.state,
    })),
    network: record.network?.network.name ?? null,
    ownNetwork: record.ownNetwork,
    ownIpc: record.ownIpc,
    userns: record.userns ?? null,
    pausePid: record.pause?.pid ?? 0,
    cgroupParent: record.cgroupParent,
    directory: sandboxes.paths(record.id).dir,
    leftovers: record.leftovers ?? [],
    timings: record.timings ?? [],
  };
}
