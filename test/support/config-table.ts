import { readFileSync, writeFileSync } from 'node:fs';
import { configTable } from '../../src/config';

/** The page with a fresh table of config keys between its two markers. */
export function withConfigTable(page: string): string {
  const between = /(<!-- config-table -->\n)[^]*?(<!-- \/config-table -->)/;
  if (!between.test(page)) throw new Error('the page has no <!-- config-table --> … <!-- /config-table -->');
  return page.replace(between, (_, open: string, close: string) => `${open}\n${configTable()}\n\n${close}`);
}

if (require.main === module) {
  for (const file of process.argv.slice(2)) writeFileSync(file, withConfigTable(readFileSync(file, 'utf8')));
}
