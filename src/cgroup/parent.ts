import { normalize } from 'node:path';
import { BerthError } from '../base/errors';

/**
 * A request's cgroup_parent as an absolute path below the cgroup trees' roots, where berth makes the directories itself.
 * Throws `invalid_argument` for what is no path of a pod's cgroup, and for a slice of systemd's.
 */
export function cgroupfsParent(asked: string): string {
  const parts = asked.split('/');
  if (parts.includes('..') || asked.includes('\0')) {
    throw new BerthError('invalid_argument', `cgroup_parent ${JSON.stringify(asked)} is no path of a cgroup`);
  }
  if (!asked.includes('/') && asked.endsWith('.slice')) {
    throw new BerthError(
      'invalid_argument',
      `cgroup_parent ${asked} is a slice of systemd's, and berth uses cgroupfs`,
      {
        hint: 'set cgroupDriver: cgroupfs in the kubelet’s configuration, or runtime.cgroup_driver = "systemd" in berth’s',
      },
    );
  }
  const path = normalize(`/${asked}`).replace(/\/$/, '');
  if (path === '') throw new BerthError('invalid_argument', 'cgroup_parent "/" is no cgroup of a pod');
  return path;
}
