import assert from 'node:assert/strict';
import { chmodSync, existsSync, lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';

describe('the daemon', function () {
  this.timeout(60_000);

  it('makes a socket that its group may use and others may not', async () => {
    await using daemon = await TestDaemon.start();
    const stat = lstatSync(daemon.socket);
    assert.ok(stat.isSocket());
    assert.equal(stat.mode & 0o777, 0o660);
    for (const dir of [daemon.root, daemon.state]) assert.equal(statSync(dir).mode & 0o777, 0o700, dir);
  });

  it('takes its socket away when it is told to end', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.stop();
    assert.equal(existsSync(daemon.socket), false);
  });

  it('ends in time although a caller holds its connection open', async () => {
    await using daemon = await TestDaemon.start();
    using client = new CriClient(daemon.socket);
    await client.call('Version');
    const startedAt = Date.now();
    await daemon.stop();
    assert.ok(Date.now() - startedAt < 20_000);
  });

  it('replaces the socket that a killed one has left', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.kill();
    assert.ok(existsSync(daemon.socket));
    await daemon.run();
    using client = new CriClient(daemon.socket);
    assert.equal((await client.call('Version')).runtimeName, 'berth');
  });

  it('refuses a socket that another program answers on, and leaves it alone', async () => {
    await using daemon = await TestDaemon.prepare();
    mkdirSync(daemon.state);
    const other = createServer().listen(daemon.socket);
    await once(other, 'listening');
    try {
      const { code, said } = await daemon.runToEnd();
      assert.equal(code, 1);
      assert.match(said, /another daemon answers on .*cri\.sock; .*--state/);
      assert.ok(existsSync(daemon.socket));
    } finally {
      other.close();
      await once(other, 'close');
    }
  });

  it('refuses a directory that another one uses', async () => {
    await using first = await TestDaemon.start();
    await using second = await TestDaemon.prepare();
    const { code, said } = await second.runToEnd(['--root', first.root]);
    assert.equal(code, 1);
    assert.match(said, /another daemon uses .*root; stop it first/);
    using client = new CriClient(first.socket);
    await client.call('Version');
  });

  it('runs beside another one, each with its own pods', async () => {
    await using one = await TestDaemon.start();
    await using two = await TestDaemon.start();
    using first = new CriClient(one.socket);
    using second = new CriClient(two.socket);
    const config = { metadata: { name: 'p', namespace: 'n', uid: 'u', attempt: 0 } };
    const [a, b] = await Promise.all([first, second].map(client => client.call('RunPodSandbox', { config })));
    assert.notEqual(a?.podSandboxId, b?.podSandboxId);
    assert.deepEqual(
      (await first.call('ListPodSandbox')).items.map(({ id }) => id),
      [a?.podSandboxId],
    );
    await two.stop();
    await first.call('RemovePodSandbox', { podSandboxId: a?.podSandboxId });
    assert.deepEqual((await first.call('ListPodSandbox')).items, []);
  });

  for (const [what, config, message] of [
    ['an unknown key', 'rot = "/x"', /rot.*\n?/],
    ['an unknown table', '[nosuch]\nx = 1', /nosuch/],
    ['a value of the wrong kind', '[registry]\nmax_concurrent_downloads = "3"', /max_concurrent_downloads/],
    ['what is no TOML', 'x = = 1', /config\.toml/],
  ] as const) {
    it(`refuses to start with ${what} in its configuration`, async () => {
      await using daemon = await TestDaemon.prepare();
      writeFileSync(daemon.configFile, `${config}\n`);
      const { code, said } = await daemon.runToEnd();
      assert.equal(code, 1);
      assert.match(said, message);
      assert.equal(existsSync(daemon.socket), false);
    });
  }

  it('refuses a store that it cannot trust, and leaves it as it is', async () => {
    await using daemon = await TestDaemon.prepare();
    const file = join(daemon.root, 'db/records.mdb');
    mkdirSync(join(daemon.root, 'db'), { recursive: true });
    writeFileSync(file, 'x'.repeat(100_000));
    const { code, said } = await daemon.runToEnd();
    assert.equal(code, 1);
    assert.match(said, /open the store .*records\.mdb/);
    assert.equal(statSync(file).size, 100_000);
  });

  it('says what is wrong with a state directory that it cannot use', async () => {
    await using daemon = await TestDaemon.prepare();
    writeFileSync(daemon.state, 'a file');
    chmodSync(daemon.state, 0o600);
    const { code, said } = await daemon.runToEnd();
    assert.equal(code, 1);
    assert.match(said, /state/);
  });
});
