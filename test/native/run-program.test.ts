import assert from 'node:assert/strict';
import { runProgram } from '../../src/native/run-program';

describe('a program of the system', () => {
  const run = (script: string, input = '') =>
    runProgram('/bin/sh', ['-c', script], { input, env: { A: 'b' }, timeoutMs: 20_000, outputBytesMax: 1024 });

  it('has its input, its environment and an outcome', async () => {
    const outcome = await run('cat /dev/stdin; echo "$A"; echo bad >&2; exit 3', 'in ');
    assert.deepEqual(outcome, { status: 3, stdout: 'in b\n', stderr: 'bad\n', timedOut: false, tooLong: false });
  });

  it('is not waited for by what it leaves in another session with its output', async () => {
    const { status, stdout } = await run('setsid sleep 1000 & echo $!');
    const pid = Number(stdout);
    assert.ok(pid > 1);
    assert.equal(status, 0);
    process.kill(pid, 'SIGKILL'); // it was there still: its output cannot have ended
  });
});
