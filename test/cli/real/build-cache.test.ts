import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { writeFiles, type Files } from './context';
import { RealDaemon } from './harness';

const base = 'localhost/busybox:1';

describe('berth build --cache-to and --cache-from, with a real daemon', function () {
  this.timeout(240_000);
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

  /** What a build that must succeed has printed. */
  async function built(...args: string[]): Promise<string> {
    const { code, stderr } = await daemon.berth('build', '-t', 'image', '--why', ...args, context);
    assert.equal(code, 0, stderr);
    return stderr;
  }

  /** Nothing of earlier builds is left but what they have exported. */
  async function forget(): Promise<void> {
    await daemon.ok('rmi', 'image');
    await daemon.ok('builder', 'prune');
  }

  const cachedSteps = (output: string) => output.split('\n').filter(line => / CACHED$/.test(line)).length;
  const local = (name: string) =>
    [daemon.path(name), `type=local,dest=${daemon.path(name)}`, `type=local,src=${daemon.path(name)}`] as const;

  it('bring the results of all steps to a directory and back', async () => {
    write({ a: 'A', Dockerfile: `FROM ${base}\nCOPY a /a\nRUN cat /a > /b; date +%N > /when\nRUN true` });
    const [directory, to, from] = local('cache');
    assert.equal(cachedSteps(await built('--cache-to', to)), 0);
    const when = await daemon.ok('run', '--rm', 'image', 'cat', '/when');
    assert.ok(existsSync(directory));
    await forget();
    const output = await built('--cache-from', from);
    assert.equal(cachedSteps(output), 3, output);
    assert.match(output, /cached: the same inputs as in the cache .*cache, latest/);
    assert.equal(await daemon.ok('run', '--rm', 'image', 'cat', '/when'), when);
    assert.match(await daemon.ok('check'), /all is sound/);
    assert.deepEqual(readdirSync(daemon.path('root/incoming')), []);
  });
});
