import type { SecurityModule } from './machine';

/**
 * What runs in the guest as a part of `make test`: what cgroups and systemd make different, in about five
 * minutes where nothing else runs.
 */
const defaultFiles: readonly string[] = [
  'test/vm/controllers.test.ts',
  'test/vm/service.test.ts',
  'test/vm/systemd.test.ts',
  'test/host/cgroups.test.ts',
  'test/cri/cgroup-v2.test.ts',
  'test/cri/resources.test.ts',
  'test/cri/update.test.ts',
  'test/cri/oom.test.ts',
  'test/cri/devices.test.ts',
];

/** What runs without names of files; with a security module, which is asked for by VM_LSM, what that makes different. */
export const filesFor: Readonly<Record<SecurityModule, readonly string[]>> = {
  none: defaultFiles,
  apparmor: ['test/vm/apparmor.test.ts'],
  selinux: ['test/vm/selinux.test.ts'],
};
