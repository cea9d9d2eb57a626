import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { verbs, type Group, type Verb } from '../../../src/cli/verbs';
import { repoRoot } from '../../support/repo';

describe('the verbs', () => {
  it('are all in the table of the README', () => {
    const readme = readFileSync(join(repoRoot, 'README.md'), 'utf8');
    const table = /### Verbs\n([^]*?)\n### /.exec(readme)?.[1] ?? '';
    const shown = Object.entries(verbs).filter(([, verb]) => !('isHidden' in verb));
    const missing = shown.map(([name]) => name).filter(name => !table.includes(`\`${name}\``));
    assert.deepEqual(missing, []);
  });

  it('of one container are there with and without the word container', async () => {
    const names =
      'attach commit cp create diff exec inspect kill logs pause port rename restart rm run start stats stop top unpause wait';
    const group = verbs['container'];
    assert.ok(group && 'verbs' in group);
    for (const name of names.split(' ')) {
      const inGroup: Verb | undefined = group.verbs[name];
      const alone: Verb | Group | undefined = verbs[name];
      assert.ok(inGroup && alone && 'load' in alone, name);
      if (name !== 'inspect') assert.equal(await inGroup.load(), await alone.load(), name);
    }
  });
});
