import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { repoRoot } from '../../support/repo';
import { scratchDirectory } from '../../vm/scratch';

describe('what is for a guest', function () {
  this.timeout(120_000);

  it('does not run on the machine itself, whose pods it would end', () => {
    const { BERTH_TEST_CGROUP: _, ...env } = process.env;
    const files = readdirSync(join(repoRoot, 'test/vm')).filter(name => name.endsWith('.test.ts'));
    assert.ok(files.length > 0);
    for (const file of files) {
      const compiled = join('dist/test/vm', file.replace(/\.ts$/, '.js'));
      // Nothing but loaded, should it not be refused.
      const args = ['node_modules/.bin/mocha', '--dry-run', '--no-config', compiled];
      const { stderr, status } = spawnSync(process.execPath, args, { cwd: repoRoot, env, encoding: 'utf8' });
      assert.notEqual(status, 0, file);
      assert.match(stderr, /run in a guest alone: run make test-vm/, file);
    }
  });

  it('leaves directories behind when it is killed, which the next one removes, and no others', () => {
    const dir = mkdtempSync(join(tmpdir(), 'berth-scratch-'));
    try {
      const own = scratchDirectory(dir, 'run-');
      const left = basename(own).replace(`-${process.pid}-`, '-4194305-');
      const kept = [basename(own), left.replace('run-', 'base-'), 'run-7-4194305-x', 'run-xyz'];
      for (const name of [left, ...kept]) mkdirSync(join(dir, name), { recursive: true });
      const second = scratchDirectory(dir, 'run-');
      assert.deepEqual(readdirSync(dir).sort(), [...kept, basename(second)].sort());
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
