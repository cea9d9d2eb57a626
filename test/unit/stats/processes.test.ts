import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { binarySize } from '../../../src/cli/format/binary-size';
import { lookAt, parseProcess } from '../../../src/stats/processes';

describe('a process in /proc', () => {
  const stat = (name: string, terminal: number) =>
    `4711 (${name}) S 42 4711 4711 ${terminal} -1 4194560 95 0 0 0 250 50 0 0 20 0 1 0 3000 1 1 18446744073709551615`;
  const status = 'Name:\tx\nUid:\t1000\t1001\t1002\t1003\nVmRSS:\t    816 kB\n';

  it('is told by its files', () => {
    assert.deepEqual(parseProcess(stat('sleep', 34816), status, 'sleep\x001000\x00', 1_000_000_000_000n), {
      pid: 4711,
      parentPid: 42,
      uid: 1000,
      startedAtNs: 1_030_000_000_000n,
      cpuNs: 3_000_000_000n,
      terminal: 'pts/0',
      state: 'S',
      rssBytes: 835_584n,
      command: ['sleep', '1000'],
    });
  });

  it('may have any name, no arguments, empty arguments, and no terminal', () => {
    const { pid, state, command, terminal } = parseProcess(stat('a) R 1 (b', 0), 'Uid:\t0\t0\n', '', 0n);
    assert.deepEqual([pid, state, command, terminal], [4711, 'S', ['[a) R 1 (b]'], '']);
    assert.deepEqual(parseProcess(stat('x', 35072), '', 'sh\x00\x00-c\x00', 0n).command, ['sh', '', '-c']);
    assert.equal(parseProcess(stat('x', 35072), '', '', 0n).terminal, 'pts/256');
    assert.equal(parseProcess(stat('x', 1025), '', '', 0n).terminal, '4:1');
  });

  it('is looked at, and left out once it has ended', async () => {
    const [own, ...others] = await lookAt([process.pid, 4_194_305]);
    assert.deepEqual([own?.pid, own?.parentPid, others], [process.pid, process.ppid, []]);
    assert.ok(own && Math.abs(Number(own.startedAtNs) / 1e6 - (Date.now() - process.uptime() * 1000)) < 60_000);
  });

  it('has no command line while it waits in state D, whose lock on its memory may be kept for good', async () => {
    // Who makes a process with CLONE_VFORK waits so until that has ended.
    const clone = { x64: 56, arm64: 220 }[process.arch as 'x64' | 'arm64'];
    const script = `$| = 1; print "ready"; sleep 1000 if syscall(${clone}, 0x4000 | 17, 0, 0, 0, 0) == 0;`;
    const perl = spawn('perl', ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    const pid = perl.pid ?? assert.fail('no perl');
    const closed = once(perl, 'close');
    try {
      await once(perl.stdout, 'data');
      const look = async (paused: boolean) => (await lookAt([pid], paused))[0];
      while ((await look(true))?.state !== 'D') await sleep(5);
      assert.deepEqual((await look(false))?.command, ['[perl]']);
      assert.equal((await look(true))?.command[1], '-e');
    } finally {
      process.kill(-pid, 'SIGKILL');
      await closed;
    }
  }).timeout(60_000);
});

describe('an amount of memory', () => {
  it('is shown in powers of 1024, with four digits', () => {
    const shown = [0, 1023, 1024, 1536, 8_200_000_000, 2 ** 40, 1_048_575].map(binarySize);
    assert.deepEqual(shown, ['0B', '1023B', '1KiB', '1.5KiB', '7.637GiB', '1TiB', '1024KiB']);
  });
});
