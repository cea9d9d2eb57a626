import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withConfigTable } from '../../support/config-table';
import { repoRoot } from '../../support/repo';

describe('the README', () => {
  it('has the table of config keys that the schema makes; `make format` writes it', () => {
    const page = readFileSync(join(repoRoot, 'README.md'), 'utf8');
    assert.equal(page, withConfigTable(page));
  });
});
