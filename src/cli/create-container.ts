import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import type { Command } from 'commander';
import { BerthError, messageOf } from '../base/errors';
import {
  BerthService,
  PullPolicy,
  type Created,
  type CreateRequest,
  type PublishedPort,
} from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { progressDisplay } from './format/progress';
import { write } from './output';
import { collect } from './parse/collect';
import { ownEnviron, parseEnv } from './parse/env';
import { parseLabelFiles, parseLabels } from './parse/labels';
import { parseMount, parseMountFlag, sharedLabels } from './parse/mount';
import { parsePublish } from './parse/publish';
import { addOptionFlags, runOptions, type OptionFlags } from './run-options';

/** What `run` and `create` have in common. */
export interface CreateFlags extends OptionFlags {
  mount: string[];
  labelFile: string[];
  cidfile?: string;
  name: string;
  rm: boolean;
  env: string[];
  envFile: string[];
  workdir: string;
  user: string;
  volume: string[];
  entrypoint?: string;
  network: string;
  publish: PublishedPort[];
  publishAll: boolean;
  hostname: string;
  label: string[];
  pull: PullPolicy;
  quiet: boolean;
  interactive: boolean;
  tty: boolean;
}

/** The arguments and flags that say what the container is. */
export function addCreateFlags(command: Command): Command {
  const named = command
    .usage('[OPTIONS] IMAGE [COMMAND] [ARG…]')
    .argument('<image>', 'a reference, an id, or the first digits of one')
    .argument('[command...]', "instead of the image's own, with its arguments")
    .passThroughOptions()
    .option('--name <name>', 'the name of the container (default: made up)', '')
    .option('--rm', 'remove the container when it has exited', false)
    .option('-e, --env <key[=value]>', 'set a variable, or hand on the one that is set here', collect, [])
    .option('--env-file <file>', 'set the variables of a file, KEY=VALUE a line', collect, [])
    .option('-w, --workdir <directory>', 'the directory that the command starts in', '')
    .option('-u, --user <user[:group]>', 'whom the command runs as, by name or number', '')
    .option('-v, --volume <source:target[:ro]>', 'mount a path of the node, or a volume by its name', collect, [])
    .option('--mount <mount>', 'type=bind|volume|tmpfs,source=…,target=…,readonly', collect, [])
    .option('--entrypoint <command>', "instead of the image's entrypoint")
    .option('--network <mode>', "bridge, none or host (default: bridge, the node's network for containers)", '')
    .option(
      '-p, --publish <[[ip:]port:]port[/protocol]>',
      "let a port of the node lead to one of the container's; ranges of ports, too",
      (text: string, before: PublishedPort[]) => [...before, ...parsePublish(text)],
      [],
    )
    .option('-P, --publish-all', 'the same for all ports that the image exposes, from any that are free', false)
    .option('-h, --hostname <name>', "the container's host name", '')
    .option('-l, --label <key[=value]>', 'set a label', collect, [])
    .option('--label-file <file>', 'set the labels of a file, KEY=VALUE a line', collect, [])
    .option('--cidfile <file>', 'write the id into a file, which must not be there')
    .option(
      '--pull <policy>',
      'fetch the image: always, never, or when it is missing (default: missing)',
      parsePullPolicy,
      PullPolicy.PULL_POLICY_MISSING,
    )
    .option('-q, --quiet', 'no progress of the pull', false)
    .option('-i, --interactive', 'hand on stdin', false)
    .option('-t, --tty', 'give the container a terminal; Ctrl-P Ctrl-Q leaves it', false)
    .helpOption('--help', 'show this help');
  return addOptionFlags(named);
}

/** `stdinOnce`: the first client that leaves ends the container's stdin. */
export function createRequest(image: string, args: string[], flags: CreateFlags, stdinOnce: boolean): CreateRequest {
  const asked = flags.mount.map(parseMountFlag);
  const options = runOptions(flags);
  const tmpfs = asked.flatMap(one => ('tmpfs' in one ? [one.tmpfs] : []));
  return {
    image,
    pull: flags.pull,
    name: flags.name,
    entrypoint: flags.entrypoint,
    args,
    env: parseEnv(flags.env, flags.envFile, ownEnviron()),
    workingDir: flags.workdir,
    user: flags.user,
    mounts: [...flags.volume.map(parseMount), ...asked.flatMap(one => ('mount' in one ? [one.mount] : []))],
    hostname: flags.hostname,
    network: flags.network,
    ports: flags.publish,
    publishAll: flags.publishAll,
    labels: { ...parseLabelFiles(flags.labelFile), ...parseLabels(flags.label) },
    autoRemove: flags.rm,
    tty: flags.tty,
    stdin: flags.interactive,
    stdinOnce: flags.interactive && stdinOnce,
    options: { ...options, tmpfs: [...options.tmpfs, ...tmpfs], sharedLabels: sharedLabels(flags.volume) },
  };
}

/** Stdout is the container's, or the id's, so that the pull is shown on stderr. */
export async function createContainer(daemon: Daemon, request: CreateRequest, flags: CreateFlags): Promise<Created> {
  const file = flags.cidfile === undefined ? undefined : openCidfile(flags.cidfile);
  try {
    const created = await create(daemon, request, flags.quiet);
    if (file !== undefined) writeSync(file, created.id);
    return created;
  } catch (error) {
    if (flags.cidfile !== undefined) rmSync(flags.cidfile, { force: true });
    throw error;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Another container's id is not overwritten. */
function openCidfile(path: string): number {
  try {
    return openSync(path, 'wx', 0o644);
  } catch (error) {
    throw new BerthError('failed_precondition', `--cidfile ${path} cannot be made: ${messageOf(error)}`, {
      cause: error,
      hint: 'a file that is there is not overwritten',
    });
  }
}

async function create(daemon: Daemon, request: CreateRequest, quiet: boolean): Promise<Created> {
  const display = progressDisplay(process.stderr, quiet);
  let end: Created | undefined;
  for await (const { progress, created, warning } of daemon.open(BerthService.create, request)) {
    if (progress) display.update(progress);
    if (warning !== undefined) await write(process.stderr, `WARNING: ${warning}\n`);
    end = created;
  }
  if (end) return end;
  throw new BerthError('internal', 'the daemon ended the call without saying which container it made');
}

const policies: Readonly<Record<string, PullPolicy>> = {
  missing: PullPolicy.PULL_POLICY_MISSING,
  always: PullPolicy.PULL_POLICY_ALWAYS,
  never: PullPolicy.PULL_POLICY_NEVER,
};

function parsePullPolicy(text: string): PullPolicy {
  const policy = policies[text];
  if (policy !== undefined) return policy;
  throw new BerthError('invalid_argument', `--pull ${text} is not known`, { hint: 'it is missing, always or never' });
}
