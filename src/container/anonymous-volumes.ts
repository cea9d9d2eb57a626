import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AnonymousVolume } from '../oci/host-facts';

/** Where a container's anonymous volumes are; they go with its writable layer. */
export function volumesDir(containerDir: string): string {
  return join(containerDir, 'volumes');
}

/** A directory for each VOLUME of an image. The paths are the image's: no part of one becomes a name on the host. */
export function anonymousVolumes(paths: readonly string[], containerDir: string): AnonymousVolume[] {
  return paths.map((path, i) => ({ path, source: join(volumesDir(containerDir), String(i)) }));
}

/** Makes the directories; init copies into them what the image has there. */
export async function makeVolumes(sources: readonly string[]): Promise<void> {
  await Promise.all(sources.map(source => mkdir(source, { recursive: true, mode: 0o755 })));
}
