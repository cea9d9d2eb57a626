import type { InnerOp } from '../native/plan-ops';
import { MOUNT_ATTR, MOUNT_FLAGS, MS } from './linux';
import type { MountSpec } from './spec';

/** Takes the source of a bind from the host, before there is a root; of one that is shared late, a peer of it, too. */
export function holdOps(mount: MountSpec, all: readonly MountSpec[]): InnerOp[] {
  if (mount.type !== 'bind' || mount.image) return [];
  const flags =
    (mount.recursive ? MOUNT_FLAGS.recursive : 0) |
    (mount.makeSource ? MOUNT_FLAGS.sourceMake : 0) |
    (mount.propagation === 'shared' ? MOUNT_FLAGS.sourceShared : 0) |
    (mount.propagation === 'slave' ? MOUNT_FLAGS.sourceSlave : 0);
  const hold = { op: 'HOLD_SOURCE', source: mount.source, target: mount.destination, flags } as const;
  return [hold, ...(isSharedLate(mount, all) ? [{ ...hold, flags: MOUNT_FLAGS.sourceShared }] : [])];
}

/**
 * What is mounted in a shared mount is mounted on the host, too, and would stay there. So one that others lie in is
 * private until they are mounted.
 */
function isSharedLate({ destination, propagation }: MountSpec, all: readonly MountSpec[]): boolean {
  return propagation === 'shared' && all.some(other => other.destination.startsWith(`${destination}/`));
}

/** Once everything is mounted. */
export function shareOps(all: readonly MountSpec[]): InnerOp[] {
  return all
    .filter(mount => isSharedLate(mount, all))
    .map(({ destination }) => ({ op: 'SHARE', target: destination }) as const);
}

/** Takes the files of an image; only where nothing is shared with the host any more, for `stage` is mounted on meanwhile. */
export function holdImageOps({ destination, image }: MountSpec, stage: string): InnerOp[] {
  if (!image) return [];
  return [{ op: 'HOLD_IMAGE', target: destination, stage, subpath: image.subPath, lowers: image.lowers }];
}

/** Mounts it in the root. */
export function mountOps(mount: MountSpec, all: readonly MountSpec[]): InnerOp[] {
  const alone = {
    op: 'MOUNT_ATTR',
    path: mount.destination,
    set: 0n,
    clear: 0n,
    propagation: MS.private,
    flags: 0,
  } as const;
  const target = mount.destination;
  return [
    ...(mount.copyUp ? [{ op: 'COPY_UP', target } as const] : []),
    ...(mount.relabel === undefined ? [] : [{ op: 'RELABEL', target, label: mount.relabel } as const]),
    mountOp(mount),
    ...(isSharedLate(mount, all) ? [alone] : []),
  ];
}

/** The message queues' directory has a label before it is mounted: QUEUE_LABEL. */
function takesContext({ type, context }: MountSpec): boolean {
  return context !== undefined && type !== 'mqueue';
}

function mountOp(mount: MountSpec): InnerOp {
  const strict = mount.strictDestination ? MOUNT_FLAGS.targetNoLinks : 0;
  if (mount.type !== 'bind') {
    return {
      op: 'MOUNT_FS',
      type: mount.type,
      target: mount.destination,
      attrs: attributes(mount),
      options: [...mount.options, ...(takesContext(mount) ? [`context=${mount.context}`] : [])],
      flags: strict,
    };
  }
  return {
    op: 'MOUNT_BIND',
    source: mount.source,
    target: mount.destination,
    set: attributes(mount),
    clear: 0n,
    propagation: MS[mount.propagation ?? 'private'],
    flags:
      strict |
      MOUNT_FLAGS.sourceHeld |
      (mount.recursive ? MOUNT_FLAGS.recursive : 0) |
      (mount.recursiveOptions ? MOUNT_FLAGS.recursiveAttrs : 0),
  };
}

function attributes(mount: MountSpec): bigint {
  return (
    (mount.readonly ? MOUNT_ATTR.rdonly : 0n) |
    (mount.nosuid ? MOUNT_ATTR.nosuid : 0n) |
    (mount.nodev ? MOUNT_ATTR.nodev : 0n) |
    (mount.noexec ? MOUNT_ATTR.noexec : 0n) |
    (mount.strictatime ? MOUNT_ATTR.strictatime : 0n)
  );
}
