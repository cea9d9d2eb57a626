import { BerthError, messageOf } from '../base/errors';
import { runProgram } from '../native/run-program';

/** A program of the host's, as the OCI runtime spec has it. */
export interface Hook {
  path: string;
  args: readonly string[];
  env: readonly string[];
  /** Seconds. */
  timeout?: number;
}

/** For hooks that name no time of their own. */
const DEFAULT_TIMEOUT_MS = 60_000;

const OUTPUT_BYTES_MAX = 1024 * 1024;

/** Of its first line, in an error. */
const SAID_MAX = 500;

/**
 * Runs a hook in the host's namespaces; `state` is its stdin, and `signal` kills it, with what it has started. Throws
 * `failed_precondition` with what it said.
 */
export async function runHook(name: string, hook: Hook, state: string, signal?: AbortSignal): Promise<void> {
  const failure = (why: string, cause?: unknown) =>
    new BerthError('failed_precondition', `${name} hook ${hook.path}: ${why}`, {
      cause,
      hint: "it comes with a device of the container's: see its CDI spec",
    });
  const outcome = await runProgram(hook.path, hook.args.slice(1), {
    input: state,
    ...(hook.args[0] === undefined ? {} : { argv0: hook.args[0] }),
    ...(signal ? { signal } : {}),
    env: Object.fromEntries(hook.env.map(line => [line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)])),
    timeoutMs: hook.timeout === undefined ? DEFAULT_TIMEOUT_MS : hook.timeout * 1000,
    outputBytesMax: OUTPUT_BYTES_MAX,
  }).catch((error: unknown) => {
    throw failure(messageOf(error), error);
  });
  if (outcome.timedOut) throw failure('it did not end in time');
  if (outcome.tooLong) throw failure('it said too much');
  if (outcome.status === 0) return;
  const said = (outcome.stderr.trim() || outcome.stdout.trim()).split('\n', 1)[0]?.slice(0, SAID_MAX);
  const how = outcome.status === undefined ? 'it was killed' : `it ended with ${outcome.status}`;
  throw failure(said ? `${how}: ${said}` : how);
}
