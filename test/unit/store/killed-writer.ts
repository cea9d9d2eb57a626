import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** Has another process write records into the store in `dir` and kills it; how many it was told are kept. */
export async function writeUntilKilled(dir: string, journal?: string): Promise<number> {
  const args = [join(__dirname, 'writer.js'), dir, ...(journal === undefined ? [] : [journal])];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let acknowledged = 0;
  let rest = '';
  for await (const chunk of child.stdout) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) acknowledged = Number(line);
    if (acknowledged > 300) break;
  }
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return acknowledged;
}
