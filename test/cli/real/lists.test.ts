import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { Daemon } from '../../../src/cli/client';
import { ContainersService } from '../../../src/cri/generated/berth/v1/containers';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('lists, views and prunes, with a real daemon', function () {
  this.timeout(240_000);

  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));
  afterEach(async () => {
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', '-f', ...ids);
  });

  const names = async (...args: string[]) =>
    (await daemon.ok('ps', '--format', '{{.Names}}', ...args)).split('\n').filter(name => name !== '');
  const three = async () => {
    await daemon.ok('run', '-d', '--name', 'web', '-l', 'tier=front', '-v', 'shared:/v', image, 'sleep', '1000');
    await daemon.berth('run', '--name', 'job', '-l', 'tier=back', image, 'sh', '-c', 'exit 3');
    await daemon.ok('create', '--name', 'idle', image, 'true');
  };

  it('ps filters', async () => {
    await three();
    assert.deepEqual(await names(), ['web']);
    assert.deepEqual(await names('-a'), ['idle', 'job', 'web']);
    assert.deepEqual(await names('-n', '2'), ['idle', 'job']);
    assert.deepEqual(await names('-l'), ['idle']);
    assert.deepEqual(await names('--filter', 'status=exited'), ['job']);
    assert.deepEqual(await names('-f', 'status=created', '-f', 'status=exited'), ['idle', 'job']);
    assert.deepEqual(await names('-a', '-f', 'label=tier'), ['job', 'web']);
    assert.deepEqual(await names('-a', '-f', 'label=tier=front'), ['web']);
    assert.deepEqual(await names('-a', '-f', 'name=^w'), ['web']);
    assert.deepEqual(await names('-f', 'exited=3'), ['job']);
    assert.deepEqual(await names('-f', 'before=job'), ['web']);
    assert.deepEqual(await names('-f', 'since=job'), ['idle']);
    assert.deepEqual(await names('-a', '-f', `ancestor=${image}`), ['idle', 'job', 'web']);
    assert.deepEqual(await names('-a', '-f', 'volume=shared'), ['web']);
    const { code, stderr } = await daemon.berth('ps', '-f', 'colour=red');
    assert.equal(code, 1);
    assert.match(stderr, /--filter colour=red is not known; filters look like status=exited; there are id, name/);
  });

  it('ps has templates, tables of chosen columns, JSON under docker’s keys and sizes', async () => {
    await three();
    const id = (await daemon.ok('ps', '-q', '--no-trunc')).trim();
    assert.equal(
      await daemon.ok('ps', '--format', 'table {{.Names}}\\t{{.Image}}\\t{{.Mounts}}'),
      `NAMES     IMAGE                 MOUNTS\nweb       localhost/busybox:1   shared\n`,
    );
    assert.equal(
      await daemon.ok('ps', '--no-trunc', '--format', '{{.ID}} {{.Label "tier"}} {{.State}}'),
      `${id} front running\n`,
    );
    const json = JSON.parse(await daemon.ok('ps', '--format', '{{json .}}')) as Record<string, string>;
    assert.deepEqual([json['Names'], json['State'], json['Labels']], ['web', 'running', 'tier=front']);
    const both = JSON.parse(await daemon.ok('ps', '--format', 'json')) as Record<string, unknown>;
    assert.deepEqual([both['Names'], both['state']], ['web', 'running']);
    await daemon.ok('exec', 'web', 'sh', '-c', 'head -c 3000000 /dev/urandom > /big');
    const [row] = (await daemon.ok('ps', '-s')).trim().split('\n').slice(1);
    assert.match(row ?? '', /web +3(\.\d+)?MB \(virtual \d/);
    const wrong = await daemon.berth('ps', '--format', '{{.Colour}}');
    assert.match(wrong.stderr, /there is no \.Colour; fields are \.ID /);
  });

  it('inspect answers templates with docker’s keys', async () => {
    await daemon.ok(
      'run',
      '-d',
      '--name',
      'seen',
      '-e',
      'A=1',
      '-v',
      `${daemon.folder}:/m:ro`,
      '-m',
      '64m',
      image,
      'sleep',
      '1000',
    );
    const of = async (template: string, ...more: string[]) =>
      (await daemon.ok('inspect', '-f', template, ...more, 'seen')).trimEnd();
    assert.equal(await of('{{.State.Status}} {{.State.Running}} {{.Name}}'), 'running true /seen');
    assert.equal(
      await of('{{range .Mounts}}{{.Source}}->{{.Destination}} {{.RW}}{{end}}'),
      `${daemon.folder}->/m false`,
    );
    assert.equal(await of('{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}'), '67108864 no');
    assert.equal(await of('{{join .Config.Cmd " "}} {{.Config.Image}}'), `sleep 1000 ${image}`);
    assert.match(await of('{{json .Config.Env}}'), /"A=1"/);
    assert.match(await of('{{.SizeRw}} {{.SizeRootFs}}', '-s'), /^\d+ \d+$/);
    assert.equal(
      await daemon.ok('image', 'inspect', '-f', '{{index .RepoTags 0}} {{.Config.Cmd}}', image),
      `${image} [sh]\n`,
    );
    const nothing = await daemon.berth('inspect', '-f', '{{.Nothing}}', 'seen');
    assert.equal(nothing.code, 1);
    assert.match(nothing.stderr, /there is no \.Nothing/);
  });

  it('volumes are made, listed, shown, kept while they are used, and removed', async () => {
    assert.equal(await daemon.ok('volume', 'create', '-l', 'k=v', 'mine'), 'mine\n');
    await daemon.ok('run', '-d', '--name', 'user', '-v', 'mine:/m', image, 'sleep', '1000');
    assert.match(await daemon.ok('volume', 'ls'), /^VOLUME NAME +CREATED +CONTAINERS\n[^]*^mine +.* +1$/m);
    assert.equal(await daemon.ok('volume', 'ls', '-q', '-f', 'label=k=v'), 'mine\n');
    assert.match(await daemon.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'mine'), /\/volumes\/mine\/data\n$/);
    const used = await daemon.berth('volume', 'rm', 'mine');
    assert.equal(used.code, 1);
    assert.match(used.stderr, /volume mine is used by user; remove the containers first/);
    await daemon.ok('rm', '-f', 'user');
    assert.equal(await daemon.ok('volume', 'rm', 'mine'), 'mine\n');
    assert.match((await daemon.berth('volume', 'rm', 'mine')).stderr, /no volume is called "mine"/);
    assert.equal(await daemon.ok('volume', 'rm', '-f', 'mine'), 'mine\n');
    await daemon.ok('volume', 'create', 'left');
    assert.match(await daemon.ok('volume', 'prune', '-f', '-a'), /^Deleted volume: left$/m);
    assert.equal(await daemon.ok('volume', 'ls', '-q'), '');
  });

  it('prunes keep volumes that somebody gave a name, unless they are told to take all', async () => {
    await daemon.ok('volume', 'create', 'named');
    const first = (await daemon.ok('volume', 'create')).trim();
    const kept = /^Unused volumes with names that are kept: 1; berth volume prune -a removes them, too$/m;
    const volumes = await daemon.ok('volume', 'prune', '-f');
    assert.match(volumes, new RegExp(`^Deleted volume: ${first}$`, 'm'));
    assert.match(volumes, kept);
    const second = (await daemon.ok('volume', 'create')).trim();
    const system = await daemon.ok('system', 'prune', '-f', '--volumes');
    assert.match(system, new RegExp(`^Deleted volume: ${second}$`, 'm'));
    assert.match(system, kept);
    assert.equal(await daemon.ok('volume', 'ls', '-q'), 'named\n');
    const filtered = await daemon.berth('system', 'prune', '-f', '--volumes', '--filter', 'until=1h');
    assert.equal(filtered.code, 1);
    assert.match(filtered.stderr, /--filter does not choose among volumes, and excludes --volumes/);
    assert.match(await daemon.ok('volume', 'prune', '-f', '-a'), /^Deleted volume: named$/m);
  });

  it('system df counts, and prunes remove what nobody uses and nothing else', async () => {
    await three();
    const df = await daemon.ok('system', 'df');
    assert.match(df, /^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +1 +1 .*\nContainers +3 +1 .*\nVolumes +1 +1 /);
    assert.match(await daemon.ok('system', 'df', '-v'), /web[^]*shared/);
    // One of a list may have gone since the list was made.
    const some = [(await daemon.ok('ps', '-aq', '--no-trunc', '-f', 'name=job')).trim(), 'f'.repeat(64)];
    const { sizes } = await new Daemon(daemon.socket).ask(ContainersService.sizes, { containers: some });
    assert.deepEqual(
      sizes.map(({ id }) => id),
      some.slice(0, 1),
    );
    for (const what of ['container', 'image', 'volume', 'system']) {
      const asked = await daemon.berth(what, 'prune');
      assert.equal(asked.code, 1);
      assert.match(asked.stderr, /nobody can be asked whether to go on: stdin is not a terminal; say it with -f/);
    }
    assert.match(
      await daemon.ok('container', 'prune', '-f', '--filter', 'label=tier=back'),
      /^Deleted container: .*\nTotal reclaimed/,
    );
    assert.deepEqual(await names('-a'), ['idle', 'web']);
    assert.equal(await daemon.ok('container', 'prune', '-f', '--filter', 'until=1h'), 'Total reclaimed space: 0B\n');
    await daemon.ok('system', 'prune', '-f');
    assert.deepEqual(await names('-a'), ['web']);
    assert.match(await daemon.ok('images', '-q'), /./);
    await daemon.ok('rm', '-f', 'web');
    assert.match(await daemon.ok('volume', 'prune', '-f', '-a'), /^Deleted volume: shared$/m);
  });

  it('info, pods and inspectp tell of the node and of pods', async () => {
    await daemon.ok('run', '-d', '--name', 'podded', image, 'sleep', '1000');
    assert.match(await daemon.ok('info'), new RegExp(`^Containers: 1\n Running: 1\n[^]*^Name: ${hostname()}$`, 'm'));
    assert.equal(await daemon.ok('info', '-f', '{{.ContainersRunning}}/{{.Containers}}'), '1/1\n');
    // The one that is at work, whatever the configuration leaves open.
    assert.match(await daemon.ok('info', '-f', '{{.CgroupDriver}}'), /^(cgroupfs|systemd)\n$/);
    assert.match(await daemon.ok('info', '-f', '{{.SecurityOptions}}'), /name=seccomp,profile=builtin/);
    assert.equal(await daemon.ok('pods', '-q'), '');
    assert.match(await daemon.ok('pods', '-a'), /^POD ID +CREATED +STATE [^]* Ready +podded +berth /);
    assert.equal(await daemon.ok('inspectp', '-f', '{{.state}} {{len .containers}}', 'berth/podded'), 'ready 1\n');
    assert.match((await daemon.berth('inspectp', 'nobody')).stderr, /no pod is called "nobody"; berth pods lists them/);
    assert.match(await daemon.ok('version', '--format', '{{.Server.Version}}'), /^\d/);
  });
});
