import { BerthError } from '../base/errors';
import { nearest } from '../config/nearest';
import type { Container, Containers } from './containers';

/**
 * The container that a person means: by its name, its id, the beginning of its
 * id, or for the kubelet's `pod/container` or `namespace/pod/container`. Throws
 * `not_found`, or `invalid_argument` naming the candidates when several fit.
 */
export function containerByName(containers: Containers, text: string): Container {
  if (text === '') throw new BerthError('invalid_argument', 'no container is named');
  const all = containers.list().filter(({ record }) => record.state !== 'creating');
  const found = byName(all, text) ?? byId(all, text) ?? byPod(containers, all, text);
  if (found) return found;
  const names = all.flatMap(container => container.record.name ?? podName(containers, container) ?? []);
  const near = nearest(text, names);
  throw new BerthError(
    'not_found',
    `no container is called ${JSON.stringify(text)}`,
    near === undefined ? {} : { hint: `did you mean ${near}?` },
  );
}

/** While one that has exited waits for its removal, its name may be another's already. */
function byName(all: readonly Container[], text: string): Container | undefined {
  const named = all.filter(({ record }) => record.name === text);
  return named.find(({ record }) => record.state !== 'exited') ?? named.at(-1);
}

function byId(all: readonly Container[], text: string): Container | undefined {
  if (!/^[0-9a-f]{1,64}$/.test(text)) return undefined;
  const matches = all.filter(({ record }) => record.id.startsWith(text));
  return only(
    text,
    matches,
    ({ record }) => `${record.id.slice(0, 12)}${record.name === undefined ? '' : ` (${record.name})`}`,
  );
}

function byPod(containers: Containers, all: readonly Container[], text: string): Container | undefined {
  const parts = text.split('/');
  if (parts.length !== 2 && parts.length !== 3) return undefined;
  // Of a container that the kubelet has made again and again, the last one is meant.
  const newest = new Map<string, Container>();
  for (const container of all) {
    const name = podName(containers, container);
    if (name === undefined || (name !== text && !name.endsWith(`/${text}`))) continue;
    const other = newest.get(name);
    if (!other || other.record.createdAtNs <= container.record.createdAtNs) newest.set(name, container);
  }
  return only(text, [...newest.values()], container => podName(containers, container) ?? '');
}

function podName(containers: Containers, { record, config }: Container): string | undefined {
  if (record.owner !== 'cri') return undefined;
  const pod = containers.sandboxes.find(record.sandboxId)?.config.metadata;
  return pod && `${pod.namespace}/${pod.name}/${config.metadata?.name}`;
}

function only(
  text: string,
  matches: readonly Container[],
  called: (container: Container) => string,
): Container | undefined {
  if (matches.length <= 1) return matches[0];
  const shown = matches.slice(0, 5).map(called).join(', ');
  const more = matches.length > 5 ? ` and ${matches.length - 5} more` : '';
  throw new BerthError('invalid_argument', `${JSON.stringify(text)} may be several containers: ${shown}${more}`, {
    hint: 'write more of it',
  });
}
