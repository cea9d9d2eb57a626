import { readFileSync } from 'node:fs';
import { BerthError, messageOf } from '../../base/errors';
import type { KeyValue } from '../../cri/generated/berth/v1/berth';

/** This process's environment, in bytes: `process.env` would replace what is not UTF-8. */
export type Environ = ReadonlyMap<string, Buffer>;

export function ownEnviron(): Environ {
  const entries = splitBytes(readFileSync('/proc/self/environ'), 0).map(entry => keyAndValue(entry));
  return new Map(entries.map(({ key, value }) => [key, value ?? Buffer.alloc(0)]));
}

/** `--env-file` before `-e`, so that the command line has the last word. */
export function parseEnv(flags: readonly string[], files: readonly string[], environ: Environ): KeyValue[] {
  const fromFiles = files.flatMap(file => parseEnvFile(file, readEnvFile(file), environ));
  return [...fromFiles, ...flags.flatMap(flag => parseEntry(Buffer.from(flag), `-e ${flag}`, environ))];
}

/** A line is `KEY=VALUE` or `KEY`; lines that are empty or begin with # are skipped; nothing is unquoted. */
export function parseEnvFile(file: string, content: Buffer, environ: Environ): KeyValue[] {
  return splitBytes(content, 0x0a).flatMap((line, index) => {
    const entry = trimLine(line);
    if (entry.length === 0 || entry[0] === 0x23) return [];
    return parseEntry(entry, `${file}:${index + 1}`, environ);
  });
}

/** `KEY=VALUE`, or `KEY`, which takes the value that the key has here and is left out where it has none. */
function parseEntry(entry: Buffer, where: string, environ: Environ): KeyValue[] {
  const { key, value } = keyAndValue(entry);
  if (key === '' || /\s/.test(key)) {
    throw new BerthError(
      'invalid_argument',
      `${where} is not a variable: its name is ${key === '' ? 'empty' : `"${key}"`}`,
      {
        hint: 'write KEY=VALUE or KEY',
      },
    );
  }
  const found = value ?? environ.get(key);
  return found === undefined ? [] : [{ key, value: found }];
}

function keyAndValue(entry: Buffer): { key: string; value: Buffer | undefined } {
  const equals = entry.indexOf(0x3d);
  if (equals < 0) return { key: entry.toString(), value: undefined };
  return { key: entry.subarray(0, equals).toString(), value: entry.subarray(equals + 1) };
}

function readEnvFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new BerthError('invalid_argument', `--env-file ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Without the white space before it, the carriage return after it, and a byte order mark. */
function trimLine(line: Buffer): Buffer {
  let start = line.indexOf('\ufeff') === 0 ? 3 : 0;
  while (line[start] === 0x20 || line[start] === 0x09) start++;
  return line.subarray(start, line.at(-1) === 0x0d ? line.length - 1 : line.length);
}

function splitBytes(bytes: Buffer, separator: number): Buffer[] {
  const parts: Buffer[] = [];
  let start = 0;
  for (let end; (end = bytes.indexOf(separator, start)) >= 0; start = end + 1) parts.push(bytes.subarray(start, end));
  if (start < bytes.length) parts.push(bytes.subarray(start));
  return parts;
}
