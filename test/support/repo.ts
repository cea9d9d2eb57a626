import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The root of the checkout: tests run from dist/, but read sources. */
export const repoRoot = findRoot(__dirname);

function findRoot(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findRoot(dirname(from));
}
