import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { openImages, type Images, type RegistryAuth } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { busyboxImage } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';

describe("Debian's registry with TLS and passwords", function () {
  this.timeout(30_000);
  const image = busyboxImage();
  const password = 'canary-secret';
  let dir: string;
  let open: Registry;
  let locked: Registry;
  let store: Store;
  let images: Images;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-locked-'));
    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    for (const name of ['ca', 'other'])
      openssl(
        'req',
        '-x509',
        ...key,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.pem`,
        '-subj',
        `/CN=${name}`,
        '-days',
        '2',
      );
    writeFileSync(join(dir, 'extension'), 'subjectAltName=IP:127.0.0.1');
    openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=registry');
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'extension'];
    openssl('x509', '-req', '-in', 'server.csr', '-out', 'server.pem', '-days', '2', ...by);
    open = await startRegistry();
    await pushImage(open, 'box', '1', image);
    const tls = { certificate: join(dir, 'server.pem'), key: join(dir, 'server.key') };
    locked = await startRegistry({ htpasswd: { username: 'user', password }, tls, dataDir: open.dataDir });
  });
  after(async () => {
    await locked.stop();
    await open.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const openWith = async (file: string) => {
    store = openStore(join(dir, 'store'), silentLogger);
    images = await openImages({
      ...{ root: join(dir, 'images'), store, log: silentLogger, layersInUse: () => [] },
      ...{ hostsDir: join(dir, 'certs.d'), retryDelayMs: 1, dockerConfig: { file, helperDirs: [] } },
    });
  };
  const close = async () => {
    await images.close();
    await store.close();
  };
  beforeEach(() => openWith('none'));
  afterEach(async () => {
    await close();
    for (const name of ['store', 'images', 'certs.d']) rmSync(join(dir, name), { recursive: true, force: true });
  });

  const trust = (authority: 'ca' | 'other' | undefined) => {
    const folder = join(dir, 'certs.d', locked.host);
    mkdirSync(folder, { recursive: true });
    const ca = authority ? `ca = "${join(dir, `${authority}.pem`)}"\n` : '';
    writeFileSync(join(folder, 'hosts.toml'), `server = "https://${locked.host}"\n${ca}`);
  };
  const pull = (auth?: RegistryAuth) =>
    images.pull(Context.of(silentLogger, { timeoutMs: 20_000 }), `${locked.host}/box:1`, auth ? { auth } : {});
  const refused = async (work: Promise<unknown>, kind: string, ...why: RegExp[]) => {
    await assert.rejects(work, (error: Error & { kind?: string }) => {
      assert.equal(error.kind, kind, error.message);
      for (const one of why) assert.match(error.message, one);
      assert.ok(!error.message.includes('canary'), error.message);
      return true;
    });
    assert.deepEqual(images.list(), []);
  };

  it('gives an image to who has its authority and the password', async () => {
    trust('ca');
    assert.equal((await pull({ username: 'user', password })).id, image.id);
  });

  it('says so when the password is wrong, or there is none', async () => {
    trust('ca');
    const wrong = pull({ username: 'user', password: 'wrong-canary' });
    await refused(wrong, 'unauthenticated', /answered 401/, /check the credentials that were given/);
    await refused(pull(), 'unauthenticated', /answered 401/, /no credentials were given/);
    assert.equal((await pull({ username: 'user', password })).id, image.id, 'the next one is not held to that');
  });

  for (const [authority, what] of [
    ['other', 'another authority'],
    [undefined, 'no authority'],
  ] as const)
    it(`is not trusted with ${what}, and is not told the password`, async () => {
      trust(authority);
      const pulled = pull({ username: 'user', password });
      await refused(pulled, 'unavailable', /certificate/, new RegExp(locked.host), /hosts\.toml|ca/);
    });

  it("lets people in with the node's own login, and the kubelet only where the configuration names it", async () => {
    trust('ca');
    const auths = { [locked.host]: { auth: Buffer.from(`user:${password}`).toString('base64') } };
    writeFileSync(join(dir, 'config.json'), JSON.stringify({ auths }));
    const before = process.env['DOCKER_CONFIG'];
    process.env['DOCKER_CONFIG'] = dir;
    const as = (askedBy: 'cri' | 'person') =>
      images.pull(Context.of(silentLogger, { timeoutMs: 20_000 }), `${locked.host}/box:1`, { askedBy });
    try {
      await close();
      await openWith('auto');
      await refused(as('cri'), 'unauthenticated', /no credentials were given/);
      assert.equal((await as('person')).id, image.id);
      await images.remove(image.id);
      const [kubelet, person] = await Promise.allSettled([as('cri'), as('person')]);
      assert.deepEqual([kubelet.status, person.status], ['rejected', 'fulfilled'], 'nor does one ride along');
      await images.remove(image.id);
      await close();
      await openWith(join(dir, 'config.json'));
      assert.equal((await as('cri')).id, image.id);
    } finally {
      if (before === undefined) delete process.env['DOCKER_CONFIG'];
      else process.env['DOCKER_CONFIG'] = before;
    }
  });
});
