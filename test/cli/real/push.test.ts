import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { ociArchive } from '../../support/archives';
import { busyboxImage } from '../../support/image-builder';
import { startRegistry, type Registry } from '../../support/registry';
import { RealDaemon } from './harness';

describe('berth login, push and logout, with a real daemon', () => {
  let daemon: RealDaemon;
  let registry: Registry;
  const image = busyboxImage();

  before(async () => {
    registry = await startRegistry({ htpasswd: { username: 'me', password: 'canary-secret' } });
    daemon = await RealDaemon.start();
    await daemon.kill('SIGTERM');
    writeFileSync(
      daemon.path('config.toml'),
      `[network]\nembedded = "none"\n[registry]\ndocker_config = "${daemon.path('docker/config.json')}"\n`,
    );
    await daemon.run();
    writeFileSync(daemon.path('box.tar'), ociArchive(image, { 'io.containerd.image.name': 'docker.io/library/box:1' }));
    await daemon.ok('load', '-q', '-i', daemon.path('box.tar'));
  });
  after(async () => {
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });
  const config = () => JSON.parse(readFileSync(daemon.path('docker/config.json'), 'utf8')) as Record<string, unknown>;

  it('bring an image to a registry that asks for a password, as in every beginner’s walk', async () => {
    const name = `${registry.host}/me/box:1`;
    await daemon.ok('tag', 'box:1', name);
    const refused = await daemon.berth('push', name);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /answered 401.*needs a login/);

    const wrong = await daemon.berthWith('wrong', 'login', '-u', 'me', '--password-stdin', registry.host);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, new RegExp(`login ${registry.host}: .*answered 401.*check the credentials`));
    assert.throws(config, { code: 'ENOENT' });

    const login = await daemon.berthWith('canary-secret\n', 'login', '-u', 'me', '--password-stdin', registry.host);
    assert.equal(login.stdout, `Login Succeeded\nIt is kept in ${daemon.path('docker/config.json')}\n`);
    assert.equal(statSync(daemon.path('docker/config.json')).mode & 0o777, 0o600);

    const pushed = await daemon.ok('push', name);
    assert.match(pushed, /^[0-9a-f]{12}: Pushed$/m);
    assert.match(pushed, /^1: digest: sha256:[0-9a-f]{64} size: \d+\n$/m);
    assert.match(await daemon.ok('push', name), /^[0-9a-f]{12}: Layer already exists$/m);
    assert.equal(await daemon.ok('push', '-q', name), `${name}\n`);
    await daemon.ok('rmi', '-f', name, 'box:1');
    await daemon.ok('pull', '-q', name);
    assert.equal(await daemon.ok('run', '--rm', name, 'echo', 'there and back'), 'there and back\n');
    assert.ok(!daemon.said.includes('canary'));
  });

  it('push all tags of a repository with one word', async () => {
    const repository = `${registry.host}/me/box`;
    await daemon.ok('tag', `${repository}:1`, `${repository}:2`);
    const pushed = await daemon.ok('push', '-a', repository);
    assert.match(pushed, /^1: digest: /m);
    assert.match(pushed, /^2: digest: /m);
    const none = await daemon.berth('push', '-a', `${registry.host}/me/none`);
    assert.match(none.stderr, /no image here is called .*\/me\/none/);
  });

  it('leave what else is in the docker config alone, and forget', async () => {
    const others = { auths: { 'other.example': { auth: 'eDp5' } }, HttpHeaders: { A: 'b' } };
    const all = config() as { auths: object };
    writeFileSync(
      daemon.path('docker/config.json'),
      JSON.stringify({ ...others, auths: { ...others.auths, ...all.auths } }),
    );
    assert.equal(await daemon.ok('logout', registry.host), `Removed the login to ${registry.host}\n`);
    assert.deepEqual(config(), others);
    assert.equal(await daemon.ok('logout', registry.host), `Not logged in to ${registry.host}\n`);
    const refused = await daemon.berth('push', `${registry.host}/me/box:1`);
    assert.match(refused.stderr, /answered 401/);
  });

  it('say what is wrong with how they are called', async () => {
    const cases: [args: string[], why: RegExp][] = [
      [['login', '-u', 'me', registry.host], /stdin is no terminal.*--password-stdin/],
      [['login', '--password-stdin', registry.host], /--password-stdin needs --username/],
      [['login', '-u', 'me', '-p', 'x', 'no such/host'], /not the name of a registry/],
      [['push', `${registry.host}/nobody:1`], /no image is called .*nobody:1; tag it first/],
    ];
    for (const [args, why] of cases) {
      const { code, stderr } = await daemon.berth(...args);
      assert.equal(code, 1, args.join(' '));
      assert.match(stderr, why);
    }
  });
});
