import type { InnerOp, LaunchPlan } from '../native/plan-ops';
import { rootOverlay, type Rootfs } from './launch-plan';
import { CLONE, MS } from './linux';
import { holdImageOps, holdOps, mountOps } from './mount-ops';
import type { IdMappings, MountSpec } from './spec';

/** The last step of a copy's plan: what it does. */
export type CopyOp = Extract<InnerOp, { op: 'COPY_STAT' | 'COPY_OUT' | 'COPY_IN' }>;

/** Flags of COPY_STAT, COPY_OUT and COPY_IN; native/helper/tarball.h. */
export const COPY_FLAGS = { follow: 1, keepOwner: 2, noDevices: 4 } as const;

/** The exit code of a copy whose path is not there. */
export const COPY_NOT_THERE = 2;

/** Which files a copy sees. */
export type CopyPlace =
  | { kind: 'node' }
  /** Those of the process at descriptor 5; `userns` when it is in a user namespace. */
  | { kind: 'process'; userns: IdMappings | undefined }
  /** Those that a container will have which does not run: its root, and the binds among its mounts. */
  | { kind: 'files'; rootfs: Rootfs; mounts: readonly MountSpec[] };

/** A process that copies instead of becoming a container's. It is in no cgroup of the container's: that may be frozen. Pure. */
export function copyPlan(place: CopyPlace, op: CopyOp): LaunchPlan {
  const stdin = { op: 'STDIN', mode: op.op === 'COPY_IN' ? 1 : 0 } as const;
  switch (place.kind) {
    case 'node':
      return { outer: [stdin], inner: [op] };
    case 'process': {
      const { userns } = place;
      // Not its PID namespace: there the container could see the process and stop it.
      const types = CLONE.newns | (userns ? CLONE.newuser : 0);
      const root: InnerOp[] = userns ? [{ op: 'USERNS_ROOT', uids: userns.uid.count, gids: userns.gid.count }] : [];
      return { outer: [stdin, { op: 'JOIN_PIDFD', fd: 5, types }], inner: [...root, op] };
    }
    case 'files':
      return { outer: [stdin], inner: [...filesOps(place.rootfs, place.mounts), op] };
  }
}

function filesOps(rootfs: Rootfs, all: readonly MountSpec[]): InnerOp[] {
  const mounts = all.filter(mount => mount.type === 'bind' && !mount.strictDestination).map(plain);
  return [
    { op: 'UNSHARE', flags: CLONE.newns },
    ...mounts.flatMap(mount => holdOps(mount, mounts)),
    { op: 'PROPAGATION', flags: MS.rec | MS.slave, path: '/' },
    ...mounts.flatMap(mount => holdImageOps(mount, rootfs.stage)),
    rootOverlay({ root: { nodev: true } }, rootfs),
    ...mounts.flatMap(mount => mountOps(mount, mounts)),
    { op: 'PIVOT_ROOT', propagation: MS.private },
  ];
}

/** What was done to it for the container's first start is done; nothing is shared for a copy's sake. */
function plain({ copyUp: _, relabel: _relabel, makeSource: _makeSource, ...mount }: MountSpec): MountSpec {
  return { ...mount, propagation: 'private' };
}
