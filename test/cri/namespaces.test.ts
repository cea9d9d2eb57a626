import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { refused, useNode } from '../support/node';

type Modes = Partial<Record<'network' | 'pid' | 'ipc', 'POD' | 'CONTAINER' | 'NODE' | 'TARGET'>> & {
  targetId?: string;
};

const types = ['net', 'pid', 'ipc', 'uts', 'mnt', 'cgroup', 'user'] as const;
type Inodes = Record<(typeof types)[number], string>;

describe('the namespaces of containers', function () {
  this.timeout(60_000);
  const node = useNode();

  const inodesOf = (pid: number | 'self'): Inodes =>
    Object.fromEntries(types.map(type => [type, readlinkSync(`/proc/${pid}/ns/${type}`)])) as Inodes;
  const host = inodesOf('self');
  /** As the kernel has them for the container's first process. */
  const inodes = async (id: string) => inodesOf(await node().pidOf(id));

  const pod = (modes: Modes, more: Record<string, unknown> = {}) =>
    node().pod({ linux: { securityContext: { namespaceOptions: modes }, ...more } });
  const start = (inPod: string, modes: Modes, more: Record<string, unknown> = {}) =>
    node().start(inPod, { security: { namespaceOptions: modes }, ...more });
  const two = async (modes: Modes) => {
    const one = await pod(modes);
    return [await inodes(await start(one, modes)), await inodes(await start(one, modes))] as const;
  };
  const pauseOf = async (podSandboxId: string) => {
    const { info } = await node().client.call('PodSandboxStatus', { podSandboxId, verbose: true });
    return (JSON.parse(info['info'] ?? '{}') as { pid: number }).pid;
  };
  const pidMax = ['sh', '-c', 'cat /proc/1/comm; ps -o pid,comm'];

  it('are its own, its pod’s or the host’s by the mode of each, and mount and cgroup are always its own', async () => {
    const all = ['POD', 'NODE'] as const;
    for (const network of all) {
      for (const ipc of all) {
        for (const pid of ['POD', 'CONTAINER', 'NODE'] as const) {
          const what = `network ${network}, ipc ${ipc}, pid ${pid}`;
          const [one, other] = await two({ network, ipc, pid });
          const check = (type: keyof Inodes, whose: 'pod' | 'container' | 'host') => {
            assert.equal(one[type] === host[type], whose === 'host', `${what}: ${type} is the host's`);
            assert.equal(one[type] === other[type], whose !== 'container', `${what}: ${type} is shared`);
          };
          check('net', network === 'POD' ? 'pod' : 'host');
          check('uts', network === 'POD' ? 'pod' : 'host');
          check('ipc', ipc === 'POD' ? 'pod' : 'host');
          check('pid', pid === 'POD' ? 'pod' : pid === 'CONTAINER' ? 'container' : 'host');
          check('mnt', 'container');
          check('cgroup', 'container');
          check('user', 'host');
          await node().removeAll();
        }
      }
    }
  });

  it('are not those of another pod', async () => {
    const [one] = await two({});
    const [other] = await two({});
    for (const type of types) assert.equal(one[type] === other[type], type === 'user', type);
  });

  it('are an exec’s, too: all of them', async () => {
    for (const modes of [{}, { pid: 'CONTAINER' }, { network: 'NODE', ipc: 'NODE', pid: 'NODE' }] as const) {
      const id = await start(await pod(modes), modes);
      const seen = await node().exec(id, [
        'sh',
        '-c',
        `cd /proc/self/ns; for n in ${types.join(' ')}; do readlink $n; done`,
      ]);
      assert.deepEqual(seen.trim().split('\n'), Object.values(await inodes(id)));
    }
  });

  it('are the pod’s where a container asks for nothing', async () => {
    const modes = { network: 'NODE', ipc: 'NODE', pid: 'NODE' } as const;
    const seen = await inodes(await node().start(await pod(modes)));
    for (const type of ['net', 'ipc', 'uts', 'pid'] as const) assert.equal(seen[type], host[type], type);
    const separate = await pod({ pid: 'CONTAINER' });
    const [one, other] = [await inodes(await node().start(separate)), await inodes(await node().start(separate))];
    assert.notEqual(one.pid, other.pid);
    assert.notEqual(one.pid, host.pid);
  });

  it('show its own processes as 1, 2, 3 … with CONTAINER, and those of the pod with POD', async () => {
    const own = await pod({ pid: 'CONTAINER' });
    await start(own, { pid: 'CONTAINER' }, { command: ['sleep', '711'] });
    const { stdout } = await node().run(pidMax, { pod: own, security: { namespaceOptions: { pid: 'CONTAINER' } } });
    assert.match(stdout, /^sh\n/);
    assert.doesNotMatch(stdout, /sleep/);
    const shared = await pod({ pid: 'POD' });
    await start(shared, { pid: 'POD' }, { command: ['sleep', '712'] });
    const seen = await node().run(pidMax, { pod: shared, security: { namespaceOptions: { pid: 'POD' } } });
    assert.match(seen.stdout, /^berth-pause\n/);
    assert.match(seen.stdout, /sleep/);
  });

  it('are refused in modes that do not exist for them', async () => {
    for (const type of ['network', 'ipc'] as const) {
      for (const mode of ['CONTAINER', 'TARGET'] as const) {
        await refused(pod({ [type]: mode }), 'INVALID_ARGUMENT', `namespace_options.${type}: ${mode} is not possible`);
        const inPod = await pod({});
        await refused(
          node().create(inPod, { security: { namespaceOptions: { [type]: mode } } }),
          'INVALID_ARGUMENT',
          `namespace_options.${type}: ${mode} is not possible`,
        );
      }
      const own = await pod({});
      await refused(
        node().create(own, { security: { namespaceOptions: { [type]: 'NODE' } } }),
        'INVALID_ARGUMENT',
        'its pod has one of its own',
      );
    }
    await refused(pod({ pid: 'TARGET', targetId: 'x' }), 'INVALID_ARGUMENT', 'namespace_options.pid: TARGET');
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
  });

  describe('the init of a shared PID namespace', () => {
    it('reaps what processes leave behind', async () => {
      const shared = await pod({ pid: 'POD' });
      const id = await start(shared, { pid: 'POD' });
      // Each sleep loses its parent at once and ends a moment later.
      for (let i = 0; i < 10; i++) await node().exec(id, ['sh', '-c', '(sleep 0.05 &) ; true']);
      const zombies = 'for p in /proc/[0-9]*; do grep -q "^State:.Z" $p/status 2>/dev/null && echo $p; done; true';
      const left = async () => node().exec(id, ['sh', '-c', `${zombies}; ps -o comm | grep -c "^sleep" || true`]);
      const until = Date.now() + 20_000;
      while ((await left()) !== '1\n' && Date.now() < until) await sleep(20);
      assert.equal(await left(), '1\n', 'only the container’s own sleep is left, and no zombie');
    });

    it('forwards no signal, ends by none from inside, and holds nothing', async () => {
      const shared = await pod({ pid: 'POD' });
      const id = await node().start(shared, { security: { capabilities: { addCapabilities: ['SYS_PTRACE'] } } });
      const pause = await pauseOf(shared);
      for (const signal of ['TERM', 'INT', 'HUP', 'KILL', 'STOP', 'CHLD', 'USR1'])
        await node().exec(id, ['kill', `-${signal}`, '1']);
      assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
      assert.match(readFileSync(`/proc/${pause}/status`, 'utf8'), /^State:\s+S/m);
      assert.equal(await node().exec(id, ['sh', '-c', 'ls /proc/1/root/ 2>/dev/null | wc -l']), '0\n');
      assert.match(readFileSync(`/proc/${pause}/status`, 'utf8'), /^CapBnd:\s+0+$/m);
      assert.equal(await node().exec(id, ['echo', 'alive']), 'alive\n');
    });

    it('is there as long as the pod, whatever its containers do', async () => {
      const shared = await pod({ pid: 'POD' });
      const pause = await pauseOf(shared);
      const first = await start(shared, { pid: 'POD' });
      const { pid } = await inodes(first);
      await node().client.call('RemoveContainer', { containerId: first });
      const second = await start(shared, { pid: 'POD' });
      assert.equal((await inodes(second)).pid, pid);
      await node().client.call('StopPodSandbox', { podSandboxId: shared });
      const until = Date.now() + 10_000;
      while (existsSync(`/proc/${pause}`) && Date.now() < until) await sleep(5);
      assert.equal(existsSync(`/proc/${pause}`), false);
    });

    it('is not there without a shared PID namespace', async () => {
      for (const pid of ['CONTAINER', 'NODE'] as const) assert.equal(await pauseOf(await pod({ pid })), 0, pid);
    });
  });

  describe('a container that debugs another', () => {
    it('joins its PID namespace and no more, whatever that one’s mode is', async () => {
      for (const mode of ['CONTAINER', 'POD', 'NODE'] as const) {
        const inPod = await pod({ pid: mode });
        const target = await start(inPod, { pid: mode }, { command: ['sleep', '713'] });
        const debug = await start(inPod, { pid: 'TARGET', targetId: target });
        const [own, its] = [await inodes(debug), await inodes(target)];
        assert.equal(own.pid, its.pid, mode);
        assert.notEqual(own.mnt, its.mnt);
        assert.notEqual(own.cgroup, its.cgroup);
        for (const type of ['net', 'ipc', 'uts', 'user'] as const) assert.equal(own[type], its[type]);
        if (mode === 'CONTAINER') assert.equal(await node().exec(debug, ['cat', '/proc/1/comm']), 'sleep\n');
        await node().client.call('StopContainer', { containerId: debug, timeout: 0 });
        assert.equal((await node().status(target)).state, 'CONTAINER_RUNNING');
      }
    });

    it('ends with it when that one is the init of their namespace', async () => {
      const inPod = await pod({ pid: 'CONTAINER' });
      const target = await start(inPod, { pid: 'CONTAINER' });
      const debug = await start(inPod, { pid: 'TARGET', targetId: target });
      await node().client.call('StopContainer', { containerId: target, timeout: 0 });
      assert.equal((await node().exit(debug)).exitCode, 137);
    });

    it('is refused for a container that is not the pod’s, does not run, or is not there', async () => {
      const inPod = await pod({ pid: 'CONTAINER' });
      const join = (targetId: string) =>
        node().create(inPod, { security: { namespaceOptions: { pid: 'TARGET', targetId } } });
      const elsewhere = await start(await pod({ pid: 'CONTAINER' }), { pid: 'CONTAINER' });
      await refused(join(elsewhere), 'INVALID_ARGUMENT', 'only a container of the same pod can be a target');
      await refused(join('0123456789'), 'INVALID_ARGUMENT', 'has no container "0123456789"');
      await refused(join(''), 'INVALID_ARGUMENT', 'target_id is empty');
      const created = await node().create(inPod, { security: { namespaceOptions: { pid: 'CONTAINER' } } });
      await refused(join(created), 'FAILED_PRECONDITION', 'is created and does not run');
      const exited = await start(inPod, { pid: 'CONTAINER' }, { command: ['true'] });
      await node().exit(exited);
      await refused(join(exited), 'FAILED_PRECONDITION', 'is exited and does not run');
    });
  });

  it('have the host’s name with the host’s network, and the pod’s name without', async () => {
    const config = { hostname: 'asked-for' };
    const own = await node().pod(config);
    assert.equal((await node().run(['hostname'], { pod: own })).stdout, 'asked-for\n');
    const options = { namespaceOptions: { network: 'NODE' } };
    const shared = await node().pod({ ...config, linux: { securityContext: options } });
    const { stdout } = await node().run(['sh', '-c', 'hostname; cat /etc/hostname'], {
      pod: shared,
      security: options,
    });
    const name = readFileSync('/proc/sys/kernel/hostname', 'utf8');
    assert.equal(stdout, name + name);
  });
});
