import { BerthError } from '../base/errors';
import type { RunOptions, Tmpfs } from '../cri/generated/berth/v1/run';
import { normalPath } from './mounts';
import { sharedLabel } from './selinux';
import type { MountSpec, Spec } from './spec';

/**
 * Puts into the spec what a person has asked for and the CRI has no word for: tmpfs mounts, the host's UTS namespace,
 * unmasked paths, a first process of berth's. Limits of processes are in it already. Throws `invalid_argument`.
 */
export function withRunOptions(spec: Spec, options: RunOptions): void {
  const { process, linux } = spec;
  if (options.init) process.init = true;
  const names = options.groupAdd.filter(group => !/^\d+$/.test(group));
  if (names.length > 0) process.groupNames = names;
  if (options.pidsLimit === -1n) delete linux.resources.pids;
  else if (options.pidsLimit !== 0n) linux.resources.pids = { limit: options.pidsLimit };
  if (options.utsMode === 'host') linux.namespaces = linux.namespaces.filter(({ type }) => type !== 'uts');
  if (options.securityOpts.includes('systempaths=unconfined')) {
    linux.maskedPaths = [];
    linux.readonlyPaths = [];
  }
  shareLabels(spec.mounts, options.sharedLabels);
  for (const tmpfs of options.tmpfs) addMount(spec.mounts, tmpfsMount(tmpfs));
}

function shareLabels(mounts: readonly MountSpec[], paths: readonly string[]): void {
  const shared = new Set(paths.map(normalPath));
  for (const mount of mounts) {
    if (mount.relabel !== undefined && shared.has(mount.destination)) mount.relabel = sharedLabel(mount.relabel);
  }
}

const FLAGS: Readonly<Record<string, Partial<MountSpec>>> = {
  ro: { readonly: true },
  rw: { readonly: false },
  noexec: { noexec: true },
  exec: { noexec: false },
  nosuid: { nosuid: true },
  suid: { nosuid: false },
  nodev: { nodev: true },
  dev: { nodev: false },
};

/** What the kernel's tmpfs takes, and how; tmpfs(5). */
const TMPFS_OPTION = /^(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9]+[kKmMgG%]?$|^noswap$/;

function tmpfsMount({ target, options }: Tmpfs): MountSpec {
  if (!target.startsWith('/') || target.includes('\0') || target === '/') {
    throw new BerthError(
      'invalid_argument',
      `tmpfs at ${JSON.stringify(target)}: the path is not absolute, or the root`,
    );
  }
  const unknown = options.find(option => !Object.hasOwn(FLAGS, option) && !TMPFS_OPTION.test(option));
  if (unknown !== undefined) {
    throw new BerthError('invalid_argument', `tmpfs at ${target}: option ${JSON.stringify(unknown)} is not known`, {
      hint: `there are size=, mode=, uid=, gid=, nr_inodes= and ${Object.keys(FLAGS).join(', ')}`,
    });
  }
  return {
    ...{ destination: target.replace(/(?<=.)\/+$/, ''), type: 'tmpfs', source: 'tmpfs' },
    ...{ readonly: false, nosuid: true, nodev: true, noexec: true },
    ...(Object.assign({}, ...options.map(option => FLAGS[option] ?? {})) as Partial<MountSpec>),
    options: options.filter(option => !Object.hasOwn(FLAGS, option)),
  };
}

/** In the place of what is mounted there, or behind the mounts that it may lie in. */
function addMount(mounts: MountSpec[], mount: MountSpec): void {
  const same = mounts.findIndex(({ destination }) => destination === mount.destination);
  if (same >= 0 && mounts[same]?.strictDestination && mount.destination !== '/dev/shm') {
    throw new BerthError('invalid_argument', `tmpfs at ${mount.destination}: the kernel's own file system is there`);
  }
  if (same >= 0) {
    mounts[same] = mount;
    return;
  }
  const below = mounts.findIndex(({ destination }) => destination.startsWith(`${mount.destination}/`));
  mounts.splice(below < 0 ? mounts.length : below, 0, mount);
}
