import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf } from '../../src/process/identity';
import { repoRoot } from '../support/repo';

/** A test that has made all that a test may make, with a process that is held still, and does not come to its end. */
const SCRIPT = `
  const { spawn } = require('node:child_process');
  const { existsSync, mkdirSync, writeFileSync } = require('node:fs');
  const { dirname, join } = require('node:path');
  const { TestDaemon } = require('./dist/test/support/daemon.js');
  const { startRegistry } = require('./dist/test/support/registry.js');
  const { RealDaemon } = require('./dist/test/cli/real/harness.js');
  const { allPids, mountNamespaceOf } = require('./dist/test/support/processes.js');

  async function main() {
    const registry = await startRegistry();
    const daemon = await TestDaemon.start();
    const real = await RealDaemon.start();
    const frozen = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true });
    const cgroups = daemon.cgroupRoots.map(root => join(root, 'frozen'));
    for (const dir of cgroups) {
      mkdirSync(dir);
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        if (existsSync(join(dir, file))) writeFileSync(join(dir, file), '0');
      writeFileSync(join(dir, 'cgroup.procs'), String(frozen.pid));
      const [file, word] = existsSync(join(dir, 'freezer.state')) ? ['freezer.state', 'FROZEN'] : ['cgroup.freeze', '1'];
      if (existsSync(join(dir, file))) writeFileSync(join(dir, file), word);
    }
    const inside = allPids().filter(pid => mountNamespaceOf(pid) === mountNamespaceOf(daemon.holderPid));
    const pids = [...inside, frozen.pid, Number(/"?pid"?[=: ]+(\\d+)/.exec(real.said)?.[1])];
    console.log(JSON.stringify({ paths: [...daemon.cgroupRoots, daemon.dir, real.folder, dirname(registry.dataDir)], pids }));
  }
  void main();`;

interface Made {
  paths: string[];
  pids: number[];
}

describe('tests that are ended from outside', function () {
  this.timeout(180_000);
  let child: ChildProcess | undefined;
  afterEach(() => child?.kill('SIGKILL'));

  for (const [signal, ended] of [
    ['SIGTERM', [130, null]],
    ['SIGKILL', [null, 'SIGKILL']],
  ] as const) {
    it(`by ${signal} leave nothing behind`, async () => {
      child = spawn(process.execPath, ['-e', SCRIPT], { cwd: repoRoot, stdio: ['ignore', 'pipe', 'inherit'] });
      const closed = once(child, 'close');
      const lines = createInterface({ input: child.stdout ?? assert.fail() });
      const [line] = (await once(lines, 'line')) as [string];
      const { paths, pids } = JSON.parse(line) as Made;
      assert.deepEqual(
        paths.filter(path => !existsSync(path)),
        [],
      );
      // What a daemon runs for a moment may have ended since.
      const births = pids.flatMap(pid => {
        const birth = startTimeOf(pid);
        return birth === undefined ? [] : [{ pid, birth }];
      });
      assert.ok(births.length >= 4, line);
      child.kill(signal);
      assert.deepEqual(await closed, ended);
      const lives = ({ pid, birth }: (typeof births)[number]) => startTimeOf(pid) === birth;
      const left = () => [...paths.filter(existsSync), ...births.filter(lives)];
      while (left().length > 0) await sleep(20);
    });
  }
});
