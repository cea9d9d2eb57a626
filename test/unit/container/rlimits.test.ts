import assert from 'node:assert/strict';
import { BerthError } from '../../../src/base/errors';
import type { Logger } from '../../../src/base/log';
import { RLIMIT_NAMES, type RlimitName } from '../../../src/base/rlimits';
import { Rlimits, type RlimitTexts } from '../../../src/container/rlimits';

const ceilings = (lower: Partial<Record<RlimitName, number>> = {}) => {
  const none = Object.fromEntries(RLIMIT_NAMES.map(name => [name, Infinity])) as Record<RlimitName, number>;
  return { ...none, ...lower };
};

/** The limits of a container, as `type soft hard`, and what the log was told. */
function limits(
  defaults: RlimitTexts,
  handlers: Record<string, { rlimits: RlimitTexts }> = {},
  lower: Partial<Record<RlimitName, number>> = {},
) {
  const said: string[] = [];
  const log = { warn: (text: string) => void said.push(text) } as unknown as Logger;
  const rlimits = new Rlimits(defaults, handlers, ceilings(lower), log);
  const of = (handler = '', ...ulimits: Parameters<Rlimits['for']>[1]) =>
    rlimits.for(handler, ulimits).map(({ type, soft, hard }) => `${type} ${soft} ${hard}`);
  return { of, said, rlimits };
}

describe('the limits of a container’s processes', () => {
  it('are the configuration’s, over them the handler’s, over all what a person asks for', () => {
    const { of, said } = limits(
      { nofile: '1024:4096', core: 'unlimited' },
      { big: { rlimits: { nofile: '9000' } }, same: { rlimits: {} } },
    );
    assert.deepEqual(of(), ['RLIMIT_CORE -1 -1', 'RLIMIT_NOFILE 1024 4096']);
    assert.deepEqual(of('same'), of());
    assert.deepEqual(of('big'), ['RLIMIT_CORE -1 -1', 'RLIMIT_NOFILE 9000 9000']);
    assert.deepEqual(of('big', { name: 'core', soft: 0n, hard: -1n }, { name: 'cpu', soft: 5n, hard: 6n }), [
      'RLIMIT_CORE 0 -1',
      'RLIMIT_NOFILE 9000 9000',
      'RLIMIT_CPU 5 6',
    ]);
    assert.deepEqual(said, []);
  });

  it('are no more than the daemon may give, which the log is told once', () => {
    const { of, said, rlimits } = limits(
      { nofile: '65536:1048576', memlock: '8388608' },
      { big: { rlimits: { memlock: 'unlimited' } } },
      { nofile: 20_000, memlock: 8_388_608 },
    );
    assert.deepEqual(of('big'), ['RLIMIT_NOFILE 20000 20000', 'RLIMIT_MEMLOCK 8388608 8388608']);
    of('big');
    assert.deepEqual(said, [
      "runtime.rlimits: nofile is 20000 instead of 65536:1048576: the daemon's own hard limit, which it may not raise",
      "runtimes.big.rlimits: memlock is 8388608 instead of unlimited: the daemon's own hard limit, which it may not raise",
    ]);
    assert.deepEqual(rlimits.shortfalls([{ name: 'nofile', soft: 1n, hard: 20_000n }]), []);
    assert.match(
      rlimits.shortfalls([{ name: 'nofile', soft: 1n, hard: -1n }]).join(),
      /^nofile is 1:20000 instead of 1:unl/,
    );
  });

  it('are refused where they are none', () => {
    const { of } = limits({});
    const refused = (message: RegExp) => (error: unknown) =>
      error instanceof BerthError && error.kind === 'invalid_argument' && message.test(error.message);
    assert.throws(() => of('', { name: 'toString', soft: 1n, hard: 1n }), refused(/ulimit "toString" is not known/));
    for (const [soft, hard] of [
      [2n, 1n],
      [-1n, 1n],
      [-2n, -2n],
    ] as const)
      assert.throws(() => of('', { name: 'core', soft, hard }), refused(/soft limit is above the hard one/));
  });
});
