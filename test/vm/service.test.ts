import './only-in-guest';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { directories, homeOf, readHierarchies } from '../../src/cgroup/hierarchies';
import { ociArchive } from '../support/archives';
import { CriClient } from '../support/cri-client';
import { busyboxImage } from '../support/image-builder';
import { repoRoot } from '../support/repo';

const SOCKET = '/run/berth/cri.sock';
const IMAGE = 'example.com/box:1';
const MIB = 1 << 20;

describe('berthd as a service of systemd', function () {
  this.timeout(120_000);
  const dir = mkdtempSync(join(tmpdir(), 'berth-service-'));
  let client: CriClient;
  let container = '';
  let cgroup = '';
  const systemctl = (...args: string[]) => execFileSync('systemctl', args, { encoding: 'utf8' }).trim();
  const show = (property: string) => systemctl('show', '-P', property, 'berthd');
  const restartOfClient = () => {
    client.close();
    client = new CriClient(SOCKET);
  };
  const look = async () => {
    const { status, info } = await client.call('ContainerStatus', { containerId: container, verbose: true });
    const { pid, cgroupPath } = JSON.parse(info['info'] ?? '{}') as { pid: number; cgroupPath: string };
    return { state: status.state, pid, cgroupPath };
  };
  const echo = async () => {
    const { stdout } = await client.call('ExecSync', { containerId: container, cmd: ['echo', 'here'] });
    return stdout.toString();
  };
  const hierarchies = readHierarchies();
  const memoryMax = () => {
    const { mountpoint, version } = homeOf(hierarchies, 'memory') ?? assert.fail('no memory controller');
    const file = version === 2 ? 'memory.max' : 'memory.limit_in_bytes';
    return readFileSync(join(mountpoint, cgroup, file), 'utf8').trim();
  };
  const helpers = () => {
    const all = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
    return all.filter(line => /^ *\d+ berth-helper /.test(line));
  };

  before(async () => {
    execFileSync(process.execPath, [join(repoRoot, 'scripts/install.mjs'), '/usr/local'], { stdio: 'ignore' });
    systemctl('daemon-reload');
    systemctl('start', 'berthd');
    writeFileSync(join(dir, 'box.tar'), ociArchive(busyboxImage(), { 'io.containerd.image.name': IMAGE }));
    execFileSync('/usr/local/bin/berth', ['load', '-i', join(dir, 'box.tar')], { stdio: 'pipe' });
    client = new CriClient(SOCKET);
    const sandboxConfig = {
      metadata: { name: 'pod', namespace: 'test', uid: 'uid', attempt: 0 },
      logDirectory: dir,
      linux: { securityContext: { namespaceOptions: { network: 'NODE' } } },
    };
    const { podSandboxId } = await client.call('RunPodSandbox', { config: sandboxConfig });
    const { containerId } = await client.call('CreateContainer', {
      podSandboxId,
      sandboxConfig,
      config: {
        metadata: { name: 'sleeper', attempt: 0 },
        image: { image: IMAGE },
        command: ['sleep', '100000'],
        logPath: 'sleeper.log',
        linux: { resources: { memoryLimitInBytes: 64 * MIB } },
      },
    });
    container = containerId;
    await client.call('StartContainer', { containerId });
    cgroup = (await look()).cgroupPath;
  });

  after(() => {
    client.close();
    spawnSync('systemctl', ['stop', 'berthd']);
    rmSync(dir, { recursive: true });
  });

  it('is ready when systemd says that it has started, and its containers do not have its OOM score', async () => {
    assert.deepEqual([show('ActiveState'), show('SubState'), show('Result')], ['active', 'running', 'success']);
    const { pid } = await look();
    const daemon = Number(show('MainPID'));
    const scores = [daemon, pid].map(one => readFileSync(`/proc/${one}/oom_score_adj`, 'utf8').trim());
    assert.deepEqual(scores, ['-999', '0']);
    assert.ok(helpers().length > 0);
  });

  for (const [what, act] of [
    ['is restarted', () => systemctl('restart', 'berthd')],
    [
      'is stopped and started',
      () => {
        systemctl('stop', 'berthd');
        systemctl('start', 'berthd');
      },
    ],
  ] as const) {
    it(`leaves pods as they are when it ${what}`, async () => {
      const before = await look();
      assert.equal(before.state, 'CONTAINER_RUNNING');
      act();
      restartOfClient();
      assert.deepEqual(await look(), before);
      assert.equal(await echo(), 'here\n');
    });
  }

  it('comes back by itself when it is killed, and pods have not noticed', async () => {
    const before = await look();
    const killed = show('MainPID');
    systemctl('kill', '--kill-whom=main', '-s', 'KILL', 'berthd');
    const isBack = () => show('ActiveState') === 'active' && show('MainPID') !== killed;
    while (!isBack()) await sleep(100);
    restartOfClient();
    assert.deepEqual(await look(), before);
  });

  it('keeps the limits of its containers when systemd reloads and arranges its own cgroups', async () => {
    assert.equal(memoryMax(), String(64 * MIB));
    systemctl('daemon-reload');
    execFileSync('systemd-run', ['-q', '--wait', '-p', 'MemoryMax=100M', '-p', 'CPUWeight=50', 'true']);
    assert.equal(memoryMax(), String(64 * MIB));
  });

  it('leaves no cgroup, process or unit behind', async () => {
    const { items } = await client.call('ListPodSandbox');
    for (const { id } of items) await client.call('RemovePodSandbox', { podSandboxId: id });
    assert.equal(execFileSync('find', ['/sys/fs/cgroup', '-name', `*${container}*`], { encoding: 'utf8' }), '');
    // Those that wait for a role are the daemon's, and end with it.
    assert.deepEqual(
      helpers().filter(line => !/ berth-helper spare/.test(line)),
      [],
    );
    systemctl('stop', 'berthd');
    for (const until = Date.now() + 60_000; helpers().length > 0; await sleep(50))
      assert.ok(Date.now() < until, helpers().join('\n'));
    assert.deepEqual([show('ActiveState'), show('Result')], ['inactive', 'success']);
    for (const unit of directories(hierarchies, '/system.slice/berthd.service')) {
      assert.equal(existsSync(unit) ? readFileSync(join(unit, 'cgroup.procs'), 'utf8') : '', '', unit);
    }
  });
});
