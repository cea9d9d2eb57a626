import { BerthError } from '../base/errors';
import { hasLabel } from '../base/labels';
import type { EventFilter } from '../cri/generated/berth/v1/events';
import type { BerthEvent } from '../events/events';
import { canonicalForm, parseReference } from '../image/reference';

type Test = (event: BerthEvent, value: string) => boolean;

const TESTS: Readonly<Record<string, Test>> = {
  type: ({ type }, value) => type === value,
  event: ({ action }, value) => action === value,
  container: ({ type, id, attributes: { name = '', pod = '' } }, value) =>
    type === 'container' && (name === value || `${pod}/${name}` === value || beginsWith(id, value)),
  pod: ({ type, podId, attributes: { name = '', pod = '' } }, value) =>
    (type === 'pod' ? name : pod) === value || beginsWith(podId, value),
  image: ({ type, id, attributes: { name = '', image = '' } }, value) =>
    type === 'image'
      ? sameImage(name, value) || beginsWith(id, value) || beginsWith(id, `sha256:${value}`)
      : sameImage(image, value),
  label: ({ labels }, value) => hasLabel(labels, value),
};

/** What an event must be like: every key must hold; of one key one filter, of labels all. */
export function eventFilter(filters: readonly EventFilter[]): (event: BerthEvent) => boolean {
  const byKey = new Map<string, string[]>();
  for (const { key, value } of filters) {
    if (!Object.hasOwn(TESTS, key)) throw unknown(key, value);
    byKey.set(key, [...(byKey.get(key) ?? []), value]);
  }
  const keys = [...byKey].map(([key, values]) => (event: BerthEvent) => {
    const test = (value: string) => TESTS[key]?.(event, value) === true;
    return key === 'label' ? values.every(test) : values.some(test);
  });
  return event => keys.every(holds => holds(event));
}

function unknown(key: string, value: string): BerthError {
  return new BerthError('invalid_argument', `no events are filtered by ${JSON.stringify(`${key}=${value}`)}`, {
    hint: `there are ${Object.keys(TESTS).join(', ')}`,
  });
}

/** Of an id; one digit is too little to mean anything. */
function beginsWith(id: string, text: string): boolean {
  return text.length > 1 && id.startsWith(text);
}

function sameImage(one: string, other: string): boolean {
  return one !== '' && (one === other || canonical(one) === canonical(other));
}

function canonical(text: string): string {
  try {
    return canonicalForm(parseReference(text));
  } catch {
    return text; // an id is no reference
  }
}
