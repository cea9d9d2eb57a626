import { posix } from 'node:path';
import { BerthError } from '../../base/errors';
import { HOOK_NAMES, type HooksSpec, type HookName, type MountSpec } from '../spec';
import type { CdiEdits } from './spec';

/** A device node that a spec asks for; what it does not say is as on the host. */
export type CdiNode = CdiEdits['deviceNodes'][number];

/** What CDI devices change in a container, put together. */
export interface CdiChanges {
  /** `KEY=value`, later ones over earlier and all over the request's. */
  env: readonly string[];
  nodes: readonly CdiNode[];
  mounts: readonly MountSpec[];
  groups: readonly number[];
  hooks: HooksSpec;
}

export const NO_CDI: CdiChanges = { env: [], nodes: [], mounts: [], groups: [], hooks: {} };

/** Throws `unimplemented` for what this runtime does not do for a device: one that half works is worse than none. */
export function cdiChanges(edits: readonly CdiEdits[]): CdiChanges {
  for (const edit of edits) refuseUnsupported(edit);
  return {
    env: edits.flatMap(({ env }) => env),
    nodes: edits.flatMap(({ deviceNodes }) => deviceNodes),
    mounts: edits.flatMap(({ mounts }) => mounts).map(cdiMount),
    groups: [...new Set(edits.flatMap(({ additionalGids }) => additionalGids).filter(gid => gid !== 0))],
    hooks: hooksOf(edits.flatMap(({ hooks }) => hooks)),
  };
}

function hooksOf(all: CdiEdits['hooks']): HooksSpec {
  const hooks: HooksSpec = {};
  for (const { hookName, path, args, env, timeout } of all) {
    if (!isHookName(hookName)) {
      throw new BerthError('invalid_argument', `CDI hook ${path}: there is no ${JSON.stringify(hookName)} hook`, {
        hint: `there are ${HOOK_NAMES.join(', ')}`,
      });
    }
    const hook = { path, args, env, ...(timeout === undefined || timeout <= 0 ? {} : { timeout }) };
    hooks[hookName] = [...(hooks[hookName] ?? []), hook];
  }
  return hooks;
}

function isHookName(name: string): name is HookName {
  return (HOOK_NAMES as readonly string[]).includes(name);
}

function refuseUnsupported({ netDevices, intelRdt }: CdiEdits): void {
  const refuse = (what: string) =>
    new BerthError('unimplemented', `CDI: this version of berth ${what}`, {
      hint: 'generate the spec without it where the device can do without',
    });
  const [netDevice] = netDevices;
  if (netDevice) throw refuse(`moves no network devices, and the device has ${netDevice.hostInterfaceName}`);
  if (intelRdt) throw refuse('sets no intelRdt');
}

type Flags = Partial<Pick<MountSpec, 'readonly' | 'nosuid' | 'nodev' | 'noexec' | 'recursive' | 'propagation'>>;

/** The mount options of fstab that specs use, as they are in a MountSpec. */
const OPTIONS: Readonly<Record<string, Flags>> = {
  ro: { readonly: true },
  rw: { readonly: false },
  nosuid: { nosuid: true },
  suid: { nosuid: false },
  nodev: { nodev: true },
  dev: { nodev: false },
  noexec: { noexec: true },
  exec: { noexec: false },
  bind: {},
  rbind: { recursive: true },
  private: { propagation: 'private' },
  rprivate: { propagation: 'private' },
  slave: { propagation: 'slave' },
  rslave: { propagation: 'slave' },
  shared: { propagation: 'shared' },
  rshared: { propagation: 'shared' },
};

function cdiMount({ hostPath, containerPath, options, type }: CdiEdits['mounts'][number]): MountSpec {
  const refuse = (why: string) =>
    new BerthError('invalid_argument', `CDI mount of ${hostPath} at ${containerPath}: ${why}`);
  const destination = posix.normalize(containerPath).replace(/(?<=.)\/$/, '');
  if (/^\/(proc(\/.*)?)?$/.test(destination)) throw refuse('nothing may be mounted there');
  const isBind = type === 'bind' || type === '' || type === 'none';
  if (!isBind && type !== 'tmpfs') throw refuse(`its type ${JSON.stringify(type)} is neither bind nor tmpfs`);
  if (isBind && !hostPath.startsWith('/')) throw refuse('the host path is not absolute');
  const mount: MountSpec = {
    destination,
    type: isBind ? 'bind' : type,
    source: isBind ? hostPath : '',
    options: [],
    readonly: false,
    nosuid: false,
    nodev: true,
    noexec: false,
    ...(isBind ? { recursive: true, propagation: 'private' as const } : {}),
  };
  for (const option of options) {
    const flags = OPTIONS[option];
    if (flags) Object.assign(mount, flags);
    else if (isBind) throw refuse(`its option ${JSON.stringify(option)} is not known`);
    else mount.options.push(option);
  }
  return mount;
}
