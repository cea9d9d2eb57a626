import { sharedLabel, type SelinuxLabels } from './selinux';
import type { MountSpec, Spec } from './spec';

/**
 * Puts a container's SELinux labels into its spec: of its processes, of its root, and of the file systems that are
 * mounted for it. `isShared` tells of a path on the host whether its files are no pod's alone, as with named volumes.
 */
export function withLabels(spec: Spec, labels: SelinuxLabels, isShared: (path: string) => boolean): void {
  if (labels.process !== undefined) spec.process.selinuxLabel = labels.process;
  spec.linux.mountLabel = labels.file;
  for (const mount of spec.mounts) {
    labelFileSystem(spec, mount, labels);
    if (isShared(mount.source)) mount.relabel = sharedLabel(labels.file);
  }
}

/** Those that have no labels of their own to keep. The host's message queues are not the container's to label. */
function labelFileSystem({ linux }: Spec, mount: MountSpec, { file, podFile }: SelinuxLabels): void {
  if (mount.type === 'tmpfs' || mount.type === 'devpts') mount.context = file;
  if (mount.type === 'mqueue' && linux.namespaces.some(({ type }) => type === 'ipc')) mount.context = podFile;
}
