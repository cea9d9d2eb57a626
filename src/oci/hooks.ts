import { BerthError } from '../base/errors';
import type { InnerOp } from '../native/plan-ops';
import type { HookSpec, Spec } from './spec';

/** What hooks are told of their container. */
export interface HookState {
  id: string;
  /** The directory with its config.json. */
  bundle: string;
  annotations: Readonly<Record<string, string>>;
}

/** The container's state as a hook reads it from stdin (runtime-spec 1.2, "State"), around the number of its process. */
export function stateAround({ id, bundle, annotations }: HookState): [before: string, after: string] {
  const known = JSON.stringify({ ociVersion: '1.0.2', id, status: 'creating', bundle, annotations });
  return [`${known.slice(0, -1)},"pid":`, '}'];
}

/** createContainer hooks: in the container's namespaces, before its root is entered. */
export function hookOps(hooks: readonly HookSpec[], state: HookState | undefined): InnerOp[] {
  if (hooks.length === 0) return [];
  if (!state) throw new BerthError('internal', 'a launch plan with hooks and nothing to tell them');
  const [before, after] = stateAround(state);
  return hooks.map(({ path, args, env, timeout = 0 }) => ({
    op: 'HOOK',
    path,
    argv: args.length > 0 ? args : [path],
    envp: env,
    before,
    after,
    timeout: timeout * 1000,
  }));
}

/** Throws `unimplemented` for hooks that berth itself does not run; other runtimes get them all. */
export function refuseOtherHooks({ hooks = {}, linux }: Spec): void {
  const refuse = (what: string) =>
    new BerthError('unimplemented', `CDI: this version of berth runs no ${what}`, {
      hint: 'generate the spec without it where the device can do without, or use the runtime handler of another OCI runtime',
    });
  for (const name of ['startContainer', 'poststart', 'poststop'] as const) {
    const [hook] = hooks[name] ?? [];
    if (hook) throw refuse(`${name} hooks, and the device has ${hook.path}`);
  }
  const [first] = Object.values(hooks).flat();
  if (first && linux.idMappings) throw refuse(`hooks in a pod with a user namespace, and the device has ${first.path}`);
}
