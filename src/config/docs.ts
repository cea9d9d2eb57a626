import { z } from 'zod';
import { schema } from './schema';

interface Leaf {
  key: string;
  value: string;
  fallback: unknown;
  meaning: string;
}

/** All keys of the configuration as a Markdown table, its columns aligned. */
export function configTable(): string {
  const rows = leavesOf(z.toJSONSchema(schema, { io: 'input' }), '').map(({ key, value, fallback, meaning }) => [
    `\`${key}\``,
    value,
    fallback === undefined ? '' : `\`${JSON.stringify(fallback)}\``,
    meaning,
  ]);
  return aligned([['Key', 'Value', 'Default', 'Meaning'], ...rows]);
}

function leavesOf(node: z.core.JSONSchema.BaseSchema, key: string): Leaf[] {
  const { properties, additionalProperties, title = '', default: fallback, description = '' } = node;
  // Tables with names of people's own.
  if (typeof additionalProperties === 'object') return leavesOf(additionalProperties, `${key}.<name>`);
  // A table that has a title is a value of its own.
  if (properties === undefined || title !== '') return [{ key, value: title, fallback, meaning: description }];
  return Object.entries(properties).flatMap(([name, inner]) => {
    if (typeof inner === 'boolean') return [];
    return leavesOf(inner, key === '' ? name : `${key}.${name}`);
  });
}

function aligned([head = [], ...body]: string[][]): string {
  const rows = [head, ...body].map(row => row.map(cell => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  const lines = rows.map(row => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  const rule = `| ${widths.map(width => '-'.repeat(width)).join(' | ')} |`;
  return [...lines.slice(0, 1), rule, ...lines.slice(1)].join('\n');
}
