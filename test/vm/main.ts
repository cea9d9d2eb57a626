/**
 * usage: main.js [test file …]
 *
 * Runs test files of this checkout, as built, in a virtual machine with systemd as PID 1 and cgroup v2 alone; see
 * README.md beside this file. The output is mocha's, the tally its last line.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { repoRoot } from '../support/repo';
import { formatTally } from '../support/tally';
import { baseImage, checkoutImage, modulesImage } from './images';
import { runMachine, type CgroupMode, type SecurityModule } from './machine';
import { scratchDirectory } from './scratch';
import { filesFor } from './suites';

const consoleLines = 60;
/** Emulated processors may run an instruction that another one is just rewriting (a static key), and the kernel panics then. */
const bootsMax = 4;
const timeLimitMs = Number(process.env['VM_TIMEOUT_MINUTES'] ?? 45) * 60_000;

async function main(args: readonly string[]): Promise<number> {
  const why = whyNot();
  if (why !== undefined) {
    console.log(`${why}\n${formatTally({ passed: 0, failed: 0, skipped: 1 })}`);
    return 0;
  }
  const module = securityModule();
  const files = (args.length > 0 ? args : filesFor[module]).map(compiled);
  const dir = scratchDirectory(join(repoRoot, 'build/vm'), 'run-');
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
  const consoleLog = join(dir, 'console.log');
  const cgroups = cgroupMode();
  // What has cgroup v1 is older.
  const base = baseImage(cgroups === 'v2' ? 'trixie' : 'bookworm', module);
  const kernel = process.env['VM_KERNEL'] ?? base.kernel;
  const disks = [join(dir, 'checkout.ext4'), modulesImage()];
  checkoutImage(disks[0] ?? '', files);
  const machine = { kernel, root: base.root, cgroups, module, disks, consoleLog, timeLimitMs };
  for (let boot = 1; ; boot++) {
    const end = await runMachine(machine, line => console.log(line));
    if ('status' in end) return end.status;
    const said = readFileSync(consoleLog, 'utf8');
    console.log(`The guest has not told how its tests ended: ${end.silence}. The end of its console:`);
    console.log(said.split('\n').slice(-consoleLines).join('\n'));
    if (boot === bootsMax || !said.includes('Kernel panic')) return 1;
    console.log('Its kernel has panicked, as it does under emulation now and then; it is booted again:');
  }
}

/** Files are named as in the sources, or as built. */
function compiled(file: string): string {
  return file.endsWith('.ts') ? join('dist', file.replace(/\.ts$/, '.js')) : file;
}

function cgroupMode(): CgroupMode {
  const mode = process.env['VM_CGROUP'] ?? 'v2';
  if (mode !== 'v2' && mode !== 'v1' && mode !== 'hybrid')
    throw new Error(`VM_CGROUP=${mode} is none of v2, v1 and hybrid`);
  return mode;
}

function securityModule(): SecurityModule {
  const module = process.env['VM_LSM'] ?? 'none';
  if (module === 'none' || module === 'apparmor' || module === 'selinux') return module;
  throw new Error(`VM_LSM=${module} is none of none, apparmor and selinux`);
}

/** Why there can be no guest here; it is no failure then, and the tally says that something was left out. */
function whyNot(): string | undefined {
  if (process.arch !== 'x64')
    return `no guest on ${process.arch}: its kernel and emulator are those of x86-64 machines`;
  return process.env['VM'] === 'no' ? 'no guest, since VM=no asks for none' : undefined;
}

main(process.argv.slice(2)).then(
  code => process.exit(code),
  (error: unknown) => {
    console.log(`The guest could not be made: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  },
);
