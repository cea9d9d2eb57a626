import { readFileSync } from 'node:fs';
import { BerthError, messageOf } from '../../base/errors';

/** The values of `--label` and its like: KEY=VALUE, or KEY with an empty value; the last of a key counts. */
export function parseLabels(texts: readonly string[], flag = '--label'): Record<string, string> {
  return Object.fromEntries(texts.map(text => parseLabel(text, flag)));
}

/** `--label-file`: a label a line; empty lines and those that begin with # are none. */
export function parseLabelFiles(files: readonly string[]): Record<string, string> {
  return Object.assign({}, ...files.map(labelsIn)) as Record<string, string>;
}

function labelsIn(file: string): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new BerthError('invalid_argument', `--label-file ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const lines = text.split('\n').map(line => line.trim());
  return parseLabels(
    lines.filter(line => line !== '' && !line.startsWith('#')),
    `--label-file ${file}`,
  );
}

function parseLabel(text: string, flag: string): [string, string] {
  const equals = text.indexOf('=');
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key === '') throw new BerthError('invalid_argument', `${flag} ${text}: the key is empty`);
  return [key, equals < 0 ? '' : text.slice(equals + 1)];
}
