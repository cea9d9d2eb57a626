import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BerthError, errnoOf, messageOf } from '../../base/errors';
import type { Lease } from '../bridge/lease';
import { parseResult, type CniResult } from './result';

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC';

/** Runs a program to its end; the daemon's own way, handed in. */
export type RunProgram = (
  path: string,
  args: readonly string[],
  options: { input: string; env: Readonly<Record<string, string>>; timeoutMs: number; outputBytesMax: number },
) => Promise<{ status: number | undefined; stdout: string; stderr: string; timedOut: boolean; tooLong: boolean }>;

/** A plugin that is part of the daemon: called as others are, by `type`. Its errors say plugin and network themselves. */
export interface BuiltInPlugin {
  run(command: CniCommand, network: string, config: object, attachment?: Attachment): Promise<CniResult | undefined>;
}

/** How plugins are run on this node. */
export interface PluginHost {
  readonly run: RunProgram;
  /** By type; one of these names is never looked for elsewhere. */
  readonly builtIn: ReadonlyMap<string, BuiltInPlugin>;
  /** Where they lie, first match wins. */
  readonly binDirs: readonly string[];
  readonly timeoutMs: number;
}

/** Which attachment a call is about; none for STATUS and GC. */
export interface Attachment {
  readonly containerId: string;
  /** Empty when the namespace is gone: only DEL can be asked then. */
  readonly netns: string;
  readonly ifname: string;
  /** CNI_ARGS, already joined. */
  readonly args: string;
  /** Addresses that the pod's record holds, for plugins of the daemon's own. */
  readonly leases?: readonly Lease[] | undefined;
}

const OUTPUT_BYTES_MAX = 1024 * 1024;

const errorShape = z.looseObject({
  code: z.number().int(),
  msg: z.string(),
  details: z.string().optional(),
});

/** Runs one plugin once. Resolves with its result, if it has one; an error says plugin, command and all that it said. */
export async function runPlugin(
  host: PluginHost,
  command: CniCommand,
  network: string,
  type: string,
  config: object,
  attachment?: Attachment,
): Promise<CniResult | undefined> {
  const own = host.builtIn.get(type);
  if (own) return own.run(command, network, config, attachment);
  const what = `CNI ${command} of network ${JSON.stringify(network)}: plugin ${type}`;
  const path = await findPlugin(host, type, what);
  const outcome = await host
    .run(path, [], {
      input: JSON.stringify(config),
      env: environment(host, command, attachment),
      timeoutMs: host.timeoutMs,
      outputBytesMax: OUTPUT_BYTES_MAX,
    })
    .catch((error: unknown) => {
      throw new BerthError('failed_precondition', `${what} (${path}) does not start: ${messageOf(error)}`, {
        cause: error,
        hint: 'is it a program for this machine?',
      });
    });
  if (outcome.timedOut)
    throw new BerthError('deadline_exceeded', `${what} did not end within ${host.timeoutMs / 1000} s`, {
      hint: 'see network.cni_timeout_seconds, and what the plugin waits for',
    });
  if (outcome.tooLong) throw new BerthError('internal', `${what} wrote more than ${OUTPUT_BYTES_MAX} bytes`);
  if (outcome.status !== 0) throw refusal(what, outcome);
  return outcome.stdout.trim() === '' ? undefined : parseResult(outcome.stdout);
}

/** Where a plugin's program is; `what` begins the sentence when it is nowhere. */
export async function findPlugin({ binDirs }: PluginHost, type: string, what: string): Promise<string> {
  for (const dir of binDirs) {
    const path = join(dir, type);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch (error) {
      if (errnoOf(error) === 'EACCES')
        throw new BerthError('failed_precondition', `${what}: ${path} is not executable`, { cause: error });
    }
  }
  throw new BerthError('failed_precondition', `${what} is in none of ${binDirs.join(', ')}`, {
    hint: 'install it there, or name its directory in network.cni_bin_dirs',
  });
}

function environment({ binDirs }: PluginHost, command: CniCommand, attachment?: Attachment): Record<string, string> {
  return {
    // Plugins start iptables, nft and the like by name.
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: command,
    CNI_PATH: binDirs.join(':'),
    ...(attachment && {
      CNI_CONTAINERID: attachment.containerId,
      CNI_NETNS: attachment.netns,
      CNI_IFNAME: attachment.ifname,
      CNI_ARGS: attachment.args,
    }),
  };
}

/** A plugin's own words, whole: code, message and details, or what it wrote instead of them. */
function refusal(what: string, outcome: { status: number | undefined; stdout: string; stderr: string }): BerthError {
  const parsed = errorShape.safeParse(parseResult(outcome.stdout));
  const said = parsed.success
    ? `${parsed.data.msg}${parsed.data.details ? `: ${parsed.data.details}` : ''} (code ${parsed.data.code})`
    : (outcome.stdout.trim() || outcome.stderr.trim() || 'it said nothing').slice(0, 4096);
  const how = outcome.status === undefined ? 'was killed' : 'failed';
  return new BerthError(
    parsed.success && parsed.data.code === TRY_AGAIN ? 'unavailable' : 'failed_precondition',
    `${what} ${how}: ${said.replace(/\s*\n\s*/g, '; ')}`,
  );
}

/** Of the specification's error codes. */
const TRY_AGAIN = 11;
