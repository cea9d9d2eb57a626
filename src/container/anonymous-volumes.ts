import { join } from 'node:path';
import type { AnonymousVolume } from '../oci/host-facts';
import { mkdirs, type FileCall } from '../process/files';

/** A directory for each VOLUME of an image, beside the writable layer, with which it goes. The paths are the image's: no part of one becomes a name on the host. */
export function anonymousVolumes(paths: readonly string[], containerDir: string): AnonymousVolume[] {
  return paths.map((path, i) => ({ path, source: join(volumesOf(containerDir), String(i)) }));
}

/** What makes the directories, which belong to the container's root; init copies into them what the image has there. */
export function volumeDirectories(
  containerDir: string,
  sources: readonly string[],
  root: { uid: number; gid: number },
): FileCall[] {
  if (sources.length === 0) return [];
  return [
    ...mkdirs([volumesOf(containerDir), ...sources], 0o755),
    ...sources.map((path): FileCall => ({ call: 'chown', path, ...root })),
  ];
}

export function volumesOf(containerDir: string): string {
  return join(containerDir, 'volumes');
}
