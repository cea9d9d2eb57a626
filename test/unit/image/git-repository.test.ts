import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { forgetCredentials } from '../../../src/image/git-repository';

describe('what git knows of a repository and an image keeps', () => {
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-git-'))));
  afterEach(() => rmSync(dir, { recursive: true }));

  it('has no credentials, those of submodules neither, and what links lead to is left alone', async () => {
    const gitDir = join(dir, '.git');
    const at = (path: string) => join(gitDir, path);
    execFileSync('git', ['init', '-q', '--template=', dir]);
    execFileSync('git', ['-C', dir, 'remote', 'add', 'origin', 'https://user:se%20cret@registry.example/app.git']);
    const config = '[remote "origin"]\n\turl = https://token@registry.example/lib.git\n[x]\n\tmail = a@b.c/d\n';
    for (const path of ['modules/lib/config', 'modules/lib/modules/deep/er/config', '../others']) {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), config);
    }
    symlinkSync(at('../others'), at('modules/config'));
    await forgetCredentials(gitDir);
    const url = execFileSync('git', ['-C', dir, 'remote', 'get-url', 'origin'], { encoding: 'utf8' });
    assert.equal(url, 'https://registry.example/app.git\n');
    for (const path of ['modules/lib/config', 'modules/lib/modules/deep/er/config'])
      assert.equal(readFileSync(at(path), 'utf8'), config.replace('token@', ''));
    assert.equal(readFileSync(at('../others'), 'utf8'), config);
  });
});
