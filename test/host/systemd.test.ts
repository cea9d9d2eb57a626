import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processesBelow } from '../../src/cgroup/freeze';
import { Cgroups } from '../../src/cgroup/groups';
import { directories, homeOf, readHierarchies, type Hierarchies } from '../../src/cgroup/hierarchies';
import { scopeOf } from '../../src/cgroup/systemd/names';
import { addresses } from '../../src/cgroup/systemd/session';
import { Systemd } from '../../src/cgroup/systemd/systemd';
import { Units } from '../../src/cgroup/systemd/units';
import { Connection, RemoteError } from '../../src/dbus/connection';
import { startTimeOf } from '../../src/process/identity';
import { FakeSystemd, noFaults } from '../support/fake-systemd';

const here = readHierarchies();

/** Of what a machine without load does at once. */
const LONG_MS = 60_000;

/** In the real trees of this host below a name of the test's own, with a systemd that is not the host's. */
describe('cgroups made by systemd', function () {
  this.timeout(60_000);
  let dir: string;
  let base: string;
  let hierarchies: Hierarchies;
  const children: ChildProcess[] = [];
  let fake: FakeSystemd;
  let systemd: Systemd;
  let cgroups: Cgroups;
  let counter = 0;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-systemd-'));
    base = basename(dir);
    const below = (root: string) => join(root, base);
    hierarchies = {
      ...here,
      v2: here.v2 === undefined ? undefined : below(here.v2),
      v1: here.v1.map(hierarchy => ({ ...hierarchy, mountpoint: below(hierarchy.mountpoint) })),
    };
    await new Cgroups(here).create(`/${base}`);
    fake = await FakeSystemd.start(join(dir, 'bus'), directories(hierarchies, '/'));
    systemd = new Systemd(addresses({ DBUS_SYSTEM_BUS_ADDRESS: fake.address }), 50);
    cgroups = new Cgroups(hierarchies, new Units(systemd, hierarchies, LONG_MS));
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    Object.assign(fake.faults, noFaults());
  });
  after(async () => {
    systemd.close();
    await fake.stop();
    await new Cgroups(here).remove(`/${base}`);
    rmSync(dir, { recursive: true });
  });

  const slice = 'kubepods-burstable-pod1.slice';
  const newPath = () => cgroups.containerPath(cgroups.parentPath(slice), `c${++counter}`);
  const scopeDirs = (path: string) => directories(hierarchies, scopeOf(path)?.path ?? assert.fail(path));

  /** A process in the cgroup, as a container's first one is. */
  async function run(path: string): Promise<ChildProcess> {
    const enter = directories(hierarchies, path).map(at => `echo 0 > ${at}/cgroup.procs`);
    const script = [...enter, 'echo in', 'exec sleep 1000'].join(' && ');
    const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    await once(child.stdout, 'data');
    return child;
  }

  const holders = (path: string) => {
    const parts = scopeOf(path) ?? assert.fail(path);
    return processesBelow(hierarchies, parts.path).filter(pid => !processesBelow(hierarchies, path).includes(pid));
  };

  async function untilGone(dirs: readonly string[]): Promise<void> {
    while (dirs.some(existsSync)) await sleep(5);
  }

  /** A scope that has lost its last process is ended by systemd's next look. */
  async function noUnitLeft(): Promise<void> {
    for (const until = Date.now() + LONG_MS / 2; fake.units.size > 0 && Date.now() < until;) await sleep(5);
    assert.deepEqual([...fake.units.keys()], []);
  }

  it('have a scope of their own, delegated, in the slice that the kubelet names', async () => {
    const path = newPath();
    const placement = await cgroups.makeContainer(path, { pids: { limit: 5n } }, []);
    assert.equal(path, `/kubepods.slice/kubepods-burstable.slice/${slice}/berth-c${counter}.scope/container`);
    assert.equal(placement.v2Directory, hierarchies.v2 && join(hierarchies.v2, path));
    assert.ok(directories(hierarchies, path).every(existsSync));
    const { properties } = fake.units.get(scopeOf(path)?.scope ?? '') ?? assert.fail('no unit');
    assert.equal(properties.get('Delegate')?.value, true);
    const isV1 = homeOf(hierarchies, 'devices') !== undefined;
    assert.deepEqual(properties.get('DelegateControllers')?.value, isV1 ? ['devices'] : undefined);
    assert.equal(properties.get('Slice')?.value, slice);
    assert.equal(properties.get('TasksMax')?.value, 6n);
    assert.deepEqual(cgroups.processes(path), []);
    const other = newPath();
    await cgroups.makeContainer(other, {}, []);
    const unlimited = fake.units.get(scopeOf(other)?.scope ?? '')?.properties.get('TasksMax')?.value;
    assert.equal(unlimited, 2n ** 64n - 1n);
    await cgroups.remove(other);
    await cgroups.remove(path);
    assert.deepEqual(scopeDirs(path).filter(existsSync), []);
    await noUnitLeft();
  });

  it('stay when the last process of theirs has ended, until they are removed', async () => {
    const path = newPath();
    await cgroups.makeContainer(path, {}, []);
    const child = await run(path);
    const [holder = 0] = holders(path);
    assert.equal(readlinkSync(`/proc/${holder}/cwd`), '/');
    child.kill('SIGKILL');
    await once(child, 'close');
    assert.equal(await cgroups.emptied(path, AbortSignal.timeout(10_000)), true);
    const looked = fake.looks;
    while (fake.looks < looked + 3) await sleep(5);
    assert.ok(existsSync(directories(hierarchies, path)[0] ?? ''));
    await cgroups.remove(path);
    assert.deepEqual(scopeDirs(path).filter(existsSync), []);
    while (startTimeOf(holder) !== undefined) await sleep(5);
  });

  it('go with all that runs in them', async () => {
    const path = newPath();
    await cgroups.makeContainer(path, {}, []);
    const child = await run(path);
    const closed = once(child, 'close');
    await cgroups.remove(path);
    await closed;
    assert.deepEqual(scopeDirs(path).filter(existsSync), []);
    await cgroups.remove(path);
  });

  it('are not there when systemd could not make them, nor is what was to be in them', async () => {
    const path = newPath();
    fake.faults.nextResult = 'failed';
    await assert.rejects(
      cgroups.makeContainer(path, {}, []),
      /start berth-c\d+\.scope through systemd: its job ended with "failed"; see what it says: journalctl -u berth-c/,
    );
    fake.faults.refuses = 'StartTransientUnit';
    await assert.rejects(cgroups.makeContainer(path, {}, []), /StartTransientUnit is refused/);
    await cgroups.remove(path);
    assert.deepEqual(scopeDirs(path).filter(existsSync), []);
    await noUnitLeft();
  });

  it('are asked for many at a time: none waits for the reply of another', async () => {
    const paths = Array.from({ length: 20 }, newPath);
    await systemd.version();
    fake.faults.answersInBunchesOf = 20;
    const making = Promise.all(paths.map(path => cgroups.makeContainer(path, {}, [])));
    // All 20 calls are there before the first is answered; the signals come after.
    while (fake.calls.filter(call => call === 'StartTransientUnit').length < 20) await sleep(5);
    fake.faults.answersInBunchesOf = 1;
    await Promise.all([making, systemd.version()]);
    await Promise.all(paths.map(path => cgroups.remove(path)));
    await noUnitLeft();
  });

  it('are made although the reply, the signal or the connection was lost', async () => {
    const path = newPath();
    fake.faults.cutsNextJob = true;
    await cgroups.makeContainer(path, {}, []);
    fake.faults.cutsNextJob = true;
    await cgroups.remove(path);
    fake.faults.losesSignals = true;
    const other = newPath();
    await cgroups.makeContainer(other, {}, []);
    await cgroups.remove(other);
    await noUnitLeft();
    assert.deepEqual([...scopeDirs(path), ...scopeDirs(other)].filter(existsSync), []);
  });

  it('are made whatever somebody else on the bus says of them', async () => {
    const path = newPath();
    fake.faults.isImitated = true;
    await cgroups.makeContainer(path, {}, []);
    await cgroups.remove(path);
    await noUnitLeft();
  });

  it('are made once systemd is back, and it is asked again to tell of jobs', async () => {
    await systemd.version();
    const path = newPath();
    await fake.stopListening();
    const making = cgroups.makeContainer(path, {}, []);
    await sleep(20);
    await fake.listen();
    await making;
    const subscribed = () => fake.calls.filter(call => call === 'Subscribe').length;
    const before = subscribed();
    fake.reexecute();
    while (subscribed() === before) await sleep(5);
    fake.faults.isImitated = true;
    await cgroups.remove(path);
  });

  it('share one attempt to reach systemd, and how it ends', async () => {
    const nobody = join(dir, 'silent');
    const connections: Socket[] = [];
    const server = createServer(socket => connections.push(socket.on('error', () => undefined))).listen(nobody);
    await once(server, 'listening');
    const lonely = new Systemd([{ socket: nobody, isBus: true }]);
    try {
      const connected = once(server, 'connection');
      const stops = Promise.allSettled(Array.from({ length: 10 }, (_, i) => lonely.stop(`berth-none${i}.scope`, 300)));
      await connected;
      for (const { status, reason } of (await stops) as PromiseRejectedResult[]) {
        assert.equal(status, 'rejected');
        assert.match(String(reason), /stop berth-none\d\.scope through systemd: systemd has not done it in time/);
      }
      assert.equal(connections.length, 1);
    } finally {
      lonely.close();
      for (const socket of connections) socket.destroy();
      server.close();
    }
  });

  it('are changed in systemd, too, or not at all', async () => {
    const path = newPath();
    await cgroups.makeContainer(path, { pids: { limit: 5n } }, []);
    const tasksMax = () => fake.units.get(scopeOf(path)?.scope ?? '')?.properties.get('TasksMax')?.value;
    const file = directories(hierarchies, path)
      .map(at => join(at, 'pids.max'))
      .find(existsSync);
    const pidsMax = () => readFileSync(file ?? assert.fail('no pids controller'), 'utf8').trim();
    const undo = await cgroups.changeLimits(path, { pids: { limit: 7n } });
    assert.deepEqual([tasksMax(), pidsMax()], [8n, '7']);
    await undo();
    assert.deepEqual([tasksMax(), pidsMax()], [6n, '5']);
    fake.faults.refuses = 'SetUnitProperties';
    await assert.rejects(
      cgroups.changeLimits(path, { pids: { limit: 9n } }),
      /change TasksMax of berth-c\d+\.scope through systemd: SetUnitProperties is refused/,
    );
    assert.deepEqual([tasksMax(), pidsMax()], [6n, '5']);
    await cgroups.remove(path);
  });

  it('of a pod of berth’s own are a slice, with its limits', async () => {
    const path = cgroups.ownParentPath('0123abcd');
    assert.equal(path, '/berth.slice/berth-0123abcd.slice');
    await cgroups.makePod(path, { pids: { limit: 100n } });
    assert.equal(fake.units.get('berth-0123abcd.slice')?.properties.get('TasksMax')?.value, 100n);
    const container = cgroups.containerPath(path, 'c');
    await cgroups.makeContainer(container, {}, []);
    await run(container);
    assert.equal(cgroups.podPath(container), path);
    await cgroups.remove(container);
    await cgroups.remove(path, '/berth.slice');
    await noUnitLeft();
    assert.deepEqual(directories(hierarchies, path).filter(existsSync), []);
  });

  it('end with the process that makes them, unless they are complete', async () => {
    const path = newPath();
    const script = `
      const { Systemd } = require('./dist/src/cgroup/systemd/systemd.js');
      const { startHolder } = require('./dist/src/cgroup/systemd/holder.js');
      const systemd = new Systemd([{ socket: '${fake.socketPath}', isBus: true }]);
      startHolder('x').then(({ pid }) => systemd.start('berth-c${counter}.scope', [
        ['Slice', { signature: 's', value: '${slice}' }],
        ['PIDs', { signature: 'au', value: [pid] }],
      ])).then(() => process.kill(process.pid, 'SIGKILL'));`;
    const child = spawn(process.execPath, ['-e', script], { stdio: 'inherit', cwd: join(__dirname, '../../..') });
    const [, signal] = (await once(child, 'close')) as [number | null, string | null];
    assert.equal(signal, 'SIGKILL');
    await untilGone(scopeDirs(path));
    await noUnitLeft();
  });

  it('are removed without systemd when it is not there or does not answer, and by the other driver', async () => {
    const hasty = new Cgroups(hierarchies, new Units(systemd, hierarchies, 200));
    const remove: (() => Promise<void>)[] = [
      () => new Cgroups(hierarchies).remove(path),
      async () => {
        fake.faults.isSilent = true;
        await hasty.remove(path);
        fake.faults.isSilent = false;
      },
      async () => {
        await fake.stopListening();
        await hasty.remove(path);
        await fake.listen();
      },
    ];
    let path = '';
    for (const how of remove) {
      path = newPath();
      await cgroups.makeContainer(path, {}, []);
      await run(path);
      const startedAt = Date.now();
      await how();
      assert.deepEqual(scopeDirs(path).filter(existsSync), []);
      // Nobody's answer was waited for: that takes a minute.
      assert.ok(Date.now() - startedAt < 50_000);
    }
  });

  it('tell why systemd did not end them when they cannot be removed, either', async () => {
    const v2 = join(dir, 'v2');
    const own: Hierarchies = { v2, v2Controllers: [], v1: [] };
    const path = newPath();
    mkdirSync(join(v2, scopeOf(path)?.path ?? '', 'memory.max'), { recursive: true });
    writeFileSync(join(v2, scopeOf(path)?.path ?? '', 'memory.max', 'x'), '');
    fake.faults.refuses = 'StopUnit';
    await assert.rejects(
      new Cgroups(own, new Units(systemd, own, LONG_MS)).remove(path),
      /StopUnit is refused; remove cgroup .*ENOTEMPTY/,
    );
  });
});

/** Whose reading of the specification is not ours. */
describe('D-Bus as dbus-daemon speaks it', function () {
  this.timeout(60_000);
  let dir: string;
  let socket: string;
  let daemon: ChildProcess | undefined;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-dbus-'));
    socket = join(dir, 'bus');
    const policy =
      '<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>';
    const config = `<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>${policy}</busconfig>`;
    writeFileSync(join(dir, 'bus.conf'), config);
    daemon = spawn('dbus-daemon', [`--config-file=${join(dir, 'bus.conf')}`, '--nofork', '--print-address'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(daemon.stdout ?? assert.fail('no output'), 'data');
  });
  after(async () => {
    const closed = daemon && once(daemon, 'close');
    daemon?.kill();
    await closed;
    rmSync(dir, { recursive: true });
  });

  const bus = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' };

  it('is understood: calls, errors, signals', async () => {
    const signals: unknown[] = [];
    const connection = await Connection.open(socket, signal => signals.push([signal.member, ...signal.body]), 10_000);
    const call = (member: string, signature = '', body: readonly (string | number)[] = []) =>
      connection.call({ ...bus, member, signature, body }, 10_000);
    const [hello, , [taken]] = await Promise.all([
      call('Hello'),
      call('AddMatch', 's', ["type='signal',member='NameOwnerChanged',arg0='a.b'"]),
      call('RequestName', 'su', ['a.b', 0]),
    ]);
    const name = hello[0] as string;
    assert.match(name, /^:1\.\d+$/);
    assert.equal(taken, 1);
    assert.deepEqual(
      signals.filter(signal => (signal as string[])[0] === 'NameOwnerChanged'),
      [['NameOwnerChanged', 'a.b', '', name]],
    );
    await assert.rejects(
      call('NoSuchMethod'),
      (error: unknown) =>
        error instanceof RemoteError && error.errorName === 'org.freedesktop.DBus.Error.UnknownMethod',
    );
    // What is called here itself is refused, and the refusal comes back.
    const toUs = connection.call({ destination: name, path: '/', interface: 'a.b', member: 'X' }, 10_000);
    await assert.rejects(toUs, /there is no method X here/);
    connection.close();
    await assert.rejects(call('ListNames'), /is gone: it was closed/);
  });
});
