import assert from 'node:assert/strict';
import { CriClient } from '../../support/cri-client';
import { RealDaemon } from './harness';

interface EventLine {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  time: number;
}

describe('berth events, with a real daemon', function () {
  this.timeout(120_000);
  let daemon: RealDaemon;
  before(async () => {
    daemon = await RealDaemon.start('[registry]\nkeep_layer_blobs = true\n');
    await daemon.importBusybox('box:1');
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  const past = async (...args: string[]) =>
    (await daemon.berth('events', '--since', '1h', '--until', '0s', ...args)).stdout;
  const lines = (text: string) =>
    text
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as EventLine);
  const actions = async (...args: string[]) =>
    lines(await past('--format', 'json', ...args)).map(({ Type, Action }) => `${Type} ${Action}`);

  it('tells a container’s life, in order, when it is over', async () => {
    await daemon.ok('run', '--name', 'short', '--label', 'tier=front', 'box:1', 'true');
    await daemon.ok('rm', 'short');
    const told = lines(await past('--format', '{{json .}}', '-f', 'container=short'));
    assert.deepEqual(
      told.map(({ Action }) => Action),
      ['create', 'start', 'die', 'destroy'],
    );
    const die = told.find(({ Action }) => Action === 'die');
    assert.deepEqual(die?.Actor.Attributes, { exitCode: '0', image: 'box:1', name: 'short', tier: 'front' });
    assert.ok(Math.abs((die?.time ?? 0) - Date.now() / 1000) < 3600);
    assert.equal(new Set(told.map(({ Actor }) => Actor.ID)).size, 1);
    assert.deepEqual(await actions('-f', 'label=tier=front', '-f', 'event=die'), ['container die']);
    const line = new RegExp(
      `^\\d{4}-\\d\\d-\\d\\dT[\\d:]{8}\\.\\d{9}Z container die ${die?.Actor.ID} \\(exitCode=0, image=box:1, name=short, tier=front\\)\n$`,
    );
    assert.match(await past('-f', 'event=die', '-f', 'container=short'), line);
    const template = '{{.Type}} {{.Action}} {{.Name}} {{.ExitCode}}';
    assert.equal(
      await past('-f', 'event=die', '-f', 'container=short', '--format', template),
      'container die short 0\n',
    );
  });

  it('tells what people do to a container', async () => {
    await daemon.ok('run', '-d', '--name', 'long', 'box:1', 'sleep', '1000');
    await daemon.ok('pause', 'long');
    await daemon.ok('unpause', 'long');
    assert.equal((await daemon.berth('exec', 'long', 'sh', '-c', 'exit 4')).code, 4);
    await daemon.ok('kill', '-s', 'SIGURG', 'long');
    await daemon.ok('rename', 'long', 'longer');
    await daemon.ok('restart', '-t', '0', 'longer');
    await daemon.ok('stop', '-t', '0', 'longer');
    const [id = ''] = (await daemon.ok('ps', '-aq', '--no-trunc')).split('\n');
    await daemon.ok('rm', 'longer');
    assert.deepEqual(await actions('-f', `container=${id}`), [
      ...['create', 'start', 'pause', 'unpause', 'exec_start', 'exec_die', 'kill', 'rename'].map(
        action => `container ${action}`,
      ),
      ...['kill', 'die', 'stop', 'start', 'restart'].map(action => `container ${action}`),
      ...['kill', 'die', 'stop', 'destroy'].map(action => `container ${action}`),
    ]);
    const [killed] = lines(await past('--format', 'json', '-f', 'event=kill', '-f', `container=${id}`));
    assert.equal(killed?.Actor.Attributes['signal'], '23');
    const [exec] = lines(await past('--format', 'json', '-f', 'event=exec_die', '-f', `container=${id}`));
    assert.equal(exec?.Actor.Attributes['exitCode'], '4');
  });

  it('tells of images and their names', async () => {
    await daemon.ok('tag', 'box:1', 'box:2');
    await daemon.ok('rmi', 'box:2');
    const names = lines(await past('--format', 'json', '-f', 'type=image')).map(
      ({ Action, Actor }) => `${Action} ${Actor.Attributes['name']}`,
    );
    assert.deepEqual(names, [
      'import docker.io/library/box:1',
      'tag docker.io/library/box:2',
      'untag docker.io/library/box:2',
    ]);
    await daemon.ok('save', '-o', daemon.path('box.tar'), 'box:1');
    await daemon.ok('rmi', '-f', 'box:1');
    assert.equal((await daemon.berth('load', '-i', daemon.path('box.tar'))).code, 0);
    assert.deepEqual((await actions('-f', 'type=image')).slice(3), ['image untag', 'image delete', 'image load']);
  });

  it('is live, from the moment that it listens, and tells of the kubelet’s pods', async () => {
    const watching = daemon.start('events', '--format', '{{.Type}} {{.Action}} {{.Name}} {{.Pod}}');
    const cri = new CriClient(daemon.criSocket);
    try {
      // A first word shows that it listens.
      while (!watching.stdout.includes('image tag docker.io/library/word:1')) await daemon.ok('tag', 'box:1', 'word:1');
      const metadata = { name: 'web', namespace: 'prod', uid: 'u', attempt: 0 };
      const { podSandboxId } = await cri.call('RunPodSandbox', { config: { metadata } });
      await cri.call('CreateContainer', {
        podSandboxId,
        config: { metadata: { name: 'app', attempt: 0 }, image: { image: 'box:1' }, command: ['true'] },
      });
      await cri.call('RemovePodSandbox', { podSandboxId });
      await watching.printed('pod destroy prod/web');
    } finally {
      cri.close();
      watching.child.kill();
    }
    const { stdout } = await watching.ended;
    assert.deepEqual(
      stdout.split('\n').filter(line => !line.startsWith('image') && line !== ''),
      [
        'pod create prod/web ',
        'pod start prod/web ',
        'container create app prod/web',
        'pod stop prod/web ',
        'container kill app prod/web',
        'container die app prod/web',
        'container destroy app prod/web',
        'pod destroy prod/web ',
      ],
    );
    await daemon.ok('rmi', 'word:1');
  });

  it('ends at the time that was given', async () => {
    const until = new Date(Date.now() + 1500).toISOString();
    const watching = daemon.start('events', '--until', until, '-f', 'event=tag');
    assert.deepEqual(await watching.ended, { code: 0, stdout: '', stderr: '' });
  });

  it('says what it does not know', async () => {
    const refused = await daemon.berth('events', '--filter', 'scope=local');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^berth: no events are filtered by "scope=local"; there are type, /);
    assert.match((await daemon.berth('events', '--filter', 'type')).stderr, /^berth: --filter type has no "="; /);
    assert.match((await daemon.berth('events', '--until', 'never')).stderr, /^berth: --until "never" is not a time/);
    assert.match((await daemon.berth('events', '--format', '{{.Nothing}}')).stderr, /there is no \.Nothing/);
    const { code, stdout, stderr } = await daemon.berth(
      'events',
      '--since',
      '2020-01-01',
      '--until',
      '0s',
      '-f',
      'pod=no',
    );
    assert.deepEqual([code, stdout], [0, '']);
    assert.match(stderr, /^berth: what happened up to \d{4}-.*Z is not known any more\n$/);
  });
});
