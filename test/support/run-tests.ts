/**
 * All of `make test` after the build: lint, the C tests, tests in a guest, and mocha over everything below test/, in two
 * lanes beside each other. Exits with 1 when anything failed; the last line of the output is the tally of all of them.
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
/** They take about as long as all else together. */
const firstLane = ['test/cri/', 'test/host/'];
/** Nobody has the machine to himself: tests wait longer before they give up. */
const PATIENCE = '3';
/** For .ci/run, since make has the last word when a target fails. */
const tallyFile = join(repoRoot, 'build/test-tally');
/** A run that has printed its tally and does not end has left something open. */
const graceMs = 60_000;
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
  const files = testFiles();
  const isFirst = (file: string) => firstLane.some(folder => file.startsWith(folder));
  // Two lanes for two processors. Each test's daemon has its own part of the machine, so lanes do not meet.
  const [first, { mocha: second, ...others }] = await Promise.all([
    mochaTests(files.filter(isFirst)),
    allOthers(files.filter(file => !isFirst(file))),
  ]);
  const tallies = { ...others, mocha: sum([first, second, ...leftOut()]) };
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

async function allOthers(files: readonly string[]): Promise<Record<'lint' | 'native' | 'guest' | 'mocha', Tally>> {
  return {
    lint: await lint(),
    native: await nativeTests(),
    guest: await guestTests(),
    mocha: await mochaTests(files),
  };
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

const isRoot = () => process.getuid?.() === 0;

/** From the sources: dist/ may still hold what a deleted or renamed test was compiled to. */
function testFiles(): string[] {
  return readdirSync(join(repoRoot, 'test'), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.test.ts'))
    .map(file => `test/${file}`)
    .filter(file => !file.startsWith(inGuest))
    .filter(file => isRoot() || file.startsWith(unprivileged))
    .sort();
}

function leftOut(): Tally[] {
  if (isRoot()) return [];
  console.log(`All tests outside ${unprivileged} need root and were not run: run make test as root.`);
  return [{ passed: 0, failed: 1, skipped: 0 }];
}

async function mochaTests(files: readonly string[]): Promise<Tally> {
  if (files.length === 0) return sum([]);
  const compiled = files.map(file => join('dist', file.replace(/\.ts$/, '.js')));
  const env = { BERTH_TEST_PATIENCE: PATIENCE, BERTH_TEST_BUNDLE: '1' };
  const timeOuts = ['--require', 'dist/test/support/time-outs.js'];
  return tallyOf(await run('node_modules/.bin/mocha', [...timeOuts, ...compiled], { env }));
}

/** Once more what cgroups and systemd make different, in a virtual machine: test/vm/README.md. */
async function guestTests(): Promise<Tally> {
  // Without root, what needs it will be told of.
  if (!isRoot()) return sum([]);
  const said = ['\nIn a guest with systemd and cgroup v2:'];
  const outcome = await run('node', ['dist/test/vm/main.js'], { say: line => said.push(line) });
  console.log(said.join('\n'));
  return tallyOf(outcome);
}

/** What a run said about itself; one that said nothing is one test, and one that failed has at least one failure. */
function tallyOf({ code, tally }: Outcome): Tally {
  if (tally === undefined) return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
  return code !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

interface RunOptions {
  /** It is one program, which ends soon after its tally unless something was left open; else several, each with one. */
  endsWithTally?: boolean;
  env?: NodeJS.ProcessEnv;
  say?: (text: string) => void;
}

/** Runs a command from the root of the checkout and passes its output on, by whole suites, but for the tally. */
async function run(
  command: string,
  args: string[],
  { endsWithTally = true, env = {}, say = text => console.log(text) }: RunOptions = {},
): Promise<Outcome> {
  // The process ends with the last of those that run.
  if (isInterrupted) return new Promise(() => undefined);
  const child = spawn(command, args, {
    cwd: repoRoot,
    env: { ...process.env, NODE_OPTIONS: '--enable-source-maps', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const suite: string[] = [];
  const endSuite = () => {
    if (suite.length > 0) say(suite.splice(0).join('\n'));
  };
  let tally: Tally | undefined;
  let timer: NodeJS.Timeout | undefined;
  const failed: string[][] = [];
  createInterface({ input: child.stdout }).on('line', line => {
    const parsed = parseTally(line);
    if (parsed === undefined) {
      noteFailure(failed, line);
      if (/^\S/.test(line)) endSuite();
      suite.push(line);
      return;
    }
    failed.push([]);
    tally = sum([tally ?? { passed: 0, failed: 0, skipped: 0 }, parsed]);
    clearTimeout(timer);
    if (!endsWithTally) return;
    timer = setTimeout(() => {
      suite.push(`${command} has not ended ${graceMs / 1000} s after its last test, so something was left open.`);
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
  endSuite();
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
