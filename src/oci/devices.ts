import type { DeviceRule, DeviceSpec } from './spec';

/** The nodes that every container has. */
export const STANDARD_DEVICES: readonly DeviceSpec[] = [
  { path: '/dev/null', major: 1, minor: 3, mode: 0o666 },
  { path: '/dev/zero', major: 1, minor: 5, mode: 0o666 },
  { path: '/dev/full', major: 1, minor: 7, mode: 0o666 },
  { path: '/dev/random', major: 1, minor: 8, mode: 0o666 },
  { path: '/dev/urandom', major: 1, minor: 9, mode: 0o666 },
  { path: '/dev/tty', major: 5, minor: 0, mode: 0o666 },
];

/** Of devpts: /dev/ptmx, and every terminal made through it. */
const TERMINALS: readonly DeviceRule[] = [
  { allow: true, type: 'c', major: 5, minor: 2, access: 'rwm' },
  { allow: true, type: 'c', major: 136, access: 'rwm' },
];

/**
 * What the device cgroup is to hold: everything for a privileged container; else nothing but the standard nodes,
 * terminals and what is asked for. Making a node is always allowed, as with other runtimes, for it does not open it.
 */
export function deviceRules(asked: readonly DeviceRule[], isPrivileged: boolean): DeviceRule[] {
  if (isPrivileged) return [{ allow: true, type: 'a', access: 'rwm' }];
  return [
    { allow: false, type: 'a', access: 'rwm' },
    { allow: true, type: 'c', access: 'm' },
    { allow: true, type: 'b', access: 'm' },
    ...STANDARD_DEVICES.map(({ major, minor }): DeviceRule => ({
      allow: true,
      type: 'c',
      major,
      minor,
      access: 'rwm',
    })),
    ...TERMINALS,
    ...asked,
  ];
}
