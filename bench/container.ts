import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cgroups } from '../src/cgroup/groups';
import { createLogger } from '../src/base/log';
import { seccompOf } from '../src/container/seccomp';
import { ContainerConfig, LinuxContainerSecurityContext, PodSandboxConfig } from '../src/cri';
import { addon } from '../src/native/addon';
import { installDir } from '../src/native/paths';
import type { LaunchPlan } from '../src/native/plan-ops';
import { POD_FILES, podFiles } from '../src/network/pod-files';
import { containerSpec, type PodFacts } from '../src/oci/container-spec';
import { launchPlan } from '../src/oci/launch-plan';
import { CLONE } from '../src/oci/linux';
import { bundleJson } from '../src/oci/oci-json';
import { sandboxPlan } from '../src/oci/sandbox-plan';
import type { SeccompFilter } from '../src/oci/seccomp/compile';
import type { Spec } from '../src/oci/spec';
import { Monitor } from '../src/process/monitor';
import { pinNamespaces } from '../src/process/pin';
import { reapWhenEnded } from '../src/process/reap';
import type { Timings } from './measure';
import { buildTask, findPeer, versionOf, type Scratch } from './scratch';

/** `pod`: joins the pod's namespaces. `own`: all namespaces new, and the default seccomp filter. */
export type Isolation = 'pod' | 'own';

/** What all candidates start. */
export interface Setting {
  pod: PodFacts;
  lowers: string[];
  isolation: Isolation;
}

/** Create, start and exit of one container, everything it leaves removed. */
export interface Candidate {
  name: string;
  version: string;
  run(index: number): Promise<void>;
}

export async function makeSetting(scratch: Scratch, isolation: Isolation): Promise<Setting> {
  return { pod: await makePod(scratch), lowers: makeLayers(scratch), isolation };
}

/** A pod's namespaces, /dev/shm and files, made once: every candidate's containers join them. */
async function makePod({ run }: Scratch): Promise<PodFacts> {
  const home = mkdtempSync(join(run, 'pod-'));
  const at = (name: string) => join(home, name);
  for (const [name, text] of Object.entries(await podFiles(PodSandboxConfig.create(), 'bench', [])))
    writeFileSync(at(name), text);
  const paths = { networkPath: at('net'), ipcPath: at('ipc'), utsPath: at('uts'), shmPath: at('shm') };
  await pinNamespaces(
    sandboxPlan({ ...paths, hostname: 'bench', pidPath: undefined, shmBytes: 1n << 26n, sysctls: {} }),
    'bench',
  );
  const files = Object.fromEntries(Object.entries(POD_FILES).map(([path, name]) => [path, at(name)]));
  return {
    ...paths,
    hostname: 'bench',
    pidPath: undefined,
    hostPid: false,
    files,
    makeMountSources: false,
    cgroupPath: '',
  };
}

/** Lower directories of the root, top first: the program, and what an image has besides. */
function makeLayers({ dir }: Scratch): string[] {
  const layers = mkdtempSync(join(dir, 'layers-'));
  const base = join(layers, 'base');
  const top = join(layers, 'top');
  for (const name of ['dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(base, name), { recursive: true });
  writeFileSync(join(base, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(base, 'etc/group'), 'root:x:0:\n');
  for (const file of Object.keys(POD_FILES)) writeFileSync(join(base, file), '');
  mkdirSync(join(top, 'bin'), { recursive: true });
  copyFileSync(buildTask(dir, join(installDir(), 'bench/task.c')), join(top, 'bin/task'));
  execFileSync('chmod', ['755', join(top, 'bin/task')]);
  return [top, base];
}

interface Made {
  spec: Spec;
  filter: SeccompFilter | undefined;
}

async function make({ pod, isolation }: Setting, cgroups: Cgroups, cgroupPath: string): Promise<Made> {
  const image = { env: [], entrypoint: ['/bin/task'], cmd: [], workingDir: '/', user: '' };
  const none = { devices: [], everyDevice: [], thermalPaths: [], imageLowers: new Map(), anonymousVolumes: [] };
  const cdi = { env: [], mounts: [], groups: [], hooks: {} };
  const host = { ...none, cdi, cgroups: cgroups.trees, selinux: undefined };
  const spec = containerSpec(ContainerConfig.create(), image, { ...pod, cgroupPath }, host);
  if (isolation === 'pod') return { spec, filter: undefined };
  const security = LinuxContainerSecurityContext.fromPartial({ seccomp: { profileType: 0 } });
  const seccomp = await seccompOf(security, spec.process.capabilities.bounding, createLogger('error', 'text'));
  if (!seccomp) throw new Error('no default seccomp profile');
  const namespaces = spec.linux.namespaces.map(({ type }) => ({ type }));
  return { spec: { ...spec, linux: { ...spec.linux, namespaces, seccomp: seccomp.spec } }, filter: seccomp.filter };
}

/** The product's plan; new network, IPC and UTS namespaces are a pod's business there, and made with the process here. */
function planOf({ isolation }: Setting, plan: LaunchPlan): LaunchPlan {
  if (isolation === 'pod') return plan;
  const more = BigInt(CLONE.newnet | CLONE.newipc | CLONE.newuts);
  return { ...plan, outer: plan.outer.map(op => (op.op === 'CLONE_FLAGS' ? { ...op, flags: op.flags | more } : op)) };
}

/** From the launch with a plan that is ready, as a peer's bundle is, to the exit. */
export const HELPER_ALONE = 'the helper alone';

export function berth({ dir, run, cgroups, cgroup }: Scratch, setting: Setting, parts: Timings): Candidate {
  const { lowers } = setting;
  const { version } = JSON.parse(readFileSync(join(installDir(), 'package.json'), 'utf8')) as { version: string };
  return {
    name: 'berth',
    version,
    run: async index => {
      const home = join(dir, `berth-${setting.isolation}-${index}`);
      const stateDir = join(run, `berth-${setting.isolation}-${index}`);
      const stage = join(stateDir, 'rootfs');
      const at = (name: string) => join(home, name);
      const cgroupPath = join(cgroup, `berth-${setting.isolation}-${index}`);
      const placement = await parts.time('directories and cgroup', async () => {
        await Promise.all([stage, at('upper'), at('work')].map(path => mkdir(path, { recursive: true })));
        return cgroups.create(cgroupPath);
      });
      const rootfs = { lowers, upper: at('upper'), work: at('work'), stage, isVolatile: true };
      const log = { path: at('log'), maxLineBytes: 0 };
      const { spec, filter } = await parts.time('spec and filter', () => make(setting, cgroups, cgroupPath));
      const plan = planOf(setting, launchPlan(spec, rootfs, placement, log, false, filter));
      const launchedAt = performance.now();
      const monitor = await parts.time('launch to created', async () => {
        const launched = await Monitor.launch(plan, stateDir, `berth-${index}`);
        await launched.created;
        return launched;
      });
      await parts.time('start to running', () => monitor.start());
      const { exitCode } = await parts.time('running to exited', () => monitor.exited);
      parts.add(HELPER_ALONE, performance.now() - launchedAt);
      if (exitCode !== 0) throw new Error(`berth: the task ended with ${exitCode}`);
      await parts.time('remove both', () =>
        Promise.all([
          cgroups.remove(cgroupPath),
          ...[home, stateDir].map(path => rm(path, { recursive: true, force: true })),
        ]),
      );
    },
  };
}

export async function peers(scratch: Scratch, setting: Setting, names = ['runc', 'crun']): Promise<Candidate[]> {
  const found = names.flatMap(name => {
    const program = findPeer(name);
    return program === undefined ? [] : [peer(scratch, setting, name, program)];
  });
  return Promise.all(found);
}

/** `NAME run` on a bundle whose root is an overlay that is mounted already: a peer's caller mounts it. */
async function peer(
  { dir, run, cgroup, cgroups }: Scratch,
  setting: Setting,
  name: string,
  program: string,
): Promise<Candidate> {
  const { lowers } = setting;
  const bundle = mkdtempSync(join(dir, `${name}-`));
  const at = (file: string) => join(bundle, file);
  for (const folder of ['rootfs', 'upper', 'work']) mkdirSync(at(folder), { recursive: true });
  const options = `lowerdir=${lowers.join(':')},upperdir=${at('upper')},workdir=${at('work')},volatile`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, at('rootfs')]);
  const root = { uid: 0, gid: 0, groups: [], home: '/' };
  const { spec } = await make(setting, cgroups, join(cgroup, name));
  writeFileSync(at('config.json'), bundleJson(spec, at('rootfs'), root, {}));
  const programFd = openSync(program, 'r');
  return {
    name,
    version: versionOf(program),
    run: async index => {
      const id = `berth-bench-${process.pid}-${index}`;
      const argv = [name, '--root', join(run, name), 'run', '--bundle', bundle, id];
      const exitCode = await runProgram(programFd, argv, at('stderr'));
      if (exitCode !== 0) throw new Error(`${name} run ended with ${exitCode}: ${readFileSync(at('stderr'), 'utf8')}`);
    },
  };
}

/** Started as berth starts its own helper, which is faster than child_process: no peer pays for Node's fork. */
async function runProgram(programFd: number, argv: string[], stderr: string): Promise<number | null> {
  const nothing = openSync('/dev/null', 'r+');
  const complaints = openSync(stderr, 'w');
  try {
    const { pidfd } = await addon().spawn(programFd, argv, [nothing, nothing, complaints], -1);
    return await new Promise(resolve => reapWhenEnded(pidfd, resolve));
  } finally {
    closeSync(nothing);
    closeSync(complaints);
  }
}

/** The least that it can be; see floor.c. */
export function floor({ dir }: Scratch, { lowers }: Setting): Candidate {
  const home = mkdtempSync(join(dir, 'floor-'));
  const at = (name: string) => join(home, name);
  const source = join(installDir(), 'bench/floor.c');
  execFileSync('musl-gcc', [
    '-static',
    '-O2',
    '-s',
    '-idirafter',
    '/usr/include',
    '-idirafter',
    archIncludes(),
    '-o',
    at('floor'),
    source,
  ]);
  const programFd = openSync(at('floor'), 'r');
  return {
    name: 'floor in C',
    version: '',
    run: async index => {
      const own = (name: string) => at(`${name}-${index}`);
      for (const name of ['upper', 'work', 'stage']) mkdirSync(own(name));
      const argv = ['floor', lowers.join(':'), own('upper'), own('work'), own('stage'), '/bin/task'];
      const exitCode = await runProgram(programFd, argv, at('stderr'));
      if (exitCode !== 0) throw new Error(`the floor ended with ${exitCode}: ${readFileSync(at('stderr'), 'utf8')}`);
    },
  };
}

/** Where Debian has the kernel's headers of this machine. */
function archIncludes(): string {
  return `/usr/include/${execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim()}`;
}
