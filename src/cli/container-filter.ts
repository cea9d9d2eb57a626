import { BerthError } from '../base/errors';
import { hasLabel } from '../base/labels';
import type { Container } from '../cri/generated/berth/v1/berth';
import { familiar } from './format/names';
import { nameOf, states } from './ps';

/** `--filter key=value`. */
export interface ContainerFilter {
  readonly key: string;
  readonly value: string;
}

type Test = (container: Container, value: string, all: readonly Container[]) => boolean;

/** What each key compares. */
const tests: Readonly<Record<string, Test>> = {
  id: ({ id }, value) => id.startsWith(value),
  name: (container, value) => patternOf(value).test(nameOf(container)),
  label: ({ labels }, value) => hasLabel(labels, value),
  status: ({ state }, value) => states[state] === value || (value === 'running' && states[state] === 'paused'),
  ancestor: ({ image, imageId }, value) =>
    withTag(familiar(image)) === withTag(familiar(value)) ||
    imageId.replace('sha256:', '').startsWith(value.replace('sha256:', '')),
  exited: ({ state, exitCode }, value) => states[state] === 'exited' && exitCode === Number(value),
  before: ({ createdAtNs }, value, all) => createdAtNs < named(all, value).createdAtNs,
  since: ({ createdAtNs }, value, all) => createdAtNs > named(all, value).createdAtNs,
  volume: ({ mounts }, value) => mounts.includes(value),
  network: ({ network }, value) => network === value,
  health: ({ health }, value) => (health || 'none') === value,
  pod: ({ pod }, value) => pod?.name === value,
};

export function collectContainerFilter(text: string, before: readonly ContainerFilter[]): ContainerFilter[] {
  const equals = text.indexOf('=');
  const key = text.slice(0, Math.max(equals, 0));
  if (equals > 0 && Object.hasOwn(tests, key)) return [...before, { key, value: text.slice(equals + 1) }];
  throw new BerthError('invalid_argument', `--filter ${text} is not known`, {
    hint: `filters look like status=exited; there are ${Object.keys(tests).join(', ')}`,
  });
}

/** Those that ask for containers that do not run. */
export function listsAll(filters: readonly ContainerFilter[]): boolean {
  return filters.some(({ key }) => ['status', 'exited', 'before', 'since'].includes(key));
}

/** Of one key, one value must fit, as docker has it, of labels all; of several keys, all. */
export function passes(
  filters: readonly ContainerFilter[],
  all: readonly Container[],
): (container: Container) => boolean {
  const byKey = new Map<string, string[]>();
  for (const { key, value } of filters) byKey.set(key, [...(byKey.get(key) ?? []), value]);
  return container =>
    [...byKey].every(([key, values]) => {
      const fits = (value: string) => tests[key]?.(container, value, all) ?? false;
      return key === 'label' ? values.every(fits) : values.some(fits);
    });
}

function patternOf(value: string): RegExp {
  try {
    return new RegExp(value);
  } catch {
    throw new BerthError('invalid_argument', `--filter name=${value} is no pattern`);
  }
}

function withTag(name: string): string {
  return /:[^/]*$|@/.test(name) ? name : `${name}:latest`;
}

function named(all: readonly Container[], value: string): Container {
  const found = all.find(container => nameOf(container) === value || container.id.startsWith(value));
  if (found) return found;
  throw new BerthError('not_found', `no container is called ${JSON.stringify(value)}`);
}
