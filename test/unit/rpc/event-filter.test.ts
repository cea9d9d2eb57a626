import assert from 'node:assert/strict';
import type { BerthEvent } from '../../../src/events/events';
import { eventFilter } from '../../../src/rpc/event-filter';

const ID = 'c0ffee'.padEnd(64, '0');
const POD = 'dead'.padEnd(64, '0');
const IMAGE = `sha256:${'ab'.repeat(32)}`;

const ofContainer: BerthEvent = {
  timeNs: 1n,
  type: 'container',
  action: 'die',
  id: ID,
  podId: POD,
  attributes: { name: 'app', pod: 'prod/web', image: 'alpine', exitCode: '0' },
  labels: { tier: 'front', empty: '' },
};
const ofPod: BerthEvent = { ...ofContainer, type: 'pod', action: 'stop', id: POD, attributes: { name: 'prod/web' } };
const ofImage: BerthEvent = {
  ...{ timeNs: 1n, type: 'image', action: 'pull', id: IMAGE, podId: '', labels: {} },
  attributes: { name: 'docker.io/library/alpine:latest' },
};

const passing = (...filters: string[]) => {
  const passes = eventFilter(
    filters.map(text => ({ key: text.replace(/=.*/, ''), value: text.replace(/^[^=]*=/, '') })),
  );
  return Object.entries({ ofContainer, ofPod, ofImage }).flatMap(([name, event]) => (passes(event) ? [name] : []));
};

describe('filters of events', () => {
  for (const [filters, expected] of [
    [[], ['ofContainer', 'ofPod', 'ofImage']],
    [['type=container'], ['ofContainer']],
    [
      ['type=container', 'type=image'],
      ['ofContainer', 'ofImage'],
    ],
    [['type=container', 'event=stop'], []],
    [
      ['event=stop', 'event=pull'],
      ['ofPod', 'ofImage'],
    ],
    [['container=app'], ['ofContainer']],
    [['container=prod/web/app'], ['ofContainer']],
    [['container=c0ffee'], ['ofContainer']],
    [['container=c'], []],
    [['container=dead'], []],
    [['pod=prod/web'], ['ofContainer', 'ofPod']],
    [['pod=dead'], ['ofContainer', 'ofPod']],
    [['pod=app'], []],
    [['image=alpine:latest'], ['ofContainer', 'ofImage']],
    [['image=docker.io/library/alpine'], ['ofContainer', 'ofImage']],
    [['image=alpine:3'], []],
    [['image=abab'], ['ofImage']],
    [[`image=${IMAGE}`], ['ofImage']],
    [['label=tier'], ['ofContainer', 'ofPod']],
    [
      ['label=tier=front', 'label=empty='],
      ['ofContainer', 'ofPod'],
    ],
    [['label=tier=front', 'label=other'], []],
    [['label=tier=back'], []],
    [['label=toString'], []],
  ] as const) {
    it(`${filters.join(' ') || 'none'}: ${expected.join(', ') || 'nothing'}`, () => {
      assert.deepEqual(passing(...filters), expected);
    });
  }

  it('that are not known are refused, with those that are', () => {
    assert.throws(() => passing('scope=local'), /"scope=local"; there are type, event, container, pod, image, label$/);
    assert.throws(() => passing('toString=x'), /no events are filtered by/);
  });
});
