/**
 * Below which cgroup tests make theirs, in each hierarchy: the root, or on a machine with systemd, which keeps the root's
 * controllers as its own units need them, the part that it has delegated to the tests.
 */
export const testCgroupParent = process.env['BERTH_TEST_CGROUP'] ?? '';
