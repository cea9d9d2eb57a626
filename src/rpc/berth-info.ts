import { readFileSync } from 'node:fs';
import { availableParallelism, hostname, release, totalmem } from 'node:os';
import type { Config } from '../config';
import type { ContainersServer } from '../cri/generated/berth/v1/containers';
import { nodePlatform } from '../image/platform';
import { isPaused } from '../container/pause';
import { appArmorHost, selinuxHost } from '../sandbox/security-modules';
import type { BerthParts } from './berth-service';
import { unary } from './handler';
import { jsonText } from './json';

/** What Info tells beside what can be counted. */
export type InfoConfig = Pick<Config, 'root' | 'state'>;

export function infoRpc(parts: BerthParts) {
  return {
    info: unary(parts.log, 'Info', async () => ({
      json: jsonText({ ...info(parts), SecurityOptions: await securityOptions(parts) }),
    })),
  } satisfies Partial<ContainersServer>;
}

/** Under docker's keys, as far as the thing is the same. */
function info({ version, containers, images, sandboxes, config }: BerthParts): object {
  const all = containers.list().filter(({ record }) => record.state !== 'creating');
  const inState = (state: string) => all.filter(({ record }) => record.state === state).length;
  const paused = all.filter(container => isPaused(containers, container)).length;
  const { os, architecture } = nodePlatform();
  return {
    Name: hostname(),
    ServerVersion: version,
    Containers: all.length,
    ContainersRunning: inState('running') - paused,
    ContainersPaused: paused,
    ContainersStopped: inState('exited') + inState('created'),
    Pods: sandboxes.list().length,
    Images: images.list().length,
    Driver: 'overlay',
    Runtimes: ['berth', ...containers.runtimes.own, ...containers.runtimes.list().map(({ name }) => name)],
    CgroupDriver: containers.cgroups.driver,
    CgroupVersion: containers.cgroups.unified ? '2' : '1',
    KernelVersion: release(),
    OperatingSystem: systemName(),
    OSType: os,
    Architecture: architecture,
    NCPU: availableParallelism(),
    MemTotal: totalmem(),
    RootDir: config.root,
    StateDir: config.state,
    NodeVersion: process.version,
  };
}

/** What containers are confined by if they say nothing. */
async function securityOptions({ log }: Pick<BerthParts, 'log'>): Promise<string[]> {
  const [appArmor, selinux] = await Promise.all([appArmorHost(log), selinuxHost(log)]);
  return [
    ...(appArmor.isEnabled && appArmor.missingDefault === undefined ? ['name=apparmor'] : []),
    'name=seccomp,profile=builtin',
    ...(selinux?.isKnown ? ['name=selinux'] : []),
    'name=cgroupns',
  ];
}

function systemName(): string {
  try {
    return /^PRETTY_NAME="?(.*?)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return 'Linux';
  }
}
