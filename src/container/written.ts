import { volumesOf } from './anonymous-volumes';

/** Where all is that a container has written: its writable layer, and the volumes that its image declares. */
export function writtenTrees({ dir, upper }: { dir: string; upper: string }): [upper: string, volumes: string] {
  return [upper, volumesOf(dir)];
}
