import type { InnerOp } from '../native/plan-ops';
import { MOUNT_ATTR, MOUNT_FLAGS, MS } from './linux';
import type { MountSpec } from './spec';

/** Takes the source of a bind from the host, before there is a root. */
export function holdOps(mount: MountSpec): InnerOp[] {
  if (mount.type !== 'bind' || mount.image) return [];
  const flags =
    (mount.recursive ? MOUNT_FLAGS.recursive : 0) |
    (mount.makeSource ? MOUNT_FLAGS.sourceMake : 0) |
    (mount.propagation === 'shared' ? MOUNT_FLAGS.sourceShared : 0) |
    (mount.propagation === 'slave' ? MOUNT_FLAGS.sourceSlave : 0);
  return [{ op: 'HOLD_SOURCE', source: mount.source, target: mount.destination, flags }];
}

/** Takes the files of an image; only where nothing is shared with the host any more, for `stage` is mounted on meanwhile. */
export function holdImageOps({ destination, image }: MountSpec, stage: string): InnerOp[] {
  if (!image) return [];
  return [{ op: 'HOLD_IMAGE', target: destination, stage, subpath: image.subPath, lowers: image.lowers }];
}

/** Mounts it in the root. */
export function mountOps(mount: MountSpec): InnerOp[] {
  const target = mount.destination;
  return [
    ...(mount.copyUp ? [{ op: 'COPY_UP', target } as const] : []),
    ...(mount.relabel === undefined ? [] : [{ op: 'RELABEL', target, label: mount.relabel } as const]),
    mountOp(mount),
  ];
}

function mountOp(mount: MountSpec): InnerOp {
  const strict = mount.strictDestination ? MOUNT_FLAGS.targetNoLinks : 0;
  if (mount.type !== 'bind') {
    return {
      op: 'MOUNT_FS',
      type: mount.type,
      target: mount.destination,
      attrs: attributes(mount),
      options: mount.options,
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
