import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Ended } from '../berth';
import { RealDaemon } from './harness';

const base = 'localhost/busybox:1';

/** A context on the disk: names with a slash at their end are directories, `-> target` is a link. */
type Files = Readonly<Record<string, string>>;

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

  function write(files: Files): void {
    for (const [name, content] of Object.entries(files)) {
      const path = join(context, name);
      mkdirSync(name.endsWith('/') ? path : dirname(path), { recursive: true });
      if (content.startsWith('-> ')) symlinkSync(content.slice(3), path);
      else if (!name.endsWith('/')) writeFileSync(path, content);
    }
  }

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

  it('leaves the cache alone where asked', async () => {
    const dockerfile = `FROM ${base} AS one\nRUN date > /a\nFROM one AS two\nRUN date > /b`;
    await built(dockerfile);
    assert.equal(cachedSteps(await built(dockerfile, '--no-cache')), 0);
    assert.equal(cachedSteps(await built(dockerfile, '--no-cache-filter', 'two')), 1);
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
    assert.doesNotMatch(await daemon.ok('images'), /never/);
    assert.equal(await daemon.ok('ps', '-aq'), '');
    assert.deepEqual(
      daemon.leftovers([]).filter(line => !line.includes('main.js')),
      [],
    );
  });

  it('leaves no trace of what things were mounted on in a step', async () => {
    write({ Dockerfile: 'FROM scratch\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo x > /x"]\n' });
    write({ 'ls/Dockerfile': '' });
    const { execFileSync } = await import('node:child_process');
    execFileSync('cp', ['/bin/busybox', join(context, 'busybox')]);
    assert.equal((await build('-t', 'image')).code, 0);
    const listed = await daemon.ok('save', 'image', '-o', daemon.path('saved.tar')).catch(() => '');
    assert.equal(listed, '');
    const layers = execFileSync('sh', [
      '-c',
      `mkdir -p ${daemon.path('saved')} && tar xf ${daemon.path('saved.tar')} -C ${daemon.path('saved')} && cd ${daemon.path('saved')}/blobs/sha256 && for blob in *; do tar tzf $blob 2>/dev/null; done | sort`,
    ]).toString();
    assert.equal(layers, 'bin/\nbin/sh\nx\n');
  });
});
