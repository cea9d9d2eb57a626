/**
 * The log that the kubelet reads, a record a line:
 *
 *     2006-01-02T15:04:05.999999999Z stdout F text
 *
 * `F` ends a line of output, `P` is a part of one that goes on in the stream's next record.
 */
export type LogStream = 'stdout' | 'stderr';

export interface LogRecord {
  timeNs: bigint;
  stream: LogStream;
  /** As the container wrote it: with the newline at the end of a line, without one for a part. */
  data: Buffer;
  /** Where the record begins in the file. */
  offset: number;
}

export const NEWLINE = 0x0a;
const SPACE = 0x20;
const PART = 0x50;

/** Reads one record, its newline included; undefined for anything else. The data is a view of `line`. */
export function parseRecord(line: Buffer, offset: number): LogRecord | undefined {
  const first = line.indexOf(SPACE);
  const second = line.indexOf(SPACE, first + 1);
  const third = line.indexOf(SPACE, second + 1);
  if (first < 0 || second < 0 || third < 0 || line.at(-1) !== NEWLINE) return undefined;
  const timeNs = parseTime(line.toString('latin1', 0, first));
  const stream = line.toString('latin1', first + 1, second);
  if (timeNs === undefined || (stream !== 'stdout' && stream !== 'stderr')) return undefined;
  const isPart = line[second + 1] === PART;
  return { timeNs, stream, offset, data: line.subarray(third + 1, isPart ? -1 : line.length) };
}

/** All records of a buffer that begins and ends with one. What is no record is passed over. */
export function parseRecords(text: Buffer, offset: number): LogRecord[] {
  const records: LogRecord[] = [];
  for (let at = 0; at < text.length;) {
    const newline = text.indexOf(NEWLINE, at);
    const end = newline < 0 ? text.length : newline + 1;
    const record = parseRecord(text.subarray(at, end), offset + at);
    if (record) records.push(record);
    at = end;
  }
  return records;
}

/** What records say, adjacent ones of a stream as one. */
export function joinRecords(records: readonly LogRecord[]): { stream: LogStream; data: Buffer }[] {
  const runs: { stream: LogStream; parts: Buffer[] }[] = [];
  for (const { stream, data } of records) {
    const last = runs.at(-1);
    if (last?.stream === stream) last.parts.push(data);
    else runs.push({ stream, parts: [data] });
  }
  return runs.map(({ stream, parts }) => ({ stream, data: Buffer.concat(parts) }));
}

export function endsLine({ data }: LogRecord): boolean {
  return data.at(-1) === NEWLINE;
}

let lastSecond = '';
let lastSecondNs = 0n;

/** RFC 3339 in nanoseconds. Records come by the thousand a second: the second before is remembered. */
function parseTime(text: string): bigint | undefined {
  const match = /^(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!match) return undefined;
  const [, second = '', fraction = '', zone = ''] = match;
  if (second + zone !== lastSecond) {
    const ms = Date.parse(second + zone);
    if (Number.isNaN(ms)) return undefined;
    lastSecond = second + zone;
    lastSecondNs = BigInt(ms) * 1_000_000n;
  }
  return lastSecondNs + BigInt(fraction.padEnd(9, '0'));
}
