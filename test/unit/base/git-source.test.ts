import assert from 'node:assert/strict';
import { isSsh, parseGitSource } from '../../../src/base/git-source';

describe('a repository that is a source of files', () => {
  it('is reached by ssh, or is not', () => {
    for (const remote of ['git@host:app', 'me@host:dir/app.git', 'ssh://host/app', 'ssh://git@host:22/app'])
      assert.ok(isSsh(remote), remote);
    for (const remote of ['git://host/app', 'https://me:word@host/app.git', 'http://host/a@b:c.git'])
      assert.ok(!isSsh(remote), remote);
  });

  it('has a remote, a state and a directory', () => {
    const app = { remote: 'git@host:a/app.git', ref: 'v1', directory: 'sub/dir' };
    assert.deepEqual(parseGitSource('git@host:a/app.git#v1:sub/dir/'), app);
    assert.deepEqual(parseGitSource('ssh://git@[::1]:22/app'), {
      remote: 'ssh://git@[::1]:22/app',
      ref: '',
      directory: '',
    });
  });

  it('is refused when git or ssh would take a part of it for an option', () => {
    for (const remote of [
      'ssh://-oProxyCommand=touch%20x/app',
      'ssh://git@-oProxyCommand=x/app',
      'ssh://%2DoProxyCommand=x/app',
      'ssh://-x@host/app',
      'ssh://host:-1/app',
      'ssh://host/-app',
      'ssh://host/-app#main',
      '-F@host:app',
      'git@-oProxyCommand=x:app',
      'git@host:-app',
      'git@host:/-app',
      'git@ho st:app',
    ])
      assert.throws(() => parseGitSource(remote), /a user, a host or a path of ssh cannot look like that/, remote);
    assert.equal(parseGitSource('https://me:-word@host/app.git').remote, 'https://me:-word@host/app.git');
    assert.equal(parseGitSource('ssh://my-host/my-app').remote, 'ssh://my-host/my-app');
  });
});
