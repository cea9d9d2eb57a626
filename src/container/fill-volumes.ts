import type { Context } from '../base/context';
import { messageOf } from '../base/errors';
import { normalPath } from '../oci/mounts';
import type { Spec } from '../oci/spec';
import type { Container, Containers } from './containers';

/**
 * While it is not disposed no other container is given what an image has for the same volumes. They are empty afterwards
 * when it was not done: nobody's files may lie where a next filling would take them for half of this one.
 */
export interface Filling extends AsyncDisposable {
  /** Init has put into them what the image has. */
  done(): Promise<void>;
}

/**
 * Named volumes that are empty take what the image has in their place: their mounts are marked for it. Creations that
 * have a volume in common do that one after the other, so that the second one finds what the first has put there. Those
 * that are mounted at the paths of `unfilled` are left as they are.
 */
export async function fillVolumes(
  containers: Pick<Containers, 'volumes' | 'list'>,
  ctx: Context,
  spec: Pick<Spec, 'mounts'>,
  unfilled: readonly string[] = [],
): Promise<Filling> {
  const { volumes } = containers;
  const left = new Set(unfilled.map(normalPath));
  const mounts = spec.mounts.filter(
    ({ source, destination }) => volumes.nameOf(source) !== undefined && !left.has(destination),
  );
  const paths = [...new Set(mounts.map(({ source }) => source))].sort(); // in one order: no two wait for each other
  const turns: Disposable[] = [];
  const filled: string[] = [];
  let isDone = false;
  const undo = async (path: string) =>
    volumes.undoFill(path).catch((error: unknown) => {
      ctx.log.warn(`a volume keeps half of what an image has, until it is filled anew: ${messageOf(error)}`, { path });
    });
  const filling: Filling = {
    done: async () => {
      for (const path of filled) await volumes.endFill(path);
      isDone = true;
    },
    [Symbol.asyncDispose]: async () => {
      if (!isDone) for (const path of filled) await undo(path);
      for (const turn of turns) turn[Symbol.dispose]();
    },
  };
  try {
    if (paths.length > 0) ctx.stage('wait for other containers that are being created with the same volumes');
    for (const path of paths) turns.push(await volumes.fills.turn(ctx, path));
    for (const path of paths) {
      if (await volumes.beginFill(path, usersOf(containers, path).length > 0)) filled.push(path);
    }
  } catch (error) {
    await filling[Symbol.asyncDispose]();
    throw error;
  }
  for (const path of filled) markFirst(mounts, path);
  return filling;
}

/** Those that were created with the volume at `path`, whatever state they are in. */
export function usersOf(containers: Pick<Containers, 'list'>, path: string): Container[] {
  return containers.list().filter(({ config }) => config.mounts.some(({ hostPath }) => hostPath === path));
}

/** A volume that is mounted twice has what the image has in the first place. */
function markFirst(mounts: Spec['mounts'], path: string): void {
  const first = mounts.find(({ source }) => source === path);
  if (first) first.copyUp = true;
}
