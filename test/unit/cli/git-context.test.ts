import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { GitContext } from '../../../src/cli/git-context';
import { tempFolder } from '../../support/temp';

describe('a repository that is built from', () => {
  const { path, write } = tempFolder();
  let server: Server;
  let url: string;

  beforeEach(async () => {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', path('work'), '-c', 'user.name=x', '-c', 'user.email=x@y', ...args], {
        stdio: 'ignore',
      });
    write('work/sub/file', 'contents');
    git('init', '-q', '-b', 'main');
    git('add', '-A');
    git('commit', '-qm', 'first');
    git('clone', '-q', '--bare', path('work'), path('files/app.git'));
    git('-C', path('files/app.git'), 'update-server-info');
    server = createServer(({ url: asked = '' }, reply) => {
      const file = path('files', new URL(asked, 'http://localhost').pathname);
      const isThere = existsSync(file);
      reply.writeHead(isThere ? 200 : 404).end(isThere ? readFileSync(file) : '');
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/app.git`;
  });
  afterEach(() => void server.close());

  it('may be on a server that has files alone, and so no part of a history', async () => {
    let dir: string;
    {
      using context = await GitContext.clone(`${url}#main:sub`);
      dir = context.dir;
      assert.deepEqual(readdirSync(dir), ['file']);
      assert.equal(readFileSync(join(dir, 'file'), 'utf8'), 'contents');
    }
    assert.ok(!existsSync(dir));
  });
});
