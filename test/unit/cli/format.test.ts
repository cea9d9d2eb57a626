import assert from 'node:assert/strict';
import { humanAge, humanDuration, secondsBetween, timestamp } from '../../../src/cli/format/age';
import { jsonLines } from '../../../src/cli/format/json';
import { ellipsis, familiar, shortId, splitTag } from '../../../src/cli/format/names';
import { progressDisplay } from '../../../src/cli/format/progress';
import { humanSize } from '../../../src/cli/format/size';
import { table } from '../../../src/cli/format/table';
import { LayerProgress_Phase as Phase, type LayerProgress } from '../../../src/cri/generated/berth/v1/berth';

describe('ages', () => {
  const minute = 60;
  const hour = 3600;
  const day = 24 * hour;
  const cases: readonly (readonly [number, string])[] = [
    [0, 'Less than a second'],
    [1.9, '1 second'],
    [59.9, '59 seconds'],
    [minute, 'About a minute'],
    [2 * minute, '2 minutes'],
    [59.9 * minute, '59 minutes'],
    [hour, 'About an hour'],
    [1.4 * hour, 'About an hour'],
    [1.6 * hour, '2 hours'],
    [47 * hour, '47 hours'],
    [47.6 * hour, '2 days'],
    [13.9 * day, '13 days'],
    [14 * day, '2 weeks'],
    [59 * day, '8 weeks'],
    [60 * day, '2 months'],
    [729 * day, '24 months'],
    [730 * day, '2 years'],
  ];
  for (const [seconds, words] of cases) {
    it(`${seconds} s are "${words}"`, () => assert.equal(humanDuration(seconds), words));
  }

  it('are not negative where a clock was set back, and N/A where there is no time', () => {
    assert.equal(secondsBetween(5_000_000_000n, 0n), 0);
    assert.equal(humanAge(5_000_000_000n, 0n), 'Less than a second ago');
    assert.equal(humanAge(0n, 5n), 'N/A');
  });

  it('have nine digits as time stamps, and keep the last', () => {
    assert.equal(timestamp(1_700_000_000_000_000_007n), '2023-11-14T22:13:20.000000007Z');
  });
});

describe('sizes', () => {
  const cases: readonly (readonly [bigint, string])[] = [
    [0n, '0B'],
    [999n, '999B'],
    [1_000n, '1kB'],
    [13_256n, '13.3kB'],
    [999_499n, '999kB'],
    [999_500n, '1MB'],
    [8_316_928n, '8.32MB'],
    [1_090_000_000n, '1.09GB'],
    [9_000_000_000_000_000_000n, '9EB'],
  ];
  for (const [bytes, words] of cases) {
    it(`${bytes} bytes are "${words}"`, () => assert.equal(humanSize(bytes), words));
  }
});

describe('names', () => {
  it('lose what people do not type', () => {
    assert.equal(familiar('docker.io/library/alpine:3'), 'alpine:3');
    assert.equal(familiar('docker.io/someone/app:3'), 'someone/app:3');
    assert.equal(familiar('registry.example/library/app'), 'registry.example/library/app');
  });

  it('are split at the tag, not at the port', () => {
    assert.deepEqual(splitTag('registry.example:5000/app'), { repository: 'registry.example:5000/app', tag: '<none>' });
    assert.deepEqual(splitTag('registry.example:5000/app:1'), { repository: 'registry.example:5000/app', tag: '1' });
  });

  it('are cut at characters, never inside one', () => {
    assert.equal(ellipsis('⚓⚓⚓⚓', 3), '⚓⚓…');
    assert.equal(ellipsis('😀😀😀😀', 3), '😀😀…');
    assert.equal(ellipsis('abc', 3), 'abc');
    assert.equal(shortId(`sha256:${'ab'.repeat(32)}`), 'abababababab');
  });
});

describe('tables', () => {
  it('have columns of ten at least, three of them a gap, and no space at the end of a line', () => {
    assert.equal(
      table(
        ['A', 'B'],
        [
          ['a', ''],
          ['12345678', 'b'],
        ],
      ),
      'A          B\na          \n12345678   b\n',
    );
  });

  it('show a control character instead of sending it', () => {
    assert.equal(table(['A'], [['a\x1b[2J\nb']]), 'A\na\\u001b[2J\\nb\n');
  });
});

describe('JSON output', () => {
  it('is one object a line, 64-bit numbers included', () => {
    assert.equal(jsonLines([{ sizeBytes: 5n }, { text: 'a\nb' }]), '{"sizeBytes":5}\n{"text":"a\\nb"}\n');
  });
});

describe('the progress of a pull', () => {
  const layer = (id: string, phase: Phase, doneBytes = 0n, totalBytes = 10_000_000n): LayerProgress => ({
    digest: `sha256:${id.repeat(32)}`,
    phase,
    doneBytes,
    totalBytes,
  });

  class Terminal {
    readonly isTTY = true;
    readonly columns = 60;
    written = '';
    constructor(readonly rows: number) {}
    write(text: string): void {
      this.written += text;
    }
  }

  it('redraws its lines where they were', () => {
    const terminal = new Terminal(24);
    const display = progressDisplay(terminal, false);
    display.update({ layers: [layer('aa', Phase.PRESENT), layer('bb', Phase.DOWNLOADING, 5_000_000n)] });
    assert.match(terminal.written, /aaaaaaaaaaaa: Already exists\n/);
    assert.match(terminal.written, /bbbbbbbbbbbb: Downloading \[=+>? *\]/);
    assert.match(terminal.written, /Total: +\[=+>? *\] +5MB\/10MB/);

    terminal.written = '';
    display.update({ layers: [layer('bb', Phase.DONE)] });
    assert.ok(terminal.written.startsWith('\x1b[3A\r\x1b[Kaaaaaaaaaaaa'));
    assert.match(terminal.written, /bbbbbbbbbbbb: Pull complete\n/);
    assert.doesNotMatch(terminal.written, /Total/);
  });

  it('never draws a line that wraps, nor more lines than there are', () => {
    const terminal = new Terminal(6);
    const many = Array.from({ length: 40 }, (_, i) => layer(String(10 + i), Phase.DOWNLOADING, 1_234_567n));
    progressDisplay(terminal, false).update({ layers: many });
    const lines = terminal.written
      .replace(/\x1b\[\d*[AKJ]|\r/g, '')
      .trimEnd()
      .split('\n');
    assert.equal(lines.length, 4);
    assert.ok(lines.every(line => line.length < 60));
    assert.equal(lines.at(-2), '0 of 40 layers are here');
    assert.match(lines.at(-1) ?? '', /^Total: /);
  });

  it('shows bytes alone when the whole is not known', () => {
    const terminal = new Terminal(24);
    progressDisplay(terminal, false).update({ layers: [layer('aa', Phase.DOWNLOADING, 5_000_000n, 0n)] });
    assert.match(terminal.written, /Downloading 5MB\n/);
  });

  it('says nothing when it is to be quiet', () => {
    const terminal = new Terminal(24);
    progressDisplay(terminal, true).update({ layers: [layer('aa', Phase.DONE)] });
    assert.equal(terminal.written, '');
  });
});
