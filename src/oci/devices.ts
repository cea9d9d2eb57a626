import type { InnerOp } from '../native/plan-ops';
import type { AskedDevice, HostFacts } from './host-facts';
import { MOUNT_FLAGS, MS } from './linux';
import type { DeviceRule, DeviceSpec, Spec } from './spec';

const node = (path: string, major: number, minor: number): DeviceSpec => ({
  path,
  type: 'c',
  major,
  minor,
  mode: 0o666,
  uid: 0,
  gid: 0,
});

/** The nodes that every container has. */
const STANDARD_DEVICES: readonly DeviceSpec[] = [
  node('/dev/null', 1, 3),
  node('/dev/zero', 1, 5),
  node('/dev/full', 1, 7),
  node('/dev/random', 1, 8),
  node('/dev/urandom', 1, 9),
  node('/dev/tty', 5, 0),
];

/** Of devpts: /dev/ptmx, and every terminal made through it. */
const TERMINALS: readonly DeviceRule[] = [
  { allow: true, type: 'c', major: 5, minor: 2, access: 'rwm' },
  { allow: true, type: 'c', major: 136, access: 'rwm' },
];

/** A container's nodes: the standard ones, for a privileged one all of the host's, and those asked for; the last of a path counts. */
export function containerDevices(host: HostFacts, isPrivileged: boolean): DeviceSpec[] {
  const asked = host.devices.map(({ path, type, major, minor, mode, uid, gid }): DeviceSpec => {
    return { path, type, major, minor, mode, uid, gid };
  });
  const all = [...(isPrivileged ? host.everyDevice : []), ...STANDARD_DEVICES, ...asked];
  return [...new Map(all.map(device => [device.path, device])).values()];
}

/**
 * What the device cgroup is to hold: everything for a privileged container; else nothing but the standard nodes,
 * terminals and what is asked for. Making a node is always allowed, as with other runtimes, for it does not open it.
 */
export function deviceRules(asked: readonly AskedDevice[], isPrivileged: boolean): DeviceRule[] {
  if (isPrivileged) return [{ allow: true, type: 'a', access: 'rwm' }];
  const rule = ({ type, major, minor }: DeviceSpec, access: string): DeviceRule => {
    return { allow: true, type, major, minor, access };
  };
  return [
    { allow: false, type: 'a', access: 'rwm' },
    { allow: true, type: 'c', access: 'm' },
    { allow: true, type: 'b', access: 'm' },
    ...STANDARD_DEVICES.map(device => rule(device, 'rwm')),
    ...TERMINALS,
    ...asked.map(device => rule(device, device.access)),
  ];
}

/** Makes the nodes that will be bound, where no container can reach more of them than its places show. */
export function holdDeviceOps(spec: Spec, stage: string): InnerOp[] {
  return boundDevices(spec).map(device => {
    const { path, major, minor, uid, gid } = device;
    return { op: 'HOLD_DEVICE', target: path, stage, mode: modeOf(device), major, minor, uid, gid } as const;
  });
}

/** /dev right after its tmpfs: the nodes and the links that programs expect. */
export function devOps(spec: Spec): InnerOp[] {
  const links: [string, string][] = [
    ['/proc/self/fd', '/dev/fd'],
    ['/proc/self/fd/0', '/dev/stdin'],
    ['/proc/self/fd/1', '/dev/stdout'],
    ['/proc/self/fd/2', '/dev/stderr'],
    ['pts/ptmx', '/dev/ptmx'],
  ];
  return [
    ...boundDevices(spec).filter(isInDev).map(bindOp),
    ...madeDevices(spec).map(nodeOp),
    ...links.map(([target, path]) => ({ op: 'SYMLINK', target, path }) as const),
  ];
}

/** The nodes that lie elsewhere, once everything is mounted. */
export function deviceOpsElsewhere(spec: Spec): InnerOp[] {
  return boundDevices(spec)
    .filter(device => !isInDev(device))
    .map(bindOp);
}

/** On a /dev with nodev a node opens nothing: there nodes are bound, each from a mount without it. */
function boundDevices(spec: Spec): DeviceSpec[] {
  return spec.linux.devices.filter(device => isDevNodev(spec) || !isInDev(device));
}

/** A privileged container's /dev is not nodev: its nodes, hundreds perhaps, are made in place. */
function madeDevices(spec: Spec): DeviceSpec[] {
  return isDevNodev(spec) ? [] : spec.linux.devices.filter(isInDev);
}

/** A root with nodev is one of a container that cannot make nodes, either. */
function isDevNodev({ root, mounts }: Spec): boolean {
  return (
    root.nodev || (mounts.find(({ destination, type }) => destination === '/dev' && type === 'tmpfs')?.nodev ?? true)
  );
}

function isInDev({ path }: DeviceSpec): boolean {
  return path.startsWith('/dev/');
}

function bindOp({ path }: DeviceSpec): InnerOp {
  const flags = MOUNT_FLAGS.targetNoLinks | MOUNT_FLAGS.sourceHeld;
  return { op: 'MOUNT_BIND', source: path, target: path, set: 0n, clear: 0n, propagation: MS.private, flags };
}

function nodeOp(device: DeviceSpec): InnerOp {
  const { path, major, minor, uid, gid } = device;
  return { op: 'MKNOD', path, mode: modeOf(device), major, minor, uid, gid };
}

const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

function modeOf({ type, mode }: DeviceSpec): number {
  return mode | (type === 'c' ? S_IFCHR : S_IFBLK);
}
