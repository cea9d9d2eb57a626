import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AnonymousVolume } from '../oci/host-facts';

/** A directory for each VOLUME of an image, beside the writable layer, with which it goes. The paths are the image's: no part of one becomes a name on the host. */
export function anonymousVolumes(paths: readonly string[], containerDir: string): AnonymousVolume[] {
  return paths.map((path, i) => ({ path, source: join(containerDir, 'volumes', String(i)) }));
}

/** Makes the directories, which belong to the container's root; init copies into them what the image has there. */
export async function makeVolumes(sources: readonly string[], root: { uid: number; gid: number }): Promise<void> {
  await Promise.all(
    sources.map(async source => {
      await mkdir(source, { recursive: true, mode: 0o755 });
      await chown(source, root.uid, root.gid);
    }),
  );
}
