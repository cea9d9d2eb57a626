import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { ContainerConfig } from '../cri';
import { bundleJson } from '../oci/oci-json';
import type { MountSpec, Spec } from '../oci/spec';
import type { Monitor } from '../process/monitor';
import type { OciRuntime } from '../process/oci-runtime';

/** The OCI runtimes of the configuration, by the name of the runtime handler. Berth's own has none, and those in `own`. */
export class Runtimes {
  private readonly byName: ReadonlyMap<string, OciRuntime>;

  constructor(
    runtimes: readonly OciRuntime[] = [],
    readonly own: readonly string[] = [],
  ) {
    this.byName = new Map(runtimes.map(runtime => [runtime.name, runtime]));
  }

  list(): OciRuntime[] {
    return [...this.byName.values()];
  }

  /** Undefined for berth's own. A handler that was configured once may be gone: `failed_precondition`. */
  of(handler: string): OciRuntime | undefined {
    if (handler === '' || this.own.includes(handler)) return undefined;
    const runtime = this.byName.get(handler);
    if (runtime) return runtime;
    throw new BerthError('failed_precondition', `runtime handler ${handler} is not configured any more`, {
      hint: `put [runtimes.${handler}] back into the configuration`,
    });
  }

  /** Forgets a container with its runtime; nothing to do when berth made it, or when nobody knows the runtime any more. */
  async delete(handler: string, id: string): Promise<void> {
    await this.byName.get(handler)?.delete(id);
  }
}

/** What a bundle cannot say, or this way of running it cannot do, is refused before anything is done. */
export async function refuseForRuntime(runtime: OciRuntime, config: ContainerConfig, spec: Spec): Promise<void> {
  const refuse = (what: string) => new BerthError('unimplemented', `runtime handler ${runtime.name}: ${what}`);
  if (config.tty) throw refuse('tty: containers with a terminal');
  if (spec.mounts.some(({ propagation }) => propagation === 'shared')) {
    throw refuse('mounts.propagation: its containers cannot mount for the host');
  }
  const covered = spec.mounts.find(({ image, destination }) => image && spec.mounts.some(isAbove(destination)));
  if (covered) throw refuse(`mounts.image at ${covered.destination}: it lies in another volume`);
  const needsRecursive = spec.mounts.some(({ recursiveOptions }) => recursiveOptions);
  if (needsRecursive && !(await runtime.features()).recursiveReadOnlyMounts) {
    throw refuse('mounts.recursive_read_only: it does not say that it can');
  }
}

/** What a runtime mounts there covers what is in the root already. */
function isAbove(path: string): (mount: MountSpec) => boolean {
  return ({ destination }) => path.startsWith(`${destination}/`);
}

/** Once the monitor knows who the process shall be: writes the bundle and lets the runtime make the container of it. Returns its HOME. */
export async function provideBundle(
  ctx: Context,
  runtime: OciRuntime,
  monitor: Monitor,
  parts: { spec: Spec; stateDir: string; rootPath: string; annotations: Readonly<Record<string, string>> },
): Promise<string> {
  const { spec, stateDir, rootPath, annotations } = parts;
  const user = await ctx.race(monitor.prepared);
  const dir = runtime.bundleDir(stateDir);
  const text = bundleJson(spec, rootPath, user, runtime.annotationsOf(annotations));
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeFile(join(dir, 'config.json'), text, { mode: 0o600 });
  monitor.proceed();
  return user.home;
}
