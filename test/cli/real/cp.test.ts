import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('berth cp, with a real daemon', function () {
  this.timeout(240_000);

  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));
  beforeEach(() => mkdirSync(daemon.path('here')));
  afterEach(async () => {
    rmSync(daemon.path('here'), { recursive: true });
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', '-f', ...ids);
  });

  const here = (...parts: string[]) => daemon.path('here', ...parts);
  const fails = async (message: RegExp, ...args: string[]) => {
    const { code, stderr } = await daemon.berth('cp', ...args);
    assert.equal(code, 1);
    assert.match(stderr, message);
  };

  for (const [state, make] of [
    ['runs', ['run', '-d']],
    ['is paused', ['run', '-d']],
    ['waits for its start', ['create']],
    ['has exited', ['run', '-d']],
  ] as const) {
    describe(`and a container that ${state}`, () => {
      beforeEach(async () => {
        mkdirSync(here('volume'));
        const script =
          'mkdir -p /data/sub; echo one > /data/one; echo two > /data/sub/two; ln -s one /data/link; ' +
          'chmod 4751 /data/one; echo in > /volume/in; touch /done; exec sleep 100';
        await daemon.ok(...make, '--name', 'box', '-v', `${here('volume')}:/volume`, image, 'sh', '-c', script);
        if (state === 'waits for its start') return;
        const isDone = async () => (await daemon.berth('exec', 'box', 'test', '-e', '/done')).code === 0;
        await daemon.eventually('its files are there', isDone);
        if (state === 'has exited') await daemon.ok('stop', '-t', '0', 'box');
        if (state === 'is paused') await daemon.ok('pause', 'box');
      });

      it('files come in as the container’s root’s, and out as one’s own', async () => {
        writeFileSync(here('file'), 'content\n', { mode: 0o640 });
        await daemon.ok('cp', here('file'), 'box:/etc');
        await daemon.ok('cp', here('file'), 'box:/etc/renamed');
        await daemon.ok('cp', 'box:/etc/file', here('back'));
        assert.equal(readFileSync(here('back'), 'utf8'), 'content\n');
        assert.equal(statSync(here('back')).mode & 0o7777, 0o640);
        await daemon.ok('cp', 'box:/etc/renamed', here());
        assert.equal(readFileSync(here('renamed'), 'utf8'), 'content\n');
        await daemon.ok('cp', here('file'), 'box:/volume');
        assert.equal(readFileSync(here('volume/file'), 'utf8'), 'content\n');
        await fails(/there is no box:\/nothing\n/, 'box:/nothing', here());
        await fails(/there is no directory box:\/nothing\/; make it first/, here('file'), 'box:/nothing/');
        await fails(/there is no node:.*nothing/, here('nothing'), 'box:/');
      });

      if (state === 'waits for its start') return;
      it('directories go whole, or their content with /.', async () => {
        await daemon.ok('cp', 'box:/data', here());
        assert.deepEqual(readdirSync(here('data')).sort(), ['link', 'one', 'sub']);
        assert.equal(readFileSync(here('data/sub/two'), 'utf8'), 'two\n');
        assert.equal(readlinkSync(here('data/link')), 'one');
        assert.equal(statSync(here('data/one')).mode & 0o7777, 0o751);
        await daemon.ok('cp', '-a', 'box:/data/one', here('kept'));
        assert.equal(statSync(here('kept')).mode & 0o7777, 0o4751);
        await daemon.ok('cp', 'box:/data', here('new'));
        assert.equal(readFileSync(here('new/one'), 'utf8'), 'one\n');
        mkdirSync(here('content'));
        await daemon.ok('cp', 'box:/data/.', here('content'));
        assert.deepEqual(readdirSync(here('content')).sort(), ['link', 'one', 'sub']);
        await daemon.ok('cp', 'box:/data/link', here('copied-link'));
        assert.equal(readlinkSync(here('copied-link')), 'one');
        await daemon.ok('cp', '-L', 'box:/data/link', here('followed'));
        assert.ok(lstatSync(here('followed')).isFile());
        await daemon.ok('cp', 'box:/volume/in', here('in'));
        assert.equal(readFileSync(here('in'), 'utf8'), 'in\n');
        writeFileSync(here('file'), '');
        await fails(/a directory cannot take the place of the file/, 'box:/data', here('file'));
        await fails(/a directory cannot take the place of the file/, here('data'), 'box:/data/one');
        await daemon.ok('cp', here('data'), 'box:/tmp');
        await daemon.ok('cp', 'box:/tmp/data/sub/two', here('two'));
        assert.equal(readFileSync(here('two'), 'utf8'), 'two\n');
      });
    });
  }

  it('takes and gives tars', async () => {
    await daemon.ok('run', '-d', '--name', 'box', image, 'sleep', '100');
    const deep = `${'d'.repeat(90)}/${'e'.repeat(90)}/${'f'.repeat(90)}`;
    mkdirSync(here('site', deep), { recursive: true });
    const leaf = randomBytes(5_000_000);
    writeFileSync(here('site', deep, 'leaf'), leaf);
    // Modes that a later change of the owner, or an umask, would take from.
    execFileSync('sh', ['-c', `cd ${here('site')} && mkfifo pipe && chmod 646 pipe && mkdir set && chmod 3757 set`]);
    const link = 'ln -s nowhere link && touch -hd @1000000000 link && chown -h 7:8 link pipe';
    execFileSync('sh', ['-c', `cd ${here('site')} && ${link}`]);
    for (const format of ['gnu', 'pax']) {
      const tar = execFileSync('tar', [`--format=${format}`, '-C', here(), '-c', 'site'], { maxBuffer: 1e8 });
      const running = daemon.start('cp', '-', 'box:/srv');
      running.child.stdin.end(tar);
      const refused = await running.ended;
      assert.match(refused.stderr, /there is no box:\/srv/);
      await daemon.ok('exec', 'box', 'mkdir', `/${format}`);
      const taken = daemon.start('cp', '-', `box:/${format}`);
      taken.child.stdin.end(tar);
      assert.deepEqual(await taken.ended, { code: 0, stdout: '', stderr: '' });
      assert.equal(await daemon.ok('exec', 'box', 'sh', '-c', `sha256sum < /${format}/site/${deep}/leaf`), sumOf(leaf));
    }
    const modes = (path: string) => daemon.ok('exec', 'box', 'sh', '-c', `stat -c %a ${path}/pipe ${path}/set`);
    await daemon.ok('cp', '-a', here('site'), 'box:/kept');
    assert.deepEqual([await modes('/pax/site'), await modes('/kept')], ['646\n1757\n', '646\n3757\n']);
    const kept = "cd /kept && stat -c '%N %u:%g' link pipe && stat -c %Y link";
    assert.equal(
      (await daemon.ok('exec', 'box', 'sh', '-c', kept)).replaceAll("'", ''),
      'link -> nowhere 7:8\npipe 7:8\n1000000000\n',
    );
    const giving = daemon.start('cp', 'box:/pax/site', '-');
    assert.equal((await giving.ended).code, 0);
    mkdirSync(here('out'));
    execFileSync('tar', ['-C', here('out'), '-x'], { input: giving.stdout });
    assert.ok(readFileSync(here('out/site', deep, 'leaf')).equals(leaf));
    // Both at once in the daemon: what one process writes, another takes.
    await daemon.ok('cp', here('site'), 'box:/both');
    await daemon.ok('cp', 'box:/both', here('back'));
    assert.ok(readFileSync(here('back', deep, 'leaf')).equals(leaf));
    // One that is refused is not read to its end.
    execFileSync('truncate', ['-s', '500G', here('big')]);
    await daemon.ok('exec', 'box', 'mkdir', '-p', '/dir/big');
    await fails(/a file cannot take the place of a directory/, here('big'), 'box:/dir');
    const junk = daemon.start('cp', '-', 'box:/tmp');
    junk.child.stdin.end('this is no tar'.repeat(100));
    assert.match((await junk.ended).stderr, /it is no tar archive/);
    const cut = daemon.start('cp', '-', 'box:/tmp');
    cut.child.stdin.end(giving.stdout.subarray(0, 100_000));
    assert.match((await cut.ended).stderr, /it ends within an entry/);
  });

  it('goes through no link out to the node, and none that an archive brings', async () => {
    writeFileSync(here('secret'), 'of the node\n');
    mkdirSync(here('target'));
    const script = `ln -s ${here()} /evil; ln -s ${here('secret')} /leak; ln -s ../../../../../..${here()} /up; touch /done; exec sleep 100`;
    await daemon.ok('run', '-d', '--name', 'box', image, 'sh', '-c', script);
    await daemon.eventually(
      'it is ready',
      async () => (await daemon.berth('exec', 'box', 'test', '-e', '/done')).code === 0,
    );
    writeFileSync(here('file'), 'content\n');
    for (const state of ['running', 'exited']) {
      for (const path of ['/evil/secret', '/up/secret']) await fails(/there is no box:/, `box:${path}`, here('target'));
      await fails(/there is no box:/, '-L', 'box:/leak', here('target'));
      await daemon.ok('cp', 'box:/leak', here('target', state));
      assert.equal(readlinkSync(here('target', state)), here('secret'));
      await daemon.ok('cp', here('file'), `box:/written-${state}`);
      if (state === 'running') await daemon.ok('stop', '-t', '0', 'box');
    }
    await daemon.ok('cp', here('file'), 'box:/leak');
    assert.equal(readFileSync(here('secret'), 'utf8'), 'of the node\n');
    // An archive whose link is then gone through, once to a path of the node and once upwards.
    mkdirSync(here('pack/real'), { recursive: true });
    writeFileSync(here('pack/real/owned'), 'x');
    const tar = execFileSync('tar', ['-C', here('pack'), '-c', '--transform', `s,^real,way,`, 'real/owned']);
    const link = execFileSync('sh', ['-c', `cd ${here('pack')} && ln -s ${here()} way && tar -c way`]);
    const both = Buffer.concat([link.subarray(0, 512), tar]);
    await daemon.ok('start', 'box');
    const taken = daemon.start('cp', '-', 'box:/tmp');
    taken.child.stdin.end(both);
    await taken.ended;
    assert.ok(!existsSync(here('owned')));
    const up = execFileSync('tar', ['-P', '-C', here('pack'), '-c', '--transform', 's,^real,../../up,', 'real/owned']);
    const climbing = daemon.start('cp', '-', 'box:/tmp');
    climbing.child.stdin.end(up);
    assert.equal((await climbing.ended).code, 1);
  });

  it('says what it does not know', async () => {
    await fails(/from one container to another is not known; /, 'one:/x', 'other:/y');
    await fails(/neither side names a container; /, './x', './y');
    await fails(/no container is called "nobody"/, 'nobody:/x', here());
  });
});

/** As sha256sum writes it of its input. */
function sumOf(bytes: Buffer): string {
  return `${createHash('sha256').update(bytes).digest('hex')}  -\n`;
}
