import { BerthError } from '../../base/errors';
import { printable } from './printable';

/** Fills a line in, its end included. */
export type Template = (fields: Readonly<Record<string, string>>) => string;

/** The simple half of docker's templates: `{{.Field}}`, `{{json .Field}}`, and `\t` and `\n` as they are written in shells. */
export function parseTemplate(text: string, fields: readonly string[]): Template {
  const pattern = /\{\{\s*(json\s+)?\.(\w+)\s*\}\}/g;
  const rest = text.replace(pattern, '');
  if (rest.includes('{{')) throw refused(text, 'only {{.Field}} and {{json .Field}} are understood', fields);
  for (const [, , field = ''] of text.matchAll(pattern))
    if (!fields.includes(field)) throw refused(text, `there is no .${field}`, fields);
  const plain = text.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
  return values =>
    `${plain.replace(pattern, (_, json: string | undefined, field: string) => {
      const value = values[field] ?? '';
      return json === undefined ? printable(value) : JSON.stringify(value);
    })}\n`;
}

function refused(text: string, why: string, fields: readonly string[]): BerthError {
  return new BerthError('invalid_argument', `--format ${text}: ${why}`, {
    hint: `fields are ${fields.map(field => `.${field}`).join(' ')}`,
  });
}
