/**
 * What runs in the guest as a part of `make test`: what cgroups and systemd make different, in about five
 * minutes where nothing else runs.
 */
export const defaultFiles: readonly string[] = [
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

/** What SELinux makes different; by hand, with VM_LSM=selinux. */
export const selinuxFiles: readonly string[] = ['test/vm/selinux.test.ts'];
