import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { messageOf } from '../base/errors';
import { hasHostHooks, stateText, type HookState, type HookView } from '../oci/hooks';
import { bundleJson } from '../oci/oci-json';
import type { HookSpec, Spec } from '../oci/spec';
import { makeFiles, mkdirs } from '../process/files';
import { runHook } from '../process/hooks';
import type { Monitor } from '../process/monitor';
import type { Container, ContainerRecord, Containers } from './containers';

/** What a plan with hooks needs to know. */
interface PreparedHooks {
  state: HookState;
  /** Of a container in a user namespace. */
  view?: HookView;
}

const BUNDLE = 'bundle';

/**
 * Writes the bundle from which hooks learn about their container. Undefined for a container without hooks. Its user is in
 * there only where the request has a number: names are looked up in the image, later.
 */
export async function prepareHooks(
  spec: Spec,
  parts: { id: string; stateDir: string; rootPath: string; annotations: Readonly<Record<string, string>> },
): Promise<PreparedHooks | undefined> {
  if (!spec.hooks) return undefined;
  const { id, stateDir, rootPath, annotations } = parts;
  const { user, gid = 0, supplementalGroups: groups } = spec.process.user;
  const uid = /^\d+$/.test(user) ? Number(user) : 0;
  const bundle = join(stateDir, BUNDLE);
  const data = bundleJson(spec, rootPath, { uid, gid, groups, home: '' }, annotations);
  await makeFiles([
    ...mkdirs([bundle], 0o700),
    { call: 'create', path: join(bundle, 'config.json'), data, mode: 0o600 },
  ]);
  const state = { id, bundle, annotations };
  if (!spec.linux.idMappings || !spec.hooks.createContainer) return { state };
  return { state, view: { cover: await firstUnsearchable(bundle), config: Buffer.from(data) } };
}

/** The topmost directory on the way to `path` that only its owner and group may go through; `path` itself if there is none. */
async function firstUnsearchable(path: string): Promise<string> {
  const parts = path.split('/').slice(1);
  for (const i of parts.keys()) {
    const directory = `/${parts.slice(0, i + 1).join('/')}`;
    if (((await stat(directory)).mode & 0o001) === 0) return directory;
  }
  return path;
}

/** Of a spec's hooks those that run later, for the record. */
export function laterHooks({ hooks }: Spec): Pick<ContainerRecord, 'hooks'> {
  if (!hooks?.poststart && !hooks?.poststop) return {};
  const { poststart, poststop } = hooks;
  return { hooks: { ...(poststart ? { poststart } : {}), ...(poststop ? { poststop } : {}) } };
}

/** prestart and createRuntime hooks: on the host, once all is mounted and before the root is entered. */
export async function runHostHooks(ctx: Context, { hooks }: Spec, state: HookState, monitor: Monitor): Promise<void> {
  if (!hasHostHooks(hooks)) return;
  const pid = await ctx.race(monitor.hooksAwaited);
  for (const name of ['prestart', 'createRuntime'] as const) {
    for (const hook of hooks?.[name] ?? []) {
      ctx.stage(`run the ${name} hook ${hook.path}`);
      await ctx.race(runHook(name, hook, stateText(name, state, pid), ctx.signal));
    }
  }
  monitor.proceed();
}

/** poststart hooks: on the host, once the command runs. One that fails is a warning. */
export async function runPoststart(containers: Containers, container: Container): Promise<void> {
  const { hooks, process } = container.record;
  if (!hooks?.poststart) return;
  await runLater(containers, container, 'poststart', hooks.poststart, process?.pid);
}

/**
 * poststop hooks: on the host, once nothing of the container runs any more; once for each run, also by the next daemon.
 * After a reboot there is no bundle and nothing that they could undo. One that fails is a warning. Never throws.
 */
export function runPoststop(containers: Containers, container: Container): Promise<void> {
  const poststop = container.record.hooks?.poststop;
  if (!poststop) return Promise.resolve();
  container.afterwards ??= (async () => {
    await container.starting;
    if (await isThere(stateOf(containers, container).bundle))
      await runLater(containers, container, 'poststop', poststop, undefined);
    await containers.update(container, { hooks: undefined });
  })()
    .catch((error: unknown) => containers.log.warn(`could not record that hooks have run: ${messageOf(error)}`))
    .finally(() => delete container.afterwards);
  return container.afterwards;
}

async function runLater(
  containers: Containers,
  container: Container,
  name: 'poststart' | 'poststop',
  hooks: readonly HookSpec[],
  pid: number | undefined,
): Promise<void> {
  const state = stateText(name, stateOf(containers, container), pid);
  for (const hook of hooks) {
    await runHook(name, hook, state).catch((error: unknown) =>
      containers.log.warn(messageOf(error), { container: container.record.id }),
    );
  }
}

function stateOf(containers: Containers, { record, config }: Container): HookState {
  const pod = containers.sandboxes.find(record.sandboxId)?.config.annotations ?? {};
  const { stateDir } = containers.paths(record.id);
  return { id: record.id, bundle: join(stateDir, BUNDLE), annotations: { ...pod, ...config.annotations } };
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
