import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('the flags of run, with a real daemon', function () {
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

  /** What a shell in a container with these flags says. */
  const said = (flags: readonly string[], script: string) =>
    daemon.ok('run', '--rm', ...flags, image, 'sh', '-c', script);
  const refused = async (message: RegExp, ...flags: string[]) => {
    const { code, stderr } = await daemon.berth('run', '--rm', ...flags, image, 'true');
    assert.equal(code, 125, flags.join(' '));
    assert.match(stderr, message);
  };

  it('limit CPU, memory and processes', async () => {
    const flags = ['--cpus', '1.5', '-c', '512', '--cpuset-cpus', '0', '-m', '64m', '--pids-limit', '50'];
    const id = (await daemon.ok('run', '-d', ...flags, image, 'sleep', '100')).trim();
    const [{ runtimeSpec }] = JSON.parse(await daemon.ok('inspect', id)) as [
      { runtimeSpec: { linux: { resources: object } } },
    ];
    assert.deepEqual(runtimeSpec.linux.resources, {
      ...(runtimeSpec.linux.resources as { devices: object }),
      cpu: { shares: 512, quota: 150_000, period: 100_000, cpus: '0' },
      pids: { limit: 50 },
    });
    assert.match(
      await said(
        ['-m', '64m'],
        'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>&- || true',
      ),
      /67108864/,
    );
    await refused(/--cpus "x" is not a number of CPUs/, '--cpus', 'x');
    await refused(/--memory "lots" is not a size/, '-m', 'lots');
  });

  it('limit each process', async () => {
    assert.equal(
      await said(['--ulimit', 'nofile=100:200', '--ulimit', 'core=0'], 'ulimit -n; ulimit -Hn; ulimit -c'),
      '100\n200\n0\n',
    );
    const id = (await daemon.ok('run', '-d', '--ulimit', 'nofile=77', image, 'sleep', '100')).trim();
    assert.equal(await daemon.ok('exec', id, 'sh', '-c', 'ulimit -n'), '77\n');
    const view = JSON.parse(await daemon.ok('inspect', id)) as [
      { HostConfig: { Ulimits: object[] }; runtimeSpec: { process: { rlimits: object[] } } },
    ];
    assert.deepEqual(view[0].HostConfig.Ulimits, [{ Name: 'nofile', Soft: 77, Hard: 77 }]);
    const { rlimits } = view[0].runtimeSpec.process;
    const nofile = { type: 'RLIMIT_NOFILE', resource: 7, soft: 77, hard: 77 };
    assert.ok(
      rlimits.some(limit => isDeepStrictEqual(limit, nofile)),
      JSON.stringify(rlimits),
    );
    assert.equal(rlimits.length, 16);
    await refused(/--ulimit "colour=1": colour is not known/, '--ulimit', 'colour=1');
    await refused(/--ulimit "nofile=2:1": .* the soft one not above the hard one/, '--ulimit', 'nofile=2:1');
  });

  it('give and take rights', async () => {
    const caps = 'grep CapEff /proc/self/status | cut -f2';
    assert.equal(await said(['--cap-drop', 'ALL'], caps), '0000000000000000\n');
    assert.equal(await said(['--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN'], caps), '0000000000001000\n');
    assert.equal(await said(['--read-only'], 'touch /x 2>&1 || true'), 'touch: /x: Read-only file system\n');
    const nnp = 'grep NoNewPrivs /proc/self/status | cut -f2';
    assert.equal(await said(['--security-opt', 'no-new-privileges'], nnp), '1\n');
    const filter = 'grep Seccomp: /proc/self/status | cut -f2';
    assert.equal(await said([], filter), '2\n');
    assert.equal(await said(['--security-opt', 'seccomp=unconfined'], filter), '0\n');
    assert.equal(await said(['--privileged'], `${filter}; test -e /dev/kmsg && echo all`), '0\nall\n');
    assert.equal(await said(['--group-add', '44', '--group-add', 'extra', '-u', '1234'], 'id -G'), '0 44 2000\n');
    await refused(/group nobodys: no such group in the image's/, '--group-add', 'nobodys');
    await refused(/--security-opt wings=on is not known/, '--security-opt', 'wings=on');
    assert.equal(await said(['--device', '/dev/kmsg:/dev/here:r'], 'test -c /dev/here && echo there'), 'there\n');
  });

  it('mount', async () => {
    mkdirSync(daemon.path('data'), { recursive: true });
    writeFileSync(daemon.path('data/file'), 'on the node\n');
    const data = daemon.path('data');
    assert.equal(
      await said(['--mount', `type=bind,source=${data},target=/d,readonly`], 'cat /d/file; touch /d/x 2>&-; echo $?'),
      'on the node\n1\n',
    );
    const shown = "mount | grep ' /t ' | sed 's/.*(//'";
    assert.match(
      await said(['--tmpfs', '/t:size=1m,mode=700'], shown),
      /^rw,nosuid,nodev,noexec,.*size=1024k,mode=700/,
    );
    assert.match(await said(['--mount', 'type=tmpfs,target=/t,tmpfs-size=2m'], shown), /size=2048k/);
    assert.match(await said(['--shm-size', '1m'], 'df -k /dev/shm | tail -1'), / 1024 /);
    await refused(/type "floppy" is not known/, '--mount', 'type=floppy,source=/x,target=/y');
    await refused(/option "loud" is not known/, '--tmpfs', '/t:loud');
  });

  it('say names: of hosts, servers and itself', async () => {
    const flags = [
      '--add-host',
      'db:10.0.0.5',
      '--dns',
      '10.0.0.1',
      '--dns-search',
      'example.org',
      '--dns-option',
      'ndots:2',
    ];
    const hosts = await said([...flags, '-h', 'boat'], 'hostname; cat /etc/hosts /etc/resolv.conf');
    assert.match(hosts, /^boat\n/);
    assert.match(hosts, /^10\.0\.0\.5\tdb$/m);
    assert.match(hosts, /^nameserver 10\.0\.0\.1\nsearch example\.org\noptions ndots:2$/m);
    assert.equal(await said(['--sysctl', 'kernel.shm_rmid_forced=1'], 'cat /proc/sys/kernel/shm_rmid_forced'), '1\n');
    await refused(/--add-host "x" is not HOST:ADDRESS/, '--add-host', 'x');
  });

  it('share namespaces with the node, or have ids of their own', async () => {
    const own = (type: string) => `readlink /proc/self/ns/${type}`;
    const nodes = readFileSync('/proc/sys/kernel/hostname', 'utf8').trim();
    assert.equal(await said(['--uts', 'host'], 'cat /proc/sys/kernel/hostname'), `${nodes}\n`);
    assert.match(await said(['--pid', 'host'], 'cat /proc/1/comm; echo $$'), /^(?!sh).*\n\d{2,}\n$/);
    assert.notEqual(await said([], own('ipc')), await said(['--ipc', 'host'], own('ipc')));
    const map = await said(['--userns', 'auto'], 'cat /proc/self/uid_map');
    assert.match(map, /^ +0 +2147483648 +65536\n$/);
    assert.match(await said(['--userns', 'auto:size=1000'], 'cat /proc/self/uid_map'), / 1000\n$/);
    await refused(/--ipc nonsense is not known/, '--ipc', 'nonsense');
  });

  it('--init reaps, hands signals on, and ends as the command does', async () => {
    const orphans =
      '(sh -c "sleep 0.05 & exec true" &); sleep 0.5; cat /proc/[0-9]*/stat | grep -c ") Z "; cat /proc/1/comm';
    assert.equal(await said(['--init'], orphans), '0\nberth-init\n');
    assert.equal((await daemon.berth('run', '--rm', '--init', image, 'sh', '-c', 'exit 7')).code, 7);
    assert.equal((await daemon.berth('run', '--rm', '--init', image, 'sh', '-c', 'kill -9 $$')).code, 137);
    assert.equal((await daemon.berth('run', '--rm', '--init', image, '/not-there')).code, 127);
    await daemon.ok('run', '-d', '--init', '--name', 'sleeper', image, 'sleep', '100');
    await daemon.ok('stop', '-t', '60', 'sleeper');
    assert.match(await daemon.ok('ps', '-a'), /Exited \(143\)/);
  });

  it('stop as they are told', async () => {
    const script = 'trap "echo usr1; exit 3" USR1; echo ready; while :; do sleep 0.05; done';
    await daemon.ok('run', '-d', '--name', 'asked', '--stop-signal', 'USR1', image, 'sh', '-c', script);
    await daemon.eventually('it listens', async () => (await daemon.ok('logs', 'asked')) === 'ready\n');
    await daemon.ok('stop', '-t', '60', 'asked');
    assert.equal(await daemon.ok('logs', 'asked'), 'ready\nusr1\n');
    await daemon.ok(
      'run',
      '-d',
      '--name',
      'short',
      '--stop-timeout',
      '0',
      image,
      'sh',
      '-c',
      'trap "" TERM; sleep 1000',
    );
    await daemon.ok('stop', 'short');
    assert.match(await daemon.ok('ps', '-a'), /Exited \(137\).*short\n/);
    await refused(/stop signal "SIGFOO" is not a signal/, '--stop-signal', 'SIGFOO');
  });

  it('keep the id in a file, labels from a file, and refuse what is not of this node', async () => {
    writeFileSync(daemon.path('labels'), '# comment\na=1\n\nb=2\n');
    const flags = [
      '--cidfile',
      daemon.path('cid'),
      '--label-file',
      daemon.path('labels'),
      '-l',
      'b=3',
      '--annotation',
      'n=v',
    ];
    const id = (await daemon.ok('run', '-d', ...flags, image, 'sleep', '100')).trim();
    assert.equal(readFileSync(daemon.path('cid'), 'utf8'), id);
    const [{ labels, annotations }] = JSON.parse(await daemon.ok('inspect', id)) as [Record<string, object>];
    assert.deepEqual([labels, annotations], [{ a: '1', b: '3' }, { n: 'v' }]);
    await refused(
      /--cidfile .* cannot be made: .*; a file that is there is not overwritten/,
      '--cidfile',
      daemon.path('cid'),
    );
    await refused(/"plan9\/" is not a platform; platforms look like linux\/arm64/, '--platform', 'plan9/');
    await refused(/--rm and --restart always exclude each other/, '--restart', 'always');
    await refused(/--stop-timeout "-1" is not a number of seconds/, '--stop-timeout', '-1');
  });

  it('volumes have what the image has, keep what was written, and are shared', async () => {
    assert.match(await said(['-v', 'sites:/etc'], 'echo more >> /etc/passwd; ls /etc'), /^group$[^]*^passwd$/m);
    assert.match(
      await said(['-v', 'sites:/data:ro'], 'cat /data/passwd; touch /data/x 2>&1 || true'),
      /more\ntouch: .*Read-only/,
    );
    const both = await Promise.all([1, 2].map(() => said(['-v', 'both:/etc'], 'ls /etc/passwd')));
    assert.deepEqual(both, ['/etc/passwd\n', '/etc/passwd\n']);
    assert.equal(await said(['-v', 'bare:/etc:nocopy'], 'ls /etc/passwd 2>&-; true'), '');
    const nocopy = 'type=volume,source=bare-too,target=/etc,volume-nocopy';
    assert.equal(await said(['--mount', nocopy], 'ls /etc/passwd 2>&-; true'), '');
    await refused(/"volume-nocopy" is not known/, '--mount', 'type=bind,source=/x,target=/y,volume-nocopy');
    await refused(/cannot be a volume's name/, '-v', 'x:/data');
  });
});
