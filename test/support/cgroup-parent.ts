/**
 * Below which cgroup tests make theirs, in each hierarchy: the root, or on a machine with systemd, which keeps the root's
 * controllers as its own units need them, the part that it has delegated to the tests. v1 has nothing to pass on.
 */
export const testCgroupParent = process.env['BERTH_TEST_CGROUP'] ?? '';

/** Whether the machine is the tests' own, whose systemd and cgroups they may use as they like. */
export const isInGuest = process.env['BERTH_TEST_CGROUP'] !== undefined;
