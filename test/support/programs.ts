import { join } from 'node:path';
import { repoRoot } from './repo';

/**
 * What Node runs as berthd and as berth: what is shipped, which starts much sooner and is as new as the last `make build`;
 * else what was compiled, where a single file is run by hand.
 */
const isShipped = process.env['BERTH_TEST_BUNDLE'] !== undefined;

export const berthdFile = join(repoRoot, isShipped ? 'bin/berthd' : 'dist/src/main.js');
export const berthFile = join(repoRoot, isShipped ? 'bin/berth' : 'dist/src/cli/main.js');
