import assert from 'node:assert/strict';
import { buildDisplay } from '../../../src/cli/format/build-progress';
import { OutputStream } from '../../../src/cri/generated/berth/v1/berth';
import { BuildStep_State as State } from '../../../src/cri/generated/berth/v1/build';

describe('what a build shows', () => {
  const step = (state: State) => ({ id: 1, name: 'RUN it', state, durationMs: 0n, why: '' });

  for (const kind of ['plain', 'tty'] as const)
    it(`has characters whole that come in pieces, of both streams at once: ${kind}`, () => {
      let shown = '';
      const screen = { isTTY: true, columns: 80, rows: 24, write: (text: string) => ((shown += text), true) };
      const display = buildDisplay(screen, kind);
      const log = (stream: OutputStream, data: Buffer) => display.log({ step: 1, stream, data });
      const [out, err] = [Buffer.from('ä→\n'), Buffer.from('€\n')];
      display.step(step(State.STARTED));
      for (let i = 0; i < out.length; i++) {
        log(OutputStream.STDOUT, out.subarray(i, i + 1));
        if (i < err.length) log(OutputStream.STDERR, err.subarray(i, i + 1));
      }
      log(OutputStream.STDOUT, Buffer.from([0xe2, 0x82])); // and no more of it
      if (kind === 'plain') assert.doesNotMatch(shown, /\ufffd/);
      assert.match(shown, /ä/);
      assert.match(shown, /→/);
      assert.match(shown, /€/);
      display.step(step(State.DONE));
      if (kind === 'plain') assert.match(shown, /\ufffd/);
    });

  it('has each warning whole, also on a terminal that is drawn over', () => {
    let shown = '';
    const screen = { isTTY: true, columns: 20, rows: 5, write: (text: string) => ((shown += text), true) };
    const display = buildDisplay(screen, 'tty');
    const warning = 'the cache registry.example/app:cache is not used: \x1b[2J it is a long story';
    display.step(step(State.STARTED));
    display.warning(warning);
    display.step(step(State.DONE));
    display.ended();
    assert.ok(shown.endsWith(`warning: ${warning.replace('\x1b', '\\u001b')}\n`), shown);
  });
});
