import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import {
  RunOptions,
  type Device,
  type Healthcheck,
  type HostEntry,
  type RestartPolicy,
  type Tmpfs,
} from '../cri/generated/berth/v1/run';
import { collect } from './parse/collect';
import { defaultPlatform } from './parse/default-platform';
import { parseDuration } from './parse/duration';
import { parseLabels } from './parse/labels';
import { parseInteger, parseSeconds } from './parse/numbers';
import { parseSize } from './parse/size';
import { parseUlimit } from './parse/ulimit';

/** Of the flags of `run` and `create` those that RunOptions is made of. */
export interface OptionFlags {
  cpus?: string;
  cpuShares?: bigint;
  cpuPeriod?: bigint;
  cpuQuota?: bigint;
  cpusetCpus: string;
  cpusetMems: string;
  memory?: bigint;
  memorySwap?: bigint;
  pidsLimit?: bigint;
  oomScoreAdj?: bigint;
  ulimit: string[];
  capAdd: string[];
  capDrop: string[];
  privileged: boolean;
  readOnly: boolean;
  securityOpt: string[];
  device: string[];
  groupAdd: string[];
  tmpfs: string[];
  shmSize?: bigint;
  dns: string[];
  dnsSearch: string[];
  dnsOption: string[];
  addHost: string[];
  sysctl: string[];
  ipc: string;
  pid: string;
  uts: string;
  userns: string;
  cgroupParent: string;
  platform: string;
  init: boolean;
  stopSignal: string;
  stopTimeout?: bigint;
  restart: string;
  annotation: string[];
  healthCmd?: string;
  healthInterval?: bigint;
  healthTimeout?: bigint;
  healthStartPeriod?: bigint;
  healthStartInterval?: bigint;
  healthRetries?: bigint;
  healthcheck: boolean;
}

const size =
  (flag: string, any = false) =>
  (text: string) =>
    parseSize(flag, text, any);
const integer = (flag: string) => (text: string) => parseInteger(flag, text);
const duration = (flag: string) => (text: string) => parseDuration(flag, text);

export function addOptionFlags(command: Command): Command {
  return addHealthFlags(addLifeFlags(addViewFlags(addRightFlags(addLimitFlags(command)))));
}

function addLimitFlags(command: Command): Command {
  return command
    .option('--cpus <number>', 'as much CPU time as so many CPUs have: 1.5')
    .option('-c, --cpu-shares <weight>', 'its share when CPU time is short (default: 1024)', integer('--cpu-shares'))
    .option('--cpu-period <microseconds>', 'the period of --cpu-quota (default: 100000)', integer('--cpu-period'))
    .option('--cpu-quota <microseconds>', 'CPU time in a period', integer('--cpu-quota'))
    .option('--cpuset-cpus <list>', 'the CPUs that it may use: 0-2,5', '')
    .option('--cpuset-mems <list>', 'the memory nodes that it may use', '')
    .option('-m, --memory <size>', 'how much memory it may use: 512m', size('--memory'))
    .option(
      '--memory-swap <size>',
      'memory and swap together; -1: any (default: as --memory)',
      size('--memory-swap', true),
    )
    .option('--pids-limit <number>', 'how many processes and threads it may have; -1: any', integer('--pids-limit'))
    .option(
      '--oom-score-adj <number>',
      'who is ended first when memory is gone: -1000 to 1000',
      integer('--oom-score-adj'),
    )
    .option('--ulimit <name=soft[:hard]>', 'a limit of each process: nofile=1024:4096', collect, [])
    .option('--shm-size <size>', 'of /dev/shm (default: 64m)', size('--shm-size'))
    .option('--cgroup-parent <path>', 'the cgroup that its own lies in', '');
}

function addRightFlags(command: Command): Command {
  return command
    .option('--cap-add <capability>', 'a capability more: NET_ADMIN, or ALL', collect, [])
    .option('--cap-drop <capability>', 'a capability less', collect, [])
    .option('--privileged', 'all capabilities and devices, and nothing masked: root of the node, in effect', false)
    .option('--read-only', 'its root file system is not written', false)
    .option('--security-opt <option>', 'no-new-privileges, seccomp=FILE|unconfined, apparmor=, label=', collect, [])
    .option('--device <path[:path][:rwm]>', 'a device of the node, or vendor/class=name of CDI', collect, [])
    .option('--group-add <group>', 'one more group, by name or number', collect, [])
    .option('--userns <mode>', 'host, or auto for ids of its own (default: host)', '');
}

function addViewFlags(command: Command): Command {
  return command
    .option('--tmpfs <target[:options]>', 'a file system in memory: /run:size=64m,mode=1777', collect, [])
    .option('--dns <address>', 'a DNS server', collect, [])
    .option('--dns-search <domain>', 'a domain that names are looked up in', collect, [])
    .option('--dns-option <option>', 'an option of resolv.conf', collect, [])
    .option('--add-host <host:address>', 'a line of /etc/hosts', collect, [])
    .option('--sysctl <name=value>', 'a kernel parameter of its namespaces', collect, [])
    .option('--ipc <mode>', 'host, or private (default)', '')
    .option('--pid <mode>', 'host, or private (default)', '')
    .option('--uts <mode>', 'host, or private (default)', '')
    .option(
      '--platform <os/arch>',
      "the image for this platform; another than the node's needs an emulator",
      defaultPlatform(),
    );
}

function addLifeFlags(command: Command): Command {
  return command
    .option('--init', 'a first process that hands signals on and reaps what others leave', false)
    .option('--stop-signal <signal>', "what a stop sends first (default: the image's, or TERM)", '')
    .option('--stop-timeout <seconds>', 'how long a stop waits before it kills (default: 10)', text =>
      parseSeconds('--stop-timeout', text),
    )
    .option('--restart <policy>', 'no, on-failure[:n], always or unless-stopped (default: no)', 'no')
    .option('--annotation <key=value>', 'an annotation', collect, []);
}

function addHealthFlags(command: Command): Command {
  return command
    .option('--health-cmd <command>', 'what says, by its exit code, whether it is healthy')
    .option('--health-interval <duration>', 'between two checks (default: 30s)', duration('--health-interval'))
    .option('--health-timeout <duration>', 'how long a check may take (default: 30s)', duration('--health-timeout'))
    .option(
      '--health-start-period <duration>',
      'so long failures do not count (default: 0s)',
      duration('--health-start-period'),
    )
    .option(
      '--health-start-interval <duration>',
      'between checks meanwhile (default: 5s)',
      duration('--health-start-interval'),
    )
    .option(
      '--health-retries <number>',
      'so many failures in a row make it unhealthy (default: 3)',
      integer('--health-retries'),
    )
    .option('--no-healthcheck', "not the image's check either");
}

export function runOptions(flags: OptionFlags): RunOptions {
  return RunOptions.fromPartial({
    ...limits(flags),
    ...rights(flags),
    tmpfs: flags.tmpfs.map(parseTmpfs),
    dns: flags.dns,
    dnsSearch: flags.dnsSearch,
    dnsOptions: flags.dnsOption,
    extraHosts: flags.addHost.map(parseHost),
    sysctls: Object.fromEntries(flags.sysctl.map(text => keyAndValue('--sysctl', text))),
    ipcMode: flags.ipc,
    pidMode: flags.pid,
    utsMode: flags.uts,
    platform: flags.platform,
    init: flags.init,
    stopSignal: flags.stopSignal,
    ...(flags.stopTimeout === undefined ? {} : { stopTimeoutSeconds: flags.stopTimeout }),
    ...(flags.restart === 'no' ? {} : { restart: parseRestart(flags.restart) }),
    annotations: parseLabels(flags.annotation, '--annotation'),
    ...health(flags),
  });
}

function limits(flags: OptionFlags): Partial<RunOptions> {
  if (flags.cpus !== undefined && (flags.cpuQuota !== undefined || flags.cpuPeriod !== undefined)) {
    throw new BerthError('invalid_argument', '--cpus and --cpu-quota say the same twice', { hint: 'give one of them' });
  }
  return {
    cpuQuotaMicros: flags.cpus === undefined ? (flags.cpuQuota ?? 0n) : parseCpus(flags.cpus),
    cpuPeriodMicros: flags.cpuPeriod ?? 0n,
    cpuShares: flags.cpuShares ?? 0n,
    cpusetCpus: flags.cpusetCpus,
    cpusetMems: flags.cpusetMems,
    memoryBytes: flags.memory ?? 0n,
    memorySwapBytes: flags.memorySwap ?? 0n,
    pidsLimit: flags.pidsLimit ?? 0n,
    oomScoreAdj: flags.oomScoreAdj ?? 0n,
    ulimits: flags.ulimit.map(parseUlimit),
    shmBytes: flags.shmSize ?? 0n,
    cgroupParent: flags.cgroupParent,
  };
}

function rights(flags: OptionFlags): Partial<RunOptions> {
  return {
    capAdd: flags.capAdd,
    capDrop: flags.capDrop,
    privileged: flags.privileged,
    readOnly: flags.readOnly,
    securityOpts: flags.securityOpt,
    devices: flags.device.filter(isPath).map(parseDevice),
    cdiDevices: flags.device.filter(text => !isPath(text)),
    groupAdd: flags.groupAdd,
    usernsMode: flags.userns,
  };
}

const PERIOD_MICROS = 100_000;

function parseCpus(text: string): bigint {
  if (/^\d{1,4}(\.\d{1,9})?$/.test(text) && Number(text) > 0) return BigInt(Math.round(Number(text) * PERIOD_MICROS));
  throw new BerthError('invalid_argument', `--cpus "${text}" is not a number of CPUs`, { hint: 'write 2 or 0.5' });
}

function isPath(text: string): boolean {
  return text.startsWith('/');
}

function parseDevice(text: string): Device {
  const [hostPath = '', second = '', third = '', ...rest] = text.split(':');
  const isAccess = /^[rwm]{1,3}$/.test(second);
  const permissions = isAccess ? second : third;
  const containerPath = isAccess ? '' : second;
  if (rest.length === 0 && /^[rwm]{0,3}$/.test(permissions) && (containerPath === '' || isPath(containerPath))) {
    return { hostPath, containerPath, permissions };
  }
  throw new BerthError('invalid_argument', `--device "${text}" is not PATH[:PATH][:rwm]`);
}

function parseTmpfs(text: string): Tmpfs {
  const colon = text.indexOf(':');
  const target = colon < 0 ? text : text.slice(0, colon);
  return {
    target,
    options:
      colon < 0
        ? []
        : text
            .slice(colon + 1)
            .split(',')
            .filter(option => option !== ''),
  };
}

function parseHost(text: string): HostEntry {
  const [, name = '', address = ''] = /^([^:=\s]+)[:=]\[?([0-9a-fA-F.:]+)\]?$/.exec(text) ?? [];
  if (name !== '') return { name, address };
  throw new BerthError('invalid_argument', `--add-host "${text}" is not HOST:ADDRESS`, {
    hint: 'the address is one of IPv4 or IPv6',
  });
}

function keyAndValue(flag: string, text: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals > 0) return [text.slice(0, equals), text.slice(equals + 1)];
  throw new BerthError('invalid_argument', `${flag} "${text}" is not NAME=VALUE`);
}

function parseRestart(text: string): RestartPolicy {
  const [, name = '', retries = '0'] = /^(always|unless-stopped|on-failure)(?::(\d{1,9}))?$/.exec(text) ?? [];
  if (name !== '') return { name, maximumRetries: Number(retries) };
  throw new BerthError('invalid_argument', `--restart "${text}" is not known`, {
    hint: 'it is no, on-failure[:n], always or unless-stopped',
  });
}

function health(flags: OptionFlags): { health?: Healthcheck } {
  const said = [flags.healthCmd, flags.healthInterval, flags.healthTimeout, flags.healthStartPeriod];
  const isSaid = [...said, flags.healthStartInterval, flags.healthRetries].some(value => value !== undefined);
  if (isSaid && !flags.healthcheck) {
    throw new BerthError('invalid_argument', '--no-healthcheck excludes all other --health flags');
  }
  if (!isSaid && flags.healthcheck) return {};
  return {
    health: {
      none: !flags.healthcheck || flags.healthCmd === 'none',
      command: flags.healthCmd === 'none' ? '' : (flags.healthCmd ?? ''),
      intervalNs: flags.healthInterval ?? 0n,
      timeoutNs: flags.healthTimeout ?? 0n,
      startPeriodNs: flags.healthStartPeriod ?? 0n,
      startIntervalNs: flags.healthStartInterval ?? 0n,
      retries: Number(flags.healthRetries ?? 0n),
    },
  };
}
