/** What runs in the guest as a part of `make test`: what cgroups and systemd make different, in about six minutes. */
export const defaultFiles: readonly string[] = [
  'test/host/cgroups.test.ts',
  'test/cri/cgroup-v2.test.ts',
  'test/vm/systemd.test.ts',
];
