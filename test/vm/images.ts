import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { repoRoot } from '../support/repo';
import type { SecurityModule } from './machine';
import { scratchDirectory } from './scratch';

const vmDir = join(repoRoot, 'test/vm');

/** Kept from run to run, and shared between checkouts where VM_CACHE names a directory. */
const cacheDir = process.env['VM_CACHE'] ?? join(repoRoot, 'build/vm');

/** What a guest boots. */
export interface BaseImage {
  kernel: string;
  root: string;
}

/** Which Debian a guest is of. */
export type Release = 'trixie' | 'bookworm';

/** Made once for what it is made of; takes about two minutes and 2 GB below the cache. */
export function baseImage(release: Release, module: SecurityModule): BaseImage {
  const services = readdirSync(join(vmDir, 'guest')).filter(name => name.endsWith('.service'));
  const recipe = [join(vmDir, 'make-base'), ...services.map(name => join(vmDir, 'guest', name))];
  const key = keyOf([process.version, release, module, ...recipe.map(file => readFileSync(file, 'utf8'))]);
  const dir = cached(`base-${key}`, at => {
    mkdirSync(at);
    // In a mount namespace of its own: what debootstrap mounts is met by nobody who walks the checkout, and ends with it.
    run('unshare', ['--mount', join(vmDir, 'make-base'), at, process.execPath, release, module]);
  });
  return { kernel: join(dir, 'vmlinuz'), root: join(dir, 'root.ext4') };
}

/** The npm packages as a disk of their own, since they rarely change. */
export function modulesImage(): string {
  const key = keyOf([readFileSync(join(repoRoot, 'package-lock.json'), 'utf8')]);
  return cached(`modules-${key}.ext4`, at => makeDisk(at, 'modules', join(repoRoot, 'node_modules')));
}

/** What tests read of a checkout, and of what was built of it. */
const CHECKOUT = ['dist', 'build/native', 'bin', 'src', 'test', 'native', 'proto', 'scripts', 'Makefile', 'README.md'];
CHECKOUT.push('package.json', '.mocharc.json', 'LICENSE');

/** The checkout as it is now, with the names of the files to run. */
export function checkoutImage(at: string, files: readonly string[]): void {
  const staging = mkdtempSync(`${at}.`);
  try {
    for (const name of CHECKOUT.filter(name => existsSync(join(repoRoot, name)))) {
      cpSync(join(repoRoot, name), join(staging, name), {
        recursive: true,
        preserveTimestamps: true,
        filter: isShipped,
      });
    }
    for (const name of ['node_modules', '.guest']) mkdirSync(join(staging, name));
    writeFileSync(join(staging, '.guest/files'), files.map(file => `${file}\n`).join(''));
    makeDisk(at, 'checkout', staging);
  } finally {
    rmSync(staging, { recursive: true });
  }
}

/** Tests in C may be compiled meanwhile: directories of their own beside what is shipped. */
function isShipped(path: string): boolean {
  return dirname(path) !== join(repoRoot, 'build/native') || statSync(path).isFile();
}

/** Another run may make the same at the same time: the first to be ready is kept. */
function cached(name: string, make: (at: string) => void): string {
  const path = join(cacheDir, name);
  if (existsSync(path)) return path;
  const temporary = scratchDirectory(cacheDir, '.new-');
  try {
    make(join(temporary, name));
    if (!existsSync(path)) renameSync(join(temporary, name), path);
  } finally {
    rmSync(temporary, { recursive: true });
  }
  return path;
}

/** For reading only, so without a journal and hardly larger than what is in it. */
function makeDisk(at: string, label: string, content: string): void {
  const [kilobytes = '0'] = run('du', ['-sLk', content]).split('\t');
  const size = `${Math.ceil(Number(kilobytes) * 1.3) + 16_384}k`;
  run('mkfs.ext4', ['-q', '-F', '-O', '^has_journal', '-m', '0', '-L', label, '-d', `${content}/.`, at, size]);
}

function keyOf(parts: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:${part}`);
  return hash.digest('hex').slice(0, 12);
}

/** Its output is shown only when it fails. */
function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return stdout;
  const said = `${stdout}${stderr}`.trim().split('\n').slice(-20).join('\n');
  throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `status ${status}`}\n${said}`);
}
