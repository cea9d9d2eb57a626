/**
 * All of `make test` after the build: lint, the C tests, then mocha over everything below test/. Exits with 1 when
 * anything failed; the last line of the output is the tally of all of them.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { repoRoot } from './repo';
import { formatTally, parseTally, sum, type Tally } from './tally';

/** The only folder below test/ that needs no root. */
const unprivileged = 'test/unit/';
/** What runs in the guest alone. */
const inGuest = 'test/vm/';
/** For .ci/run, since make has the last word when a target fails. */
const tallyFile = join(repoRoot, 'build/test-tally');
/** A run that has printed its tally and does not end has left something open. */
const graceMs = 10_000;
/** Of a failure, once more beside the tally: what failed and the first lines of why. */
const REPEATED_LINES = 6;
/** What failed in all of the runs. Who reads only the end of a long output has to see it. */
const failures: string[][] = [];

const running = new Set<ChildProcess>();
let isInterrupted = false;

interface Outcome {
  code: number;
  tally: Tally | undefined;
}

async function main(): Promise<void> {
  rmSync(tallyFile, { force: true });
  // The guest and what is compiled leave each other room on two processors; tests of the daemon have the machine to themselves.
  const guest = guestTests();
  const [compiled, inGuest] = await Promise.all([lintAndNative(), guest]);
  const tallies = { ...compiled, guest: inGuest, mocha: await mochaTests() };
  console.log();
  for (const failure of failures) console.log(failure.slice(0, REPEATED_LINES).join('\n'));
  for (const [name, tally] of Object.entries(tallies)) {
    if (tally.passed + tally.failed + tally.skipped > 0) console.log(`${name}: ${formatTally(tally)}`);
  }
  const total = sum(Object.values(tallies));
  mkdirSync(dirname(tallyFile), { recursive: true });
  writeFileSync(tallyFile, `${formatTally(total)}\n`);
  console.log(formatTally(total));
  process.exitCode = total.failed > 0 ? 1 : 0;
}

async function lintAndNative(): Promise<{ lint: Tally; native: Tally }> {
  return { lint: await lint(), native: await nativeTests() };
}

/** Lint is no test: it counts only when it fails. */
async function lint(): Promise<Tally> {
  const { code } = await run('make', ['lint']);
  return { passed: 0, failed: code === 0 ? 0 : 1, skipped: 0 };
}

async function nativeTests(): Promise<Tally> {
  const makefile = join(repoRoot, 'native/Makefile');
  if (!existsSync(makefile) || !/^test:/m.test(readFileSync(makefile, 'utf8'))) return sum([]);
  return tallyOf(await run('make', ['-C', 'native', 'test'], { endsWithTally: false }));
}

async function mochaTests(): Promise<Tally> {
  // From the sources: dist/ may still hold what a deleted or renamed test was compiled to.
  const all = readdirSync(join(repoRoot, 'test'), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.test.ts'))
    .map(file => `test/${file}`)
    .filter(file => !file.startsWith(inGuest))
    .sort();
  const runnable = process.getuid?.() === 0 ? all : all.filter(file => file.startsWith(unprivileged));
  const files = runnable.map(file => join('dist', file.replace(/\.ts$/, '.js')));
  const tally = tallyOf(await run('node_modules/.bin/mocha', files));
  if (runnable.length === all.length) return tally;
  console.log(`All tests outside ${unprivileged} need root and were not run: run make test as root.`);
  return sum([tally, { passed: 0, failed: 1, skipped: 0 }]);
}

/** Once more what cgroups and systemd make different, in a virtual machine: test/vm/README.md. */
async function guestTests(): Promise<Tally> {
  // Without root, what needs it has been told of.
  if (process.getuid?.() !== 0) return sum([]);
  const said: string[] = [];
  const outcome = await run('node', ['dist/test/vm/main.js'], { say: line => said.push(line) });
  console.log(['\nIn a guest with systemd and cgroup v2:', ...said].join('\n'));
  return tallyOf(outcome);
}

/** What a run said about itself; one that said nothing is one test, and one that failed has at least one failure. */
function tallyOf({ code, tally }: Outcome): Tally {
  if (tally === undefined) return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
  return code !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

/**
 * Runs a command from the root of the checkout and passes its output on, but for the tally. With `endsWithTally` it is
 * one program, which ends soon after its tally unless something was left open; else several, each with one of its own.
 */
async function run(
  command: string,
  args: string[],
  {
    endsWithTally = true,
    say = line => console.log(line),
  }: { endsWithTally?: boolean; say?: (line: string) => void } = {},
): Promise<Outcome> {
  // The process ends with the last of those that run.
  if (isInterrupted) return new Promise(() => undefined);
  const env = { ...process.env, NODE_OPTIONS: '--enable-source-maps' };
  const child = spawn(command, args, { cwd: repoRoot, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let tally: Tally | undefined;
  let timer: NodeJS.Timeout | undefined;
  const failed: string[][] = [];
  createInterface({ input: child.stdout }).on('line', line => {
    const parsed = parseTally(line);
    if (parsed === undefined) {
      noteFailure(failed, line);
      return say(line);
    }
    failed.push([]);
    tally = sum([tally ?? { passed: 0, failed: 0, skipped: 0 }, parsed]);
    clearTimeout(timer);
    if (!endsWithTally) return;
    timer = setTimeout(() => {
      say(`${command} has not ended ${graceMs / 1000} s after its last test, so something was left open.`);
      child.kill('SIGKILL');
      // What the child leaves running may hold the pipe open.
      child.stdout.destroy();
    }, graceMs);
  });
  running.add(child);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', status => resolve(status ?? 1));
  });
  running.delete(child);
  clearTimeout(timer);
  failures.push(...failed.filter(lines => lines.length > 0));
  if (isInterrupted && running.size === 0) process.exit(code);
  return { code, tally };
}

/** Takes the reporter's blocks, the last thing that it says: a line that begins with ✗, then what is indented below. */
function noteFailure(failed: string[][], line: string): void {
  if (line.startsWith('✗')) failed.push([line]);
  else if (line.startsWith('    ') && failed.at(-1)?.[0]?.startsWith('✗')) failed.at(-1)?.push(line);
}

/** What is tested removes what it has made before it ends, and that is waited for. */
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    isInterrupted = true;
    for (const child of running) child.kill(signal);
  });
}
void main();
