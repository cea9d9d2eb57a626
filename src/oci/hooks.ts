import { BerthError } from '../base/errors';
import type { InnerOp } from '../native/plan-ops';
import type { HookName, HookSpec, HooksSpec } from './spec';

/** What hooks are told of their container. */
export interface HookState {
  id: string;
  /** The directory with its config.json. */
  bundle: string;
  annotations: Readonly<Record<string, string>>;
}

/** What hooks in a user namespace see of the bundle and the root: these paths, in a directory that covers another. */
export interface HookView {
  cover: string;
  config: Buffer;
}

/** Statuses as the OCI runtime spec has them, by when a hook runs. */
const STATUS: Readonly<Record<HookName, string>> = {
  prestart: 'creating',
  createRuntime: 'creating',
  createContainer: 'creating',
  startContainer: 'created',
  poststart: 'running',
  poststop: 'stopped',
};

/** The container's state as a hook reads it from stdin (runtime-spec 1.2, "State"); of one that has stopped there is no pid. */
export function stateText(name: HookName, state: HookState, pid?: number): string {
  if (pid === undefined) return JSON.stringify(known(name, state));
  const [before, after] = stateAround(name, state);
  return `${before}${pid}${after}`;
}

function known(name: HookName, { id, bundle, annotations }: HookState) {
  return { ociVersion: '1.0.2', id, status: STATUS[name], bundle, annotations };
}

function stateAround(name: HookName, state: HookState): [before: string, after: string] {
  return [`${JSON.stringify(known(name, state)).slice(0, -1)},"pid":`, '}'];
}

/** Hooks that run before the root is entered: where the daemon runs its own, and those of createContainer. */
export function createHookOps(hooks: HooksSpec | undefined, state: HookState | undefined): InnerOp[] {
  return [
    ...(hasHostHooks(hooks) ? [{ op: 'AWAIT_HOOKS' } as const] : []),
    ...hookOps('createContainer', 'HOOK', hooks, state),
  ];
}

/** Hooks that run as the container's process will, before it. */
export function startHookOps(hooks: HooksSpec | undefined, state: HookState | undefined): InnerOp[] {
  return hookOps('startContainer', 'START_HOOK', hooks, state);
}

/** Those that the daemon runs while the container is made. */
export function hasHostHooks(hooks: HooksSpec | undefined): boolean {
  return hooks?.prestart !== undefined || hooks?.createRuntime !== undefined;
}

function hookOps(
  name: HookName,
  op: 'HOOK' | 'START_HOOK',
  hooks: HooksSpec | undefined,
  state: HookState | undefined,
): InnerOp[] {
  const all = hooks?.[name] ?? [];
  if (all.length === 0) return [];
  if (!state) throw new BerthError('internal', 'a launch plan with hooks and nothing to tell them');
  const [before, after] = stateAround(name, state);
  return all.map(({ path, args, env, timeout = 0 }: HookSpec) => ({
    op,
    path,
    argv: args.length > 0 ? args : [path],
    envp: env,
    before,
    after,
    timeout: timeout * 1000,
  }));
}
