import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { verbs } from '../../../src/cli/verbs';
import { repoRoot } from '../../support/repo';

describe('the verbs', () => {
  it('are all in the table of the README', () => {
    const readme = readFileSync(join(repoRoot, 'README.md'), 'utf8');
    const table = /### Verbs\n([^]*?)\n### /.exec(readme)?.[1] ?? '';
    const shown = Object.entries(verbs).filter(([, verb]) => !('isHidden' in verb));
    const missing = shown.map(([name]) => name).filter(name => !table.includes(`\`${name}\``));
    assert.deepEqual(missing, []);
  });
});
