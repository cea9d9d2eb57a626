import { randomInt } from 'node:crypto';
import { BerthError } from '../base/errors';
import type { Container, Containers } from './containers';

/** Letters and digits first; no slash, which separates a pod from its container. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

/** A name that is taken while its container is being made; afterwards the container's record takes it. */
export interface ReservedName extends Disposable {
  name: string;
}

/** The names of people's containers: each is taken once. */
export class Names {
  private readonly reserved = new Set<string>();

  constructor(private readonly containers: Containers) {}

  /** Takes `wanted`, or makes a name up when it is empty. Synchronous, so that of two who want it one wins. */
  reserve(wanted: string): ReservedName {
    if (wanted !== '' && !NAME.test(wanted)) {
      throw new BerthError('invalid_argument', `${JSON.stringify(wanted)} cannot be a container's name`, {
        hint: 'use letters, digits, "_", "." and "-", a letter or digit first, 128 at most',
      });
    }
    const name = wanted === '' ? this.freeName() : wanted;
    const owner = this.ownerOf(name);
    if (owner || this.reserved.has(name)) {
      const whose = owner ? `by container ${owner.record.id.slice(0, 12)}` : 'by one that is being created';
      throw new BerthError('already_exists', `the name ${name} is taken ${whose}`, {
        hint: 'remove that one, or take another name',
      });
    }
    this.reserved.add(name);
    return { name, [Symbol.dispose]: () => void this.reserved.delete(name) };
  }

  /** The container that has the name. One that has exited and is about to be removed has it no more. */
  private ownerOf(name: string): Container | undefined {
    return this.containers
      .list()
      .find(({ record }) => record.name === name && !(record.autoRemove && record.state === 'exited'));
  }

  private freeName(): string {
    for (let tries = 0; ; tries++) {
      const name = `${pick(ADJECTIVES)}_${pick(NOUNS)}${tries < 5 ? '' : randomInt(1000)}`;
      if (!this.ownerOf(name) && !this.reserved.has(name)) return name;
    }
  }
}

function pick(words: readonly string[]): string {
  return words[randomInt(words.length)] ?? '';
}

const ADJECTIVES = (
  'able agile amber azure bold brave brisk bright calm clean clear coral crisp deft eager early fair fast fine fleet ' +
  'fresh gentle glad golden grand green hardy keen kind light lively lucky mellow merry mild neat nimble noble patient ' +
  'plain polished proud quick quiet ready rustic salty sharp silver sleek smart smooth snug solid spry steady still sunny ' +
  'swift tidy tranquil trim true vivid warm wide windy wise'
).split(' ');

const NOUNS = (
  'anchor barge beacon berth boom bow bollard brig buoy cabin canal canoe capstan cargo clipper coast compass cove crane ' +
  'current cutter deck delta dinghy dock drift ferry fjord galley gull harbor haven heron hull inlet island jetty kayak ' +
  'keel kelp ketch lagoon lantern lighthouse lock marina mast mooring oar osprey otter pelican pier pilot port quay reef ' +
  'rigging rope rudder sail schooner seal sextant shoal shore sloop sound spar stern strait surf tern tide tiller trawler ' +
  'tug wake wharf winch yacht'
).split(' ');
