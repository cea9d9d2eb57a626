import { join } from 'node:path';
import type { Context } from '../base/context';
import { refuseOtherHooks, stateAround, type HookState } from '../oci/hooks';
import { bundleJson } from '../oci/oci-json';
import type { Spec } from '../oci/spec';
import { makeFiles, mkdirs } from '../process/files';
import { runHook } from '../process/hooks';

/**
 * Writes the bundle from which hooks learn about their container. Undefined for a container without hooks. Its user is in
 * there only where the request has a number: names are looked up in the image, later.
 */
export async function prepareHooks(
  spec: Spec,
  parts: { id: string; stateDir: string; rootPath: string; annotations: Readonly<Record<string, string>> },
): Promise<HookState | undefined> {
  if (!spec.hooks) return undefined;
  refuseOtherHooks(spec);
  const { id, stateDir, rootPath, annotations } = parts;
  const { user, gid = 0, supplementalGroups: groups } = spec.process.user;
  const uid = /^\d+$/.test(user) ? Number(user) : 0;
  const bundle = join(stateDir, 'bundle');
  const data = bundleJson(spec, rootPath, { uid, gid, groups, home: '' }, annotations);
  await makeFiles([
    ...mkdirs([bundle], 0o700),
    { call: 'create', path: join(bundle, 'config.json'), data, mode: 0o600 },
  ]);
  return { id, bundle, annotations };
}

/** prestart and createRuntime hooks: on the host, once the container's process is there. */
export async function runHostHooks(ctx: Context, { hooks = {} }: Spec, state: HookState, pid: number): Promise<void> {
  const [before, after] = stateAround(state);
  for (const name of ['prestart', 'createRuntime'] as const) {
    for (const hook of hooks[name] ?? []) {
      ctx.stage(`run the ${name} hook ${hook.path}`);
      await ctx.race(runHook(name, hook, `${before}${pid}${after}`));
    }
  }
}
