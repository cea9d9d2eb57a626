/** Constants of mount(2), mount_setattr(2) and clone(2); linux/mount.h and linux/sched.h. */

export const MS = { rec: 1n << 14n, private: 1n << 18n, slave: 1n << 19n, shared: 1n << 20n } as const;

export const MOUNT_ATTR = { rdonly: 0x1n, nosuid: 0x2n, nodev: 0x4n, noexec: 0x8n, strictatime: 0x20n } as const;

export const CLONE = {
  newns: 0x00020000,
  newcgroup: 0x02000000,
  newuts: 0x04000000,
  newipc: 0x08000000,
  newuser: 0x10000000,
  newpid: 0x20000000,
  newnet: 0x40000000,
} as const;

/** The plan's own: flags of ROOT_OVERLAY. */
export const ROOT_FLAGS = { volatile: 1, nodev: 2 } as const;

/** The plan's own: how HOLD_SOURCE, MOUNT_FS and MOUNT_BIND reach their source and target; native/helper/helper.h. */
export const MOUNT_FLAGS = {
  targetNoLinks: 1,
  recursive: 2,
  recursiveAttrs: 4,
  sourceNoLinks: 8,
  /** What HOLD_SOURCE has taken for this target, instead of a path. */
  sourceHeld: 16,
  /** A missing source becomes a directory. */
  sourceMake: 32,
  /** The source's mount must be shared. */
  sourceShared: 64,
  /** The source's mount must be shared or a slave. */
  sourceSlave: 128,
} as const;
