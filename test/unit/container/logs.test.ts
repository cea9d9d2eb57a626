import assert from 'node:assert/strict';
import { appendFileSync, renameSync, writeFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { joinRecords, type LogRecord, type LogStream } from '../../../src/container/log-records';
import { readLog, type Follow } from '../../../src/container/logs';
import { tempFolder } from '../../support/temp';

const everything = { tail: undefined, sinceNs: 0n };

describe('the log of a container', () => {
  const { path, write } = tempFolder();

  const read = async (file: string, range: { tail: number | undefined; sinceNs: bigint } = everything) => {
    const records: LogRecord[] = [];
    for await (const batch of readLog(file, range)) records.push(...batch);
    return records;
  };

  it('is read byte for byte, with the newline at the end of a line and none after a part', async () => {
    const file = write(
      'log',
      [line(1, 'stdout', 'F', 'a b '), line(2, 'stderr', 'P', ' c'), line(3, 'stdout', 'F', '')].join(''),
    );
    assert.deepEqual((await read(file)).map(text), ['stdout:a b \n', 'stderr: c', 'stdout:\n']);
  });

  it('is what its streams say in their order, with adjacent records of a stream as one', async () => {
    const file = write(
      'log',
      [
        line(1, 'stdout', 'F', 'a'),
        line(2, 'stdout', 'P', 'b'),
        line(3, 'stderr', 'F', 'c'),
        line(4, 'stdout', 'F', 'd'),
      ].join(''),
    );
    const joined = joinRecords(await read(file)).map(({ stream, data }) => [stream, data.toString()]);
    assert.deepEqual(joined, [
      ['stdout', 'a\nb'],
      ['stderr', 'c\n'],
      ['stdout', 'd\n'],
    ]);
  });

  it('has times in nanoseconds, of any zone, and is read from one of them on', async () => {
    const file = write('log', '2026-01-31T09:00:00.000000001+01:00 stdout F x\n2026-01-31T08:00:00.5Z stdout F y\n');
    const at = BigInt(Date.parse('2026-01-31T08:00:00Z')) * 1_000_000n;
    assert.deepEqual(
      (await read(file)).map(({ timeNs }) => timeNs),
      [at + 1n, at + 500_000_000n],
    );
    assert.deepEqual((await read(file, { tail: undefined, sinceNs: at + 2n })).map(text), ['stdout:y\n']);
  });

  it('may hold what is no record, which is passed over', async () => {
    const file = write(
      'log',
      `\n\nnonsense\n${line(1, 'stdout', 'F', 'x')}2026 stdout F y\n${line(2, 'stdout', 'F', 'z')}cut of`,
    );
    assert.deepEqual((await read(file)).map(text), ['stdout:x\n', 'stdout:z\n']);
    assert.deepEqual((await read(file, { tail: 1, sinceNs: 0n })).map(text), ['stdout:z\n']);
  });

  it('has a tail that is counted in lines over both streams, parts of a line between those of another', async () => {
    const pieces = fc.record({
      stream: fc.constantFrom<LogStream>('stdout', 'stderr'),
      tag: fc.constantFrom('F', 'P'),
      length: fc.oneof(fc.nat(20), fc.constant(40_000)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 30 }), fc.nat(12), async (records, tail) => {
        const lines = records.map(({ stream, tag, length }, i) => line(i, stream, tag, `${i}${'x'.repeat(length)}`));
        const file = write('log', lines.join(''));
        const all = await read(file);
        assert.equal(all.length, records.length);
        assert.deepEqual((await read(file, { tail, sinceNs: 0n })).map(text), lastLines(all, tail).map(text));
      }),
      { numRuns: 150 },
    );
  }).timeout(30_000);

  it('is followed as it grows, half a record at a time, to what was written before the end', async () => {
    const file = write('log', line(1, 'stdout', 'F', 'one'));
    const container = new FakeEnd();
    const following = collect(file, container);
    await container.watched;
    const [half, rest] = [line(2, 'stdout', 'F', 'two').slice(0, 20), line(2, 'stdout', 'F', 'two').slice(20)];
    appendFileSync(file, half);
    await turn();
    appendFileSync(file, rest);
    await following.until('two');
    appendFileSync(file, line(3, 'stdout', 'F', 'three'));
    container.end();
    assert.deepEqual(await following.done, ['one', 'two', 'three']);
  });

  it('is followed into the file that takes its place', async () => {
    const file = write('log', line(1, 'stdout', 'F', 'one'));
    const container = new FakeEnd();
    const following = collect(file, container);
    await following.until('one');
    renameSync(file, path('log.1'));
    appendFileSync(path('log.1'), line(2, 'stdout', 'F', 'late'));
    writeFileSync(file, line(3, 'stdout', 'F', 'new'));
    await following.until('new');
    container.end();
    assert.deepEqual(await following.done, ['one', 'late', 'new']);
  });

  it('ends for a follower who goes away', async () => {
    const file = write('log', '');
    const container = new FakeEnd();
    const following = collect(file, container);
    await container.watched;
    container.gone.abort();
    await assert.rejects(following.done, { kind: 'cancelled' });
  });
});

function line(second: number, stream: LogStream, tag: string, data: string): string {
  return `2026-01-01T00:00:${String(second % 60).padStart(2, '0')}.123456789Z ${stream} ${tag} ${data}\n`;
}

function text({ stream, data }: LogRecord): string {
  return `${stream}:${data.toString()}`;
}

/** The same by the definition: a line is a run of parts of one stream and the record that ends it. */
function lastLines(records: readonly LogRecord[], count: number): LogRecord[] {
  const lineOf = new Map<LogRecord, LogRecord[]>();
  const open = new Map<LogStream, LogRecord[]>();
  const lines: LogRecord[][] = [];
  for (const record of records) {
    const line = open.get(record.stream) ?? [];
    line.push(record);
    lineOf.set(record, line);
    if (record.data.at(-1) === 0x0a) {
      lines.push(line);
      open.delete(record.stream);
    } else open.set(record.stream, line);
  }
  const last = (line: LogRecord[]) => line.at(-1)?.offset ?? 0;
  const kept = new Set([...lines, ...open.values()].sort((a, b) => last(b) - last(a)).slice(0, count));
  return records.filter(record => kept.has(lineOf.get(record) ?? []));
}

class FakeEnd implements Follow {
  readonly gone = new AbortController();
  readonly signal = this.gone.signal;
  end: () => void = () => undefined;
  onWatching: () => void = () => undefined;
  readonly ended = new Promise<void>(resolve => (this.end = resolve));
  readonly watched = new Promise<void>(resolve => (this.onWatching = resolve));
}

/** Follows a log in the background; `until` resolves once a line was seen. */
function collect(file: string, follow: Follow) {
  const seen: string[] = [];
  let wake: () => void = () => undefined;
  const run = async () => {
    for await (const records of readLog(file, everything, follow)) {
      seen.push(...records.map(({ data }) => data.toString().trimEnd()));
      wake();
    }
    return seen;
  };
  const until = async (line: string) => {
    while (!seen.includes(line)) await new Promise<void>(resolve => (wake = resolve));
  };
  return { done: run(), until };
}
