import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { tar } from '../../support/image-builder';
import type { Ended } from '../berth';
import { writeFiles, type Files } from './context';
import { RealDaemon } from './harness';

const base = 'localhost/busybox:1';

describe('berth build, with a real daemon', function () {
  this.timeout(120_000);
  let daemon: RealDaemon;
  let context: string;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(base);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  beforeEach(() => {
    context = daemon.path('context');
    rmSync(context, { recursive: true, force: true });
    mkdirSync(context);
  });

  const write = (files: Files) => writeFiles(context, files);

  const build = (...args: string[]): Promise<Ended> => daemon.berth('build', ...args, context);

  /** Builds `image`, which must succeed; what it printed. */
  async function built(dockerfile: string, ...args: string[]): Promise<string> {
    write({ Dockerfile: dockerfile });
    const { code, stderr } = await build('-t', 'image', ...args);
    assert.equal(code, 0, stderr);
    return stderr;
  }

  const run = (...command: string[]) => daemon.ok('run', '--rm', 'image', ...command);
  const cachedSteps = (output: string) => output.split('\n').filter(line => / CACHED$/.test(line)).length;

  it('does the walk-through of every beginner', async () => {
    write({ 'app/hello.txt': 'hello from the context\n' });
    write({
      Dockerfile: [
        `FROM ${base}`,
        'WORKDIR /app',
        'COPY app/hello.txt .',
        'RUN cat hello.txt > copy.txt',
        'ENV WHO=world',
        'CMD ["sh", "-c", "cat /app/copy.txt; echo $WHO"]',
      ].join('\n'),
    });
    const { code, stdout, stderr } = await build('-t', 'partech');
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '');
    assert.match(await daemon.ok('images'), /^partech +latest /m);
    const id = (await daemon.ok('run', '-d', '--name', 'mycontainer', 'partech')).trim();
    await daemon.eventually('it has said all', async () => (await daemon.ok('logs', id)).endsWith('world\n'));
    assert.equal(await daemon.ok('logs', 'mycontainer'), 'hello from the context\nworld\n');
    await daemon.ok('rm', '-f', 'mycontainer');
    assert.match(await daemon.ok('check'), /all is sound/);
  });

  it('takes everything from the cache when nothing has changed, and is the same image then', async () => {
    write({ a: 'A' });
    const dockerfile = `FROM ${base}\nCOPY a /a\nRUN echo b > /b\nCMD ["cat", "/a", "/b"]`;
    await built(dockerfile);
    const before = JSON.parse(await daemon.ok('inspect', 'image')) as { Id?: string; id?: string }[];
    utimesSync(join(context, 'a'), 1, 1); // a touch alone changes nothing
    const output = await built(dockerfile, '--why');
    assert.equal(cachedSteps(output), 2, output);
    assert.match(output, /cached: the same inputs as on /);
    assert.deepEqual(JSON.parse(await daemon.ok('inspect', 'image')), before);
  });

  it('carries a step out again when a file that it copies, its mode or its command is another', async () => {
    write({ a: 'A' });
    const dockerfile = `FROM ${base}\nCOPY a /a\nRUN cat /a > /b`;
    await built(dockerfile);
    write({ a: 'B' });
    assert.match(await built(dockerfile, '--why'), /not cached: what COPY copies \(a\) has changed/);
    assert.equal(await run('cat', '/b'), 'B');
    chmodSync(join(context, 'a'), 0o755);
    assert.equal(cachedSteps(await built(dockerfile)), 0);
    assert.match(await built(`${dockerfile}; echo C >> /b`, '--why'), /not cached: .*this step was never run here/);
    assert.equal(await run('cat', '/b'), 'BC\n');
  });

  it('carries a copy out again when an owner, a mode, unpacking, the way to it or the time of files is another', async () => {
    write({ 'a/f': 'same', 'a.tar': tar([{ path: 'in', data: 'x' }]) });
    // Each in a stage of its own: a step on another one is carried out anyway.
    const stages = (unpack: string) => [
      `FROM ${base} AS owned\nARG WHO\nCOPY --chown=$WHO ?/f /owned`,
      `FROM ${base} AS moded\nARG MODE\nCOPY --chmod=$MODE ?/f /moded`,
      `FROM ${base} AS aged\nCOPY ?/f /aged`,
      `FROM ${base} AS touched\nRUN touch /touched`,
      `FROM ${base} AS ways\nCOPY --parents [ab]/f /ways/`,
      `FROM ${base} AS unpacked\nADD --unpack=${unpack} a.tar /unpacked/`,
      `FROM ${base}`,
      ...['owned', 'moded', 'aged', 'touched', 'ways', 'unpacked'].map(each => `COPY --from=${each} /${each} /${each}`),
      `CMD stat -c %u:%g owned; stat -c %a moded; stat -c %Y aged touched; ls ways unpacked`,
    ];
    const args = (...values: string[]) => values.flatMap(value => ['--build-arg', value]);
    await built(stages('true').join('\n'), ...args('WHO=1:2', 'MODE=600', 'SOURCE_DATE_EPOCH=1600000000'));
    assert.equal(await run(), '1:2\n600\n1600000000\n1600000000\nunpacked:\nin\n\nways:\na\n');
    renameSync(join(context, 'a'), join(context, 'b'));
    await built(stages('false').join('\n'), ...args('WHO=3:2', 'MODE=640', 'SOURCE_DATE_EPOCH=1700000000'));
    assert.equal(await run(), '3:2\n640\n1700000000\n1700000000\nunpacked:\na.tar\n\nways:\nb\n');
  });

  it('limits the processes of RUN, whose results are others then', async () => {
    const dockerfile = `FROM ${base}\nRUN echo $(ulimit -Sn) $(ulimit -Hn) > /limits`;
    await built(dockerfile, '--ulimit', 'nofile=100:200');
    assert.equal(await run('cat', '/limits'), '100 200\n');
    assert.equal(cachedSteps(await built(dockerfile, '--ulimit', 'nofile=100:200')), 1);
    await built(dockerfile, '--ulimit', 'nofile=77');
    assert.equal(await run('cat', '/limits'), '77 77\n');
    const { code, stderr } = await build('--ulimit', 'colour=1');
    assert.equal(code, 1);
    assert.match(stderr, /--ulimit "colour=1": colour is not known/);
  });

  it('leaves the cache alone where asked', async () => {
    const dockerfile = `FROM ${base} AS one\nRUN date > /a\nFROM one AS two\nRUN date > /b`;
    await built(dockerfile);
    assert.equal(cachedSteps(await built(dockerfile, '--no-cache')), 0);
    assert.equal(cachedSteps(await built(dockerfile, '--no-cache-filter', 'Two')), 1);
    const unknown = await build('--no-cache-filter', 'three');
    assert.match(unknown.stderr, /--no-cache-filter three: no stage is called so; there are one, two/);
  });

  it('says the line, the command, its exit code and its last words when a step fails, and leaves nothing', async () => {
    write({ Dockerfile: `FROM ${base}\n\nRUN echo almost; echo the last words >&2; exit 7\n` });
    const { code, stderr } = await build('-q', '-t', 'never');
    assert.equal(code, 1);
    assert.equal(
      stderr,
      'berth: Dockerfile:3: RUN echo almost; echo the last words >&2; exit 7: ' +
        'the command ended with exit code 7; almost; the last words\n',
    );
    write({ Dockerfile: `FROM ${base}\nRUN seq 1 100000; exit 7\n` });
    const { stderr: shown } = await build('-t', 'never');
    assert.equal(shown.match(/^#2 \d+$/gm)?.length, 100_000, 'also what the client has not taken when it fails');
    assert.doesNotMatch(await daemon.ok('images'), /never/);
    assert.equal(await daemon.ok('ps', '-aq'), '');
    assert.deepEqual(daemon.leftovers([]), []);
  });

  it('sends the files of an image, or the image as an archive, where asked', async () => {
    const dockerfile = `FROM ${base}\nRUN echo new > /new && rm /etc/passwd\n`;
    write({ Dockerfile: dockerfile });
    const before = await daemon.ok('images', '-q');
    const out = daemon.path('out');
    assert.equal((await build('-o', out)).code, 0);
    assert.equal(readFileSync(join(out, 'new'), 'utf8'), 'new\n');
    assert.ok(existsSync(join(out, 'bin/busybox')) && !existsSync(join(out, 'etc/passwd')));
    write({
      busybox: readFileSync('/bin/busybox'),
      Dockerfile: 'FROM scratch\nCOPY --chmod=755 busybox /bin/cat\nCOPY <<E /new\nnew\nE\n',
    });
    const archive = daemon.path('image.tar');
    const archived = ['-t', 'archived:1', '-o', `type=oci,dest=${archive}`];
    const { code, stderr } = await build(...archived);
    assert.equal(code, 0, stderr);
    assert.equal(await daemon.ok('images', '-q'), before);
    assert.match(await daemon.ok('check'), /all is sound/);
    assert.match(await daemon.ok('load', '-q', '-i', archive), /^Loaded image: archived:1$/m);
    assert.equal(await daemon.ok('run', '--rm', 'archived:1', 'cat', '/new'), 'new\n');
    await daemon.ok('rmi', 'archived:1');
    rmSync(out, { recursive: true });
    // The same image, which somebody has without a name.
    const unnamed = (await build('-q')).stdout.trim();
    assert.equal((await build(...archived)).code, 0);
    assert.equal(await daemon.ok('run', '--rm', unnamed, 'cat', '/new'), 'new\n');
    await daemon.ok('rmi', unnamed);
    // One that is not built leaves the archive of before.
    const kept = readFileSync(archive);
    write({ Dockerfile: 'FROM scratch\nCOPY none /\n' });
    assert.equal((await build(...archived)).code, 1);
    assert.ok(kept.equals(readFileSync(archive)));
    const nowhere = await build('-o', 'type=oci,dest=/none/image.tar');
    assert.match(nowhere.stderr, /^berth: write \/none\/image\.tar: /, 'before anything is built');
  });

  it('makes an image of what a container has changed', async () => {
    const id = (await daemon.ok('run', '-d', base, 'sh', '-c', 'echo made > /made; rm /etc/group; sleep 1000')).trim();
    await daemon.eventually(
      'it has made it',
      async () => (await daemon.berth('exec', id, 'test', '-s', '/made')).code === 0,
    );
    const image = await daemon.ok(
      'commit',
      '-m',
      'as it was',
      '-c',
      'ENV A=b',
      '-c',
      'CMD ["cat", "/made"]',
      id,
      'committed',
    );
    assert.match(image, /^sha256:[0-9a-f]{64}\n$/);
    assert.equal(await daemon.ok('run', '--rm', 'committed'), 'made\n');
    assert.equal(
      await daemon.ok('run', '--rm', 'committed', 'sh', '-c', 'echo $A; test ! -e /etc/group && echo gone'),
      'b\ngone\n',
    );
    assert.equal((await daemon.berth('exec', id, 'true')).code, 0, 'the container runs on');
    await daemon.ok('rm', '-f', id);
    await daemon.ok('rmi', 'committed');
    assert.match(await daemon.ok('check'), /all is sound/);
  });

  it('keeps what its cache needs until that is pruned', async () => {
    const dockerfile = `FROM ${base}\nRUN echo kept > /kept\n`;
    await built(dockerfile);
    await daemon.ok('rmi', 'image');
    await daemon.ok('image', 'prune', '-f');
    assert.equal(cachedSteps(await built(dockerfile)), 1);
    await daemon.ok('rmi', 'image');
    assert.match(await daemon.ok('builder', 'prune', '-f'), /^Forgotten results: [1-9]/);
    assert.equal(cachedSteps(await built(dockerfile)), 0);
    assert.match(await daemon.ok('check'), /all is sound/);
  });

  it('goes on with the cache of a daemon that was killed, and leaves nothing of the build that it had', async () => {
    const dockerfile = `FROM ${base}\nRUN echo first > /first\nRUN echo second; sleep 1000\n`;
    write({ Dockerfile: dockerfile });
    const running = daemon.start('build', context);
    while (!running.stderr.includes('second\n#3') && !running.stderr.includes('#3 second'))
      await once(running.child.stderr, 'data');
    await daemon.kill('SIGKILL');
    assert.equal((await running.ended).code, 1);
    await daemon.run();
    assert.equal(await daemon.ok('ps', '-aq'), '');
    await daemon.eventually('the container is gone', () => daemon.leftovers([]).length === 0);
    assert.equal(cachedSteps(await built(`FROM ${base}\nRUN echo first > /first\nRUN true\n`)), 1);
  });

  it('leaves no trace of what things were mounted on in a step', async () => {
    write({
      busybox: readFileSync('/bin/busybox'),
      Dockerfile: 'FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo x > /x"]\n',
    });
    const { code, stderr } = await build('-t', 'image');
    assert.equal(code, 0, stderr);
    const saved = daemon.path('saved');
    await daemon.ok('save', '-q', '-o', saved, 'image');
    const unpack =
      'mkdir u && tar xf saved -C u && for blob in u/blobs/sha256/*; do tar tzf $blob 2>/dev/null; done | sort';
    const names = execFileSync('sh', ['-c', unpack], { cwd: daemon.folder, encoding: 'utf8' });
    assert.equal(names, 'bin/\nbin/sh\nx\n');
  });
});
