import { BerthError } from '../../base/errors';
import { isRlimitName, parseRlimit, RLIMIT_NAMES } from '../../base/rlimits';
import type { Ulimit } from '../../cri/generated/berth/v1/run';

/** `nofile=1024:4096`, as docker has it; -1 and `unlimited` are no limit. Throws `invalid_argument`. */
export function parseUlimit(text: string): Ulimit {
  const refuse = (why: string, hint: string) =>
    new BerthError('invalid_argument', `--ulimit "${text}": ${why}`, { hint });
  const [, name = '', value = ''] = /^([^=]+)=(.*)$/.exec(text) ?? [];
  if (name === '') throw refuse('it is not NAME=SOFT[:HARD]', 'write nofile=1024:4096');
  if (!isRlimitName(name)) throw refuse(`${name} is not known`, `there are ${RLIMIT_NAMES.join(', ')}`);
  const limit = parseRlimit(value);
  if (!limit)
    throw refuse(
      'each limit is a whole number or -1 for none, the soft one not above the hard one',
      'write nofile=1024:4096',
    );
  const onWire = (number: number) => (number === Infinity ? -1n : BigInt(number));
  return { name, soft: onWire(limit.soft), hard: onWire(limit.hard) };
}
