import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { verbs } from '../../src/cli/verbs';
import { berth } from './berth';
import { FakeDaemon } from './fake-daemon';

describe('berth and its daemon', () => {
  it('version shows both', async () => {
    await using daemon = await FakeDaemon.start({
      version: (_, reply) => {
        const names = {
          version: '9.8.7',
          gitCommit: '',
          nodeVersion: 'v20',
          kernelVersion: '6.1',
          os: 'linux',
          arch: 'arm64',
        };
        reply(null, { ...names, startedAtNs: 0n });
      },
    });
    const { stdout, code } = await berth(daemon, ['version']);
    assert.equal(code, 0);
    assert.match(stdout, /^Client:\n Version: {5}0\.1\.0\n[^]*\nServer:\n Version: {5}9\.8\.7\n/);
    assert.doesNotMatch(stdout, /Git commit/);

    const json = JSON.parse((await berth(daemon, ['version', '--format', 'json'])).stdout) as { server: object };
    assert.equal('version' in json.server && json.server.version, '9.8.7');
  });

  it('says where no daemon answers, why, and what to do, when there is no socket', async () => {
    const ended = await berth('/nowhere/berth.sock', ['ps']);
    const stderr = 'berth: no daemon answers on /nowhere/berth.sock (no such file); start it with: berthd\n';
    assert.deepEqual(ended, { code: 1, stdout: '', stderr });
    assert.equal((await berth('/nowhere/berth.sock', ['run', 'alpine'])).code, 125);
  });

  it('and when nobody listens on it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'berth-cli-'));
    const socket = join(folder, 'berth.sock');
    // A process that is killed leaves its socket behind.
    const listener = spawn(process.execPath, [
      '-e',
      `net.createServer().listen('${socket}', () => process.kill(process.pid, 9))`,
    ]);
    await once(listener, 'close');
    assert.ok(existsSync(socket));

    const { stderr } = await berth(socket, ['ps']);
    rmSync(folder, { recursive: true });
    const why = 'the socket is there, nobody listens';
    assert.equal(stderr, `berth: no daemon answers on ${socket} (${why}); start it with: berthd\n`);
  });

  it('says so when the daemon is too old for a call', async () => {
    await using daemon = await FakeDaemon.start({});
    const { stderr } = await berth(daemon, ['ps']);
    assert.match(stderr, /^berth: the daemon on .* cannot do this: .*; compare the two with: berth version\n$/);
  });

  it('--host goes before BERTH_HOST, and is a unix socket', async () => {
    const { stderr } = await berth('/nowhere/a.sock', ['--host', 'unix:///nowhere/b.sock', 'ps']);
    assert.match(stderr, /\/nowhere\/b\.sock/);
    assert.match(
      (await berth('/nowhere', ['--host', 'tcp://x:1', 'ps'])).stderr,
      /^berth: host "tcp:\/\/x:1" is not a unix/,
    );
  });
});

describe('the help of berth', () => {
  it('suggests what was meant', async () => {
    const verb = await berth('/nowhere', ['rnu']);
    assert.deepEqual(verb, { code: 1, stdout: '', stderr: "berth: unknown command 'rnu'; did you mean run?\n" });
    const flag = await berth('/nowhere', ['ps', '--quite']);
    assert.equal(flag.stderr, "berth: unknown option '--quite'; did you mean --quiet?\n");
    const missing = await berth('/nowhere', ['stop']);
    assert.equal(missing.stderr, "berth: missing required argument 'container'; see: berth stop --help\n");
  });

  it('has an example for every verb', async () => {
    const shown = Object.entries(verbs).filter(([, verb]) => !('isHidden' in verb));
    for (const [verb] of shown) {
      const { stdout, stderr, code } = await berth('/nowhere', [verb, '--help']);
      assert.equal(code, 0);
      assert.equal(stderr, '');
      assert.match(stdout, new RegExp(`^Usage: berth ${verb} [^]*\nExample: .*berth ${verb} `));
    }
  }).timeout(240_000);

  it('is also reached by the verb help', async () => {
    const [help, flag] = await Promise.all([berth('/nowhere', ['help', 'run']), berth('/nowhere', ['run', '--help'])]);
    assert.equal(help.stdout, flag.stdout);
  });
});
