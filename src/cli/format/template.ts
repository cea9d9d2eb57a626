import { parseGoTemplate } from './go-template';
import { printable } from './printable';

/** A line, under the names that docker's templates have for its fields; some take an argument. */
export type Fields = Readonly<Record<string, string | ((argument: string) => string)>>;

/** Fills a line in, its end included. */
export type Template = (fields: Fields) => string;

/**
 * A template for lines of a list: `{{.Field}}` and all else that go-template.ts knows. Fields that no line has are refused
 * at once. What the fields hold cannot steer the terminal.
 */
export function parseTemplate(text: string, fields: readonly string[]): Template {
  const template = parseGoTemplate(text, printable);
  template(Object.fromEntries(fields.map(field => [field, field === 'Label' ? () => '' : ''])));
  return values => `${template(values)}\n`;
}
