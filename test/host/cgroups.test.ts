import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceRule } from '../../src/cgroup/devices';
import { limitDevices } from '../../src/cgroup/devices';
import { processesBelow } from '../../src/cgroup/freeze';
import { Cgroups } from '../../src/cgroup/groups';
import { directories, readHierarchies, type Hierarchies } from '../../src/cgroup/hierarchies';
import { deviceRules } from '../../src/oci/devices';
import { startTimeOf } from '../../src/process/identity';
import { testCgroupParent } from '../support/cgroup-parent';

const here = readHierarchies();
const v1Only: Hierarchies = { ...here, v2: undefined, v2Controllers: [] };
const v2Only: Hierarchies = { ...here, v1: [] };

/** Skips the suite where the machine has no such hierarchies: no v1 on most, no v2 on old ones. */
function onlyWith({ v1, v2 }: Hierarchies): void {
  before(function () {
    if (v1.length === 0 && v2 === undefined) this.skip();
  });
}

/** Cgroups of the real trees, below a name of this test's own; gone after it, with all that ran in them. */
describe('cgroups', function () {
  this.timeout(60_000);
  const dir = mkdtempSync(join(tmpdir(), 'berth-cgroups-'));
  const base = `${testCgroupParent}/${basename(dir)}`;
  const children: ChildProcess[] = [];
  let counter = 0;

  after(async () => {
    await new Cgroups(here).remove(base);
    for (const child of children) child.kill('SIGKILL');
    rmSync(dir, { recursive: true });
  });

  /** Makes a cgroup and runs a script that is in it from its first command on, in these hierarchies alone. */
  async function running(hierarchies: Hierarchies, script: string) {
    const path = `${base}/${++counter}`;
    const cgroups = new Cgroups(hierarchies);
    await cgroups.create(path);
    const enter = directories(hierarchies, path).map(at => `echo 0 > ${at}/cgroup.procs`);
    const child = spawn('sh', ['-c', ['set -e', ...enter, 'set +e', 'echo in', script].join('\n')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    const said = { text: '' };
    child.stdout.on('data', (chunk: Buffer) => (said.text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said.text += chunk.toString()));
    while (!said.text.includes('in\n')) await once(child.stdout, 'data');
    return { path, cgroups, child, said };
  }

  async function untilThereAre(hierarchies: Hierarchies, path: string, count: number): Promise<number[]> {
    for (;;) {
      const pids = processesBelow(hierarchies, path);
      if (pids.length >= count) return pids;
      await sleep(5);
    }
  }

  const STORM = `for i in 1 2 3; do
    awk 'BEGIN { while (1) system("(exec sleep 0.2) &") }' >/dev/null 2>&1 &
  done; wait`;

  for (const [name, hierarchies] of [
    ['v1', v1Only],
    ['v2', v2Only],
    ['both', here],
  ] as const) {
    describe(`of ${name}`, () => {
      onlyWith(hierarchies);

      it('are emptied and removed with all that runs in them, however fast it forks', async () => {
        const { path, cgroups } = await running(hierarchies, STORM);
        const seen = await untilThereAre(hierarchies, path, 8);
        await cgroups.kill(path);
        assert.equal(await cgroups.emptied(path, AbortSignal.timeout(10_000)), true);
        assert.deepEqual(
          seen.filter(pid => startTimeOf(pid) !== undefined),
          [],
        );
        await cgroups.remove(path);
        assert.deepEqual(directories(hierarchies, path).filter(existsSync), []);
      });

      it('are removed although their processes are stopped', async () => {
        const { path, cgroups } = await running(hierarchies, 'sleep 1000 & sleep 1000 & wait');
        for (const pid of await untilThereAre(hierarchies, path, 3)) process.kill(pid, 'SIGSTOP');
        await cgroups.remove(path);
        assert.deepEqual(directories(hierarchies, path).filter(existsSync), []);
      });

      it('are removed although they are frozen, and with the cgroups below them', async () => {
        const { path, cgroups } = await running(hierarchies, 'sleep 1000 & sleep 1000 & wait');
        const [pid = 0] = (await untilThereAre(hierarchies, path, 3)).slice(-1);
        for (const at of directories(hierarchies, path)) {
          const below = join(at, 'below', 'that');
          mkdirSync(below, { recursive: true });
          if (existsSync(join(at, 'cgroup.kill'))) writeFileSync(join(below, 'cgroup.procs'), String(pid));
        }
        for (const at of directories(hierarchies, path)) {
          if (existsSync(join(at, 'freezer.state'))) writeFileSync(join(at, 'freezer.state'), 'FROZEN');
          if (existsSync(join(at, 'cgroup.freeze'))) writeFileSync(join(at, 'cgroup.freeze'), '1');
        }
        await cgroups.remove(path);
        assert.deepEqual(directories(hierarchies, path).filter(existsSync), []);
        assert.equal(startTimeOf(pid), undefined);
      });

      it('may be removed twice, and when they were never there', async () => {
        const { path, cgroups } = await running(hierarchies, 'sleep 1000');
        await Promise.all([cgroups.remove(path), cgroups.remove(path)]);
        await cgroups.remove(`${base}/never`);
        assert.equal(await cgroups.emptied(`${base}/never`, AbortSignal.abort()), true);
      });
    });
  }

  it('are removed, too, when a process is in v1 alone, where cgroup.kill does not reach it', async function () {
    if (here.v1.length === 0) this.skip();
    const { path, child } = await running(v1Only, 'sleep 1000');
    const cgroups = new Cgroups(here);
    await cgroups.create(path);
    const ended = once(child, 'close');
    await cgroups.remove(path);
    await ended;
    assert.deepEqual(directories(here, path).filter(existsSync), []);
  });

  describe('on v2', () => {
    const limits = (mb: bigint, more: Record<string, string> = {}) => ({
      hugepageLimits: [{ pageSize: '2MB', limit: mb << 20n }],
      unified: more,
    });
    const file = (path: string, name: string) => readFileSync(join(here.v2 ?? '', path, name), 'utf8').trim();

    it('have limits changed all together or not at all', async function () {
      const { path, cgroups } = await running(v2Only, 'sleep 1000');
      if (!v2Only.v2Controllers.includes('hugetlb')) this.skip();
      await cgroups.limit(path, limits(4n));
      const undo = await cgroups.changeLimits(path, limits(8n));
      assert.equal(file(path, 'hugetlb.2MB.max'), String(8 << 20));
      await undo();
      assert.equal(file(path, 'hugetlb.2MB.max'), String(4 << 20));
      await assert.rejects(
        cgroups.changeLimits(path, limits(8n, { 'hugetlb.1GB.max': 'much' })),
        /set hugetlb\.1GB\.max=much on cgroup .*EINVAL/,
      );
      assert.equal(file(path, 'hugetlb.2MB.max'), String(4 << 20));
      assert.equal(file(path, 'hugetlb.2MB.rsvd.max'), String(4 << 20));
    });

    it('name the controller that the host lacks, if a limit of it is asked for', async () => {
      const { path } = await running(v2Only, 'sleep 1000');
      const cgroups = new Cgroups({ ...v2Only, v2Controllers: ['hugetlb'] });
      await assert.rejects(cgroups.limit(path, { cpu: { shares: 2n } }), /cpu\.weight=1: this host has no cpu cgroup/);
      await cgroups.limit(path, { memory: {}, hugepageLimits: [{ pageSize: '64KB', limit: 0n }] });
    });
  });

  describe('on v2, below a cgroup that a container cannot be in', () => {
    const dirOf = (path: string) => join(here.v2 ?? '', path);
    onlyWith(v2Only);

    it('are refused with the name of the one that is threaded, and can be removed', async () => {
      const parent = `${base}/threaded`;
      const cgroups = new Cgroups(v2Only);
      await cgroups.create(parent);
      mkdirSync(join(dirOf(parent), 'threads'));
      writeFileSync(join(dirOf(parent), 'threads', 'cgroup.type'), 'threaded');
      const [below, beside] = [`${parent}/threads/pod`, `${parent}/pod`];
      await assert.rejects(cgroups.create(below), {
        kind: 'failed_precondition',
        message: new RegExp(`cgroup .*${below} cannot hold a container: .*${parent} is threaded`),
      });
      await assert.rejects(cgroups.create(beside), new RegExp(`${parent} is threaded`));
      await cgroups.remove(parent);
      assert.equal(existsSync(dirOf(parent)), false);
    });

    it('leave one with processes of its own as it is, and say of a limit why it cannot be set', async function () {
      const { path: parent } = await running(v2Only, 'sleep 1000');
      const control = join(dirOf(parent), 'cgroup.subtree_control');
      const { v2Directory = '' } = await new Cgroups(v2Only).create(`${parent}/pod`);
      assert.equal(readFileSync(control, 'utf8').trim(), '');
      assert.equal(readFileSync(join(v2Directory, 'cgroup.type'), 'utf8').trim(), 'domain');
      if (!v2Only.v2Controllers.includes('hugetlb')) this.skip(); // v1 has it
      await assert.rejects(new Cgroups(v2Only).limit(`${parent}/pod`, { unified: { 'hugetlb.2MB.max': '0' } }), {
        kind: 'failed_precondition',
        hint: new RegExp(`cgroup .*${parent} does not pass hugetlb on, since it has processes of its own`),
      });
    });
  });

  describe('with rules about devices', () => {
    const look = ['null', 'zero', 'kmsg'].map(name => `head -c 0 /dev/${name} && echo ${name}`).join('\n');

    for (const [name, hierarchies] of [
      ['v1', v1Only],
      ['v2, by eBPF', v2Only],
    ] as const) {
      describe(`of ${name}`, () => {
        const seenWith = async (rules: readonly DeviceRule[], script: string) => {
          const { path, child, said } = await running(hierarchies, `read wait < ${dir}/fifo\n${script}`);
          await limitDevices(hierarchies, path, rules);
          const ended = once(child, 'close');
          writeFileSync(`${dir}/fifo`, '\n');
          await ended;
          return said.text.split('\n').slice(1, -1);
        };

        onlyWith(hierarchies);
        before(async () => {
          if (!existsSync(`${dir}/fifo`)) await once(spawn('mkfifo', [`${dir}/fifo`]), 'close');
        });

        it('let a process open its own and no others', async () => {
          const seen = await seenWith(deviceRules([], false), look);
          assert.deepEqual(seen.slice(0, 2), ['null', 'zero']);
          assert.match(seen[2] ?? '', /\/dev\/kmsg.*Operation not permitted/);
          const kmsg: DeviceRule = { allow: true, type: 'c', major: 1, minor: 11, access: 'r' };
          assert.deepEqual(await seenWith([...deviceRules([], false), kmsg], look), ['null', 'zero', 'kmsg']);
          assert.deepEqual(await seenWith(deviceRules([], true), look), ['null', 'zero', 'kmsg']);
        });

        it('let it make a node of any device, and open only its own', async () => {
          const node = join(dir, `node-${counter}`);
          const seen = await seenWith(
            deviceRules([], false),
            `mknod ${node}-z c 1 5 && mknod ${node}-m c 1 1 && head -c 1 ${node}-z | wc -c; head -c 1 ${node}-m`,
          );
          assert.equal(seen[0], '1');
          assert.match(seen[1] ?? '', /Operation not permitted/);
        });

        it('let it read and not write what is for reading', async () => {
          const rules: DeviceRule[] = [
            { allow: false, type: 'a', access: 'rwm' },
            { allow: true, type: 'c', major: 1, minor: 5, access: 'r' },
          ];
          const seen = await seenWith(rules, 'head -c 1 /dev/zero | wc -c; echo x > /dev/zero');
          assert.equal(seen[0], '1');
          assert.match(seen[1] ?? '', /\/dev\/zero: .*not permitted/i);
        });
      });
    }
  });
});
