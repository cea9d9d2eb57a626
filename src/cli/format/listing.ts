import { BerthError } from '../../base/errors';
import { table } from './table';
import { parseTemplate, type Fields, type Template } from './template';

/** What `--format` of a list says: a table of these fields, one object a line, or a template. */
export type ListFormat =
  | { kind: 'table'; fields: readonly string[] | undefined }
  | { kind: 'json' }
  | { kind: 'template'; template: Template };

/** Headers of tables, by field, in docker's words. */
export type Headers = Readonly<Record<string, string>>;

/** The parser of `--format` for a list with these fields. */
export function listFormat(headers: Headers): (text: string) => ListFormat {
  return text => {
    if (text === 'table') return { kind: 'table', fields: undefined };
    if (text === 'json') return { kind: 'json' };
    if (/^table\s|^table\\t/.test(text)) return { kind: 'table', fields: columnsOf(text, headers) };
    if (text.includes('{{')) return { kind: 'template', template: parseTemplate(text, Object.keys(headers)) };
    throw new BerthError('invalid_argument', `--format ${text} is not known`, {
      hint: `it is table, json or a template; fields are ${named(headers)}`,
    });
  };
}

/** `table {{.ID}}\t{{.Names}}`: a column for each field. */
function columnsOf(text: string, headers: Headers): string[] {
  const rest = text.replace(/^table(\s|\\t)*/, '');
  const columns = rest.split(/\\t|\t/).map(part => /^\s*\{\{\s*\.(\w+)\s*\}\}\s*$/.exec(part)?.[1]);
  return columns.map(field => {
    if (field !== undefined && Object.hasOwn(headers, field)) return field;
    throw new BerthError(
      'invalid_argument',
      `--format ${text}: ${field === undefined ? 'a column is a field' : `there is no .${field}`}`,
      {
        hint: `write table {{.ID}}\\t{{.Names}}; fields are ${named(headers)}`,
      },
    );
  });
}

function named(headers: Headers): string {
  return Object.keys(headers)
    .map(field => `.${field}`)
    .join(' ');
}

/** The list as text. `columns` are those of a table without a word of its own; `toJson` is what a line is in JSON. */
export function listing(
  format: ListFormat,
  headers: Headers,
  columns: readonly string[],
  rows: readonly { fields: Fields; json: object }[],
): string {
  switch (format.kind) {
    case 'json':
      return rows.map(({ fields, json }) => `${JSON.stringify({ ...fields, ...json })}\n`).join('');
    case 'template':
      return rows.map(({ fields }) => format.template(fields)).join('');
    case 'table': {
      const shown = format.fields ?? columns;
      return table(
        shown.map(field => headers[field] ?? field.toUpperCase()),
        rows.map(({ fields }) => shown.map(field => textOf(fields[field]))),
      );
    }
  }
}

function textOf(value: Fields[string] | undefined): string {
  return typeof value === 'string' ? value : '';
}
