import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { berthFile } from '../../support/programs';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('completion, with a real daemon', function () {
  this.timeout(240_000);

  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
    await daemon.ok('run', '-d', '--name', 'weaver', image, 'sleep', '1000');
    await daemon.ok('create', '--name', 'waiting', image, 'true');
    await daemon.ok('volume', 'create', 'shelf');
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  const offered = async (...words: string[]) => {
    const out = await daemon.ok('__complete', '--', ...words);
    return out.split('\n').filter(line => line !== '');
  };

  it('knows verbs, flags, and the names that a verb takes', async () => {
    assert.deepEqual(await offered('res'), ['restart']);
    assert.ok(!(await offered('')).includes('__complete'));
    assert.deepEqual(await offered('volume', 'r'), ['rm']);
    assert.deepEqual(await offered('run', '--memory'), ['--memory', '--memory-swap']);
    assert.deepEqual(await offered('stop', ''), ['weaver']);
    assert.deepEqual(await offered('start', ''), ['waiting']);
    assert.deepEqual((await offered('rm', '-f', 'w')).sort(), ['waiting', 'weaver']);
    assert.deepEqual(await offered('run', '--rm', ''), [image]);
    assert.deepEqual(await offered('run', image, ''), []);
    assert.deepEqual(await offered('volume', 'rm', ''), ['shelf']);
    assert.deepEqual(await offered('image', 'explore', ''), [image]);
    assert.deepEqual(await offered('image', 'diff', image, ''), [image]);
  });

  it('has nothing to say, and no complaint, without a daemon', async () => {
    const { code, stdout, stderr } = await daemon.berth('--host', '/nowhere.sock', '__complete', '--', 'stop', '');
    assert.deepEqual([code, stdout, stderr], [0, '', '']);
  });

  it('works in bash', async () => {
    const script = await daemon.ok('completion', 'bash');
    const file = daemon.path('complete.sh');
    writeFileSync(
      file,
      `berth() { "${process.execPath}" "${berthFile}" "$@"; }\n${script}\n` +
        'COMP_WORDS=(berth stop we); COMP_CWORD=2; _berth; printf "%s\\n" "${COMPREPLY[@]}"\n',
    );
    const env = { ...process.env, BERTH_HOST: `unix://${daemon.socket}` };
    assert.equal(execFileSync('bash', [file], { env, encoding: 'utf8' }), 'weaver\n');
    for (const shell of ['zsh', 'fish']) assert.match(await daemon.ok('completion', shell), /__complete/);
    assert.match((await daemon.berth('completion', 'csh')).stderr, /csh.*bash, zsh, fish/);
  });

  it('names that are near are offered for those that are not there', async () => {
    const wrong = await daemon.berth('stop', 'weavr');
    assert.equal(wrong.stderr, 'berth: no container is called "weavr"; did you mean weaver?\n');
    assert.match((await daemon.berth('strat', 'weaver')).stderr, /unknown command 'strat'; did you mean start\?/);
    assert.match((await daemon.berth('volume', 'lss')).stderr, /unknown command 'lss'; did you mean ls\?/);
  });
});
