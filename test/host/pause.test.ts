import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isPaused, pause, unpause } from '../../src/cgroup/pause';
import { readHierarchies, type Hierarchies } from '../../src/cgroup/hierarchies';

/** The trees that this machine has, each as if it were the only one. */
function hosts(): Record<string, Hierarchies> {
  const { v1, v2, v2Controllers } = readHierarchies();
  const freezer = v1.filter(({ controllers }) => controllers.includes('freezer'));
  return {
    ...(v2 === undefined ? {} : { 'cgroup v2': { v2, v2Controllers, v1: [] } }),
    ...(freezer.length === 0 ? {} : { 'the freezer of v1': { v2: undefined, v2Controllers: [], v1: freezer } }),
  };
}

describe('pausing a cgroup', function () {
  this.timeout(60_000);

  for (const [name, hierarchies] of Object.entries(hosts())) {
    it(`holds its processes still, and lets them go on, with ${name}`, async () => {
      const path = `/berth-pause-${process.pid}`;
      const dir = join(hierarchies.v2 ?? hierarchies.v1[0]?.mountpoint ?? '', path);
      mkdirSync(dir);
      const busy = spawn('sh', ['-c', 'while :; do :; done']);
      const ended = once(busy, 'close');
      try {
        writeFileSync(join(dir, 'cgroup.procs'), String(busy.pid));
        const used = () => readFileSync(`/proc/${busy.pid}/stat`, 'utf8').split(' ').slice(13, 15).join(' ');
        const moves = async (forMs: number) => {
          const before = used();
          for (const until = Date.now() + forMs; Date.now() < until && used() === before;)
            await new Promise(resolve => setTimeout(resolve, 20));
          return used() !== before;
        };
        assert.equal(isPaused(hierarchies, path), false);
        assert.equal(await pause(hierarchies, path, AbortSignal.timeout(30_000)), true);
        assert.equal(isPaused(hierarchies, path), true);
        assert.equal(await moves(200), false);
        await unpause(hierarchies, path);
        assert.equal(isPaused(hierarchies, path), false);
        assert.equal(await moves(30_000), true);
        assert.equal(await pause(hierarchies, `${path}-not-there`, AbortSignal.timeout(1000)), false);
      } finally {
        await unpause(hierarchies, path);
        busy.kill('SIGKILL');
        await ended;
        for (let tries = 0; tries < 500; tries++) {
          try {
            rmdirSync(dir);
            break;
          } catch {
            await new Promise(resolve => setTimeout(resolve, 20));
          }
        }
      }
    });
  }

  it('is not possible where there is no freezer', async () => {
    const none = { v2: undefined, v2Controllers: [], v1: [] };
    assert.equal(await pause(none, '/x', AbortSignal.timeout(1000)), undefined);
    assert.equal(isPaused(none, '/x'), false);
  });
});
