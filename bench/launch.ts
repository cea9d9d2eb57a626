import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cgroups } from '../src/cgroup/groups';
import { ContainerConfig, PodSandboxConfig } from '../src/cri';
import { addon } from '../src/native/addon';
import { installDir } from '../src/native/paths';
import { POD_FILES, writePodFiles } from '../src/network/pod-files';
import { NO_CDI } from '../src/oci/cdi/edits';
import { containerSpec, type PodFacts } from '../src/oci/container-spec';
import { launchPlan } from '../src/oci/launch-plan';
import { sandboxPlan } from '../src/oci/sandbox-plan';
import type { Spec } from '../src/oci/spec';
import { Monitor } from '../src/process/monitor';
import { pinNamespaces } from '../src/process/pin';
import { reapWhenEnded } from '../src/process/reap';
import { bundleConfig } from './bundle';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { buildTask, findPeer, inScratch, roundsOr, versionOf, type Scratch } from './scratch';

/** Create, start and exit of one container, everything it leaves removed. */
interface Candidate {
  name: string;
  version: string;
  run(index: number): Promise<void>;
}

inScratch(async scratch => {
  const rounds = roundsOr(60);
  const pod = await makePod(scratch);
  const lowers = makeLayers(scratch);
  const parts = new Timings();
  const candidates = [berth(scratch, pod, lowers, parts), ...peers(scratch, pod, lowers)];
  const totals = new Timings();
  let index = 0;
  await alternate(candidates, { warmUp: 5, measured: rounds }, async (candidate, isMeasured) => {
    scratch.throwIfInterrupted();
    totals.isMeasuring = parts.isMeasuring = isMeasured;
    await totals.time(candidate.name, () => candidate.run(index++));
  });
  report(candidates, totals, parts, rounds);
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

/** A pod's namespaces, /dev/shm and files, made once: every candidate's containers join them. */
async function makePod({ dir }: Scratch): Promise<PodFacts> {
  const home = join(dir, 'pod');
  const at = (name: string) => join(home, name);
  mkdirSync(home);
  await writePodFiles(home, PodSandboxConfig.create(), 'bench');
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
  const base = join(dir, 'layers/base');
  const top = join(dir, 'layers/top');
  for (const name of ['dev', 'etc', 'proc', 'sys', 'tmp']) mkdirSync(join(base, name), { recursive: true });
  writeFileSync(join(base, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(base, 'etc/group'), 'root:x:0:\n');
  for (const file of Object.keys(POD_FILES)) writeFileSync(join(base, file), '');
  mkdirSync(join(top, 'bin'), { recursive: true });
  copyFileSync(buildTask(dir, join(installDir(), 'bench/task.c')), join(top, 'bin/task'));
  execFileSync('chmod', ['755', join(top, 'bin/task')]);
  return [top, base];
}

function specOf(pod: PodFacts, cgroups: Cgroups, cgroupPath: string): Spec {
  const image = { env: [], entrypoint: ['/bin/task'], cmd: [], workingDir: '/', user: '' };
  const none = {
    devices: [],
    cdi: NO_CDI,
    everyDevice: [],
    thermalPaths: [],
    imageLowers: new Map(),
    anonymousVolumes: [],
  };
  const host = { ...none, cgroups: cgroups.trees, hasSelinux: false };
  return containerSpec(ContainerConfig.create(), image, { ...pod, cgroupPath }, host);
}

function berth({ dir, cgroups, cgroup }: Scratch, pod: PodFacts, lowers: string[], parts: Timings): Candidate {
  const { version } = JSON.parse(readFileSync(join(installDir(), 'package.json'), 'utf8')) as { version: string };
  return {
    name: 'berth',
    version,
    run: async index => {
      const home = join(dir, `berth-${index}`);
      const at = (name: string) => join(home, name);
      const cgroupPath = join(cgroup, `berth-${index}`);
      const placement = await parts.time('directories and cgroup', async () => {
        await Promise.all(['stage', 'upper', 'work'].map(name => mkdir(at(name), { recursive: true })));
        return cgroups.create(cgroupPath);
      });
      const rootfs = { lowers, upper: at('upper'), work: at('work'), stage: at('stage'), isVolatile: true };
      const log = { path: at('log'), maxLineBytes: 0 };
      const plan = launchPlan(specOf(pod, cgroups, cgroupPath), rootfs, placement, log, false);
      const monitor = await parts.time('launch to created', async () => {
        const launched = await Monitor.launch(plan, home, `berth-${index}`);
        await launched.created;
        return launched;
      });
      await parts.time('start to running', () => monitor.start());
      const { exitCode } = await parts.time('running to exited', () => monitor.exited);
      if (exitCode !== 0) throw new Error(`berth: the task ended with ${exitCode}`);
      await parts.time('remove both', () =>
        Promise.all([cgroups.remove(cgroupPath), rm(home, { recursive: true, force: true })]),
      );
    },
  };
}

function peers(scratch: Scratch, pod: PodFacts, lowers: string[]): Candidate[] {
  return ['runc', 'crun'].flatMap(name => {
    const program = findPeer(name);
    return program === undefined ? [] : [peer(scratch, pod, lowers, name, program)];
  });
}

/** `NAME run` on a bundle whose root is an overlay that is mounted already: a peer's caller mounts it. */
function peer(
  { dir, cgroup, cgroups }: Scratch,
  pod: PodFacts,
  lowers: string[],
  name: string,
  program: string,
): Candidate {
  const bundle = join(dir, name);
  const at = (file: string) => join(bundle, file);
  for (const folder of ['rootfs', 'upper', 'work']) mkdirSync(at(folder), { recursive: true });
  const options = `lowerdir=${lowers.join(':')},upperdir=${at('upper')},workdir=${at('work')},volatile`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, at('rootfs')]);
  writeFileSync(
    at('config.json'),
    JSON.stringify(bundleConfig(specOf(pod, cgroups, join(cgroup, name)), at('rootfs'))),
  );
  const programFd = openSync(program, 'r');
  return {
    name,
    version: versionOf(program),
    run: async index => {
      const id = `berth-bench-${process.pid}-${index}`;
      const argv = [name, '--root', at('state'), 'run', '--bundle', bundle, id];
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

function report(candidates: readonly Candidate[], totals: Timings, parts: Timings, rounds: number): void {
  const own = median(totals.of('berth'));
  console.log(`\ncreate + start + exit + removal of one container, ms; ${rounds} rounds; ${machine()}\n`);
  console.log(
    table(
      ['', 'median', 'p95', '÷ berth'],
      candidates.map(({ name, version }) => {
        const samples = totals.of(name);
        return [
          `${name} ${version}`,
          ms(median(samples)),
          ms(quantile(samples, 0.95)),
          (median(samples) / own).toFixed(1),
        ];
      }),
    ),
  );
  console.log('\nof which, in berth:\n');
  const rows = parts.names().map(name => [name, ms(median(parts.of(name))), ms(quantile(parts.of(name), 0.95))]);
  console.log(table(['', 'median', 'p95'], rows));
}
