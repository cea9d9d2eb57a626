import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeCgroup } from '../../../src/cgroup/remove';
import { readHierarchies } from '../../../src/cgroup/hierarchies';
import { addon, MNT_DETACH } from '../../../src/native/addon';
import { guard } from '../../support/guard';
import { busyboxImage, descriptor, type BuiltImage } from '../../support/image-builder';
import { patience } from '../../support/patience';
import { berthdFile } from '../../support/programs';
import { killIfThere } from '../../support/processes';
import { berth, startBerth, type Ended, type Running } from '../berth';

const READY_WITHIN_MS = 15_000 * patience;

/** A real daemon with a root and a state of its own, and `berth` to talk to it. */
export class RealDaemon {
  private child: ChildProcess | undefined;
  private log = '';
  private readonly release: () => void;

  private constructor(readonly folder: string) {
    const afterKill = [process.execPath, resolve(__dirname, '../../support/after-kill.js'), 'real'];
    this.release = guard(() => this.destroy(), afterKill, folder);
  }

  static async start(config = ''): Promise<RealDaemon> {
    const daemon = new RealDaemon(mkdtempSync(join(tmpdir(), 'berth-real-')));
    // The machine's own network is left alone.
    const network = config.includes('[network]') ? '' : '\n[network]\nembedded = "none"\n';
    writeFileSync(daemon.path('config.toml'), config + network);
    try {
      await daemon.run();
      return daemon;
    } catch (error) {
      await daemon.destroy();
      throw error;
    }
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  get socket(): string {
    return this.path('state/berth.sock');
  }

  get criSocket(): string {
    return this.path('state/cri.sock');
  }

  /** What the daemon has said, for messages of failed tests. */
  get said(): string {
    return this.log;
  }

  async run(env: Record<string, string> = {}): Promise<void> {
    const args = ['--root', this.path('root'), '--state', this.path('state'), '--config', this.path('config.toml')];
    const child = spawn(process.execPath, [berthdFile, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.log += text));
    const from = this.log.length;
    const timer = setTimeout(() => child.kill('SIGKILL'), READY_WITHIN_MS);
    while (!this.log.includes('berthd is ready', from)) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`berthd did not start:\n${this.log}`);
      await Promise.race([once(child.stderr ?? child, 'data'), once(child, 'exit')]);
    }
    clearTimeout(timer);
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** Removes all containers, ends the daemon, and says what it has left behind; nothing, if all is well. */
  async stop(): Promise<string[]> {
    const { stdout } = await this.berth('ps', '-aq', '--no-trunc');
    const ids = stdout.split('\n').filter(id => id !== '');
    if (ids.length > 0) await this.berth('rm', '-f', ...ids);
    await this.kill('SIGTERM');
    const left = this.leftovers(ids);
    rmSync(this.folder, { recursive: true, force: true });
    this.release();
    return left;
  }

  /** Ends it and all it has started, whatever state they are in. */
  private async destroy(): Promise<void> {
    await this.kill('SIGKILL');
    await removeRealDaemon(this.folder);
    this.release();
  }

  async berth(...args: string[]): Promise<Ended> {
    return await berth(this.socket, args);
  }

  async berthWith(input: string, ...args: string[]): Promise<Ended> {
    return await berth(this.socket, args, input);
  }

  start(...args: string[]): Running {
    return startBerth(this.socket, args);
  }

  /** Stdout of a `berth` that must succeed. */
  async ok(...args: string[]): Promise<string> {
    const ended = await this.berth(...args);
    assert.deepEqual({ code: ended.code, stderr: ended.stderr }, { code: 0, stderr: '' }, args.join(' '));
    return ended.stdout;
  }

  /** Imports an image under a name; its layout is removed. */
  async import(image: BuiltImage, name: string): Promise<void> {
    const layout = writeLayout(this.path('layout'), image);
    const { code, stderr } = await this.berth('import', layout, name);
    assert.equal(code, 0, stderr);
    rmSync(layout, { recursive: true });
  }

  async importBusybox(name: string): Promise<void> {
    await this.import(busyboxImage(), name);
  }

  /** Waits for what happens after a command has returned, such as the removal of a container with --rm. */
  async eventually(what: string, holds: () => boolean | Promise<boolean>, withinMs = 30_000 * patience): Promise<void> {
    for (const until = Date.now() + withinMs; !(await holds()); await sleep(20)) {
      if (Date.now() > until) assert.fail(`${what}: not within ${withinMs / 1000} s; the daemon said:\n${this.log}`);
    }
  }

  /** Files, mounts, processes and cgroups of containers that are gone; a daemon that runs is none of them. */
  leftovers(ids: readonly string[]): string[] {
    const directories = ['root/containers', 'state/containers', 'state/sandboxes']
      .map(name => this.path(name))
      .filter(existsSync)
      .flatMap(dir => readdirSync(dir).map(name => join(dir, name)));
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(line => line.includes(this.folder));
    const processes = processesNaming([this.folder, ...ids]).filter(line => !line.startsWith(`${this.child?.pid} `));
    return [...directories, ...mounts, ...processes, ...cgroupsOf(ids)];
  }
}

/** Removes what is there of a daemon whose folder this is. */
export async function removeRealDaemon(folder: string): Promise<void> {
  const pods = join(folder, 'state/sandboxes');
  const ids = existsSync(pods) ? readdirSync(pods) : [];
  for (let left; (left = processesNaming([folder, ...ids])).length > 0; await sleep(10)) {
    for (const line of left) killIfThere(Number(line.split(' ')[0]));
  }
  for (const id of ids) await removeCgroup(readHierarchies(), `/berth/${id}`);
  for (const path of mountsBelow(folder).reverse()) await addon().umount(path, MNT_DETACH);
  // What is mounted there may be somebody's.
  assert.deepEqual(mountsBelow(folder), []);
  rmSync(folder, { recursive: true, force: true });
}

function mountsBelow(folder: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map(line => line.split(' ')[4] ?? '').filter(point => point.startsWith(`${folder}/`));
}

/** Processes whose command line names one of these. */
export function processesNaming(names: readonly string[]): string[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap(pid => {
      const line = readIfThere(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
      return names.some(name => line.includes(name)) ? [`${pid} ${line}`] : [];
    });
}

function cgroupsOf(ids: readonly string[]): string[] {
  const hierarchies = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map(name => join('/sys/fs/cgroup', name))];
  return hierarchies.flatMap(dir => ids.map(id => join(dir, 'berth', id))).filter(existsSync);
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Writes an OCI image layout of one image. */
function writeLayout(dir: string, image: BuiltImage): string {
  for (const blob of [image.config, image.manifest, ...image.layers]) {
    const path = join(dir, 'blobs', ...blob.digest.split(':'));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, blob.bytes);
  }
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [descriptor(image.manifest)] }));
  return dir;
}
