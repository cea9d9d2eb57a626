import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, PullPolicy, type Created, type CreateRequest } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { progressDisplay } from './format/progress';
import { collect } from './parse/collect';
import { ownEnviron, parseEnv } from './parse/env';
import { parseLabels } from './parse/labels';
import { parseMount } from './parse/mount';

/** What `run` and `create` have in common. */
export interface CreateFlags {
  name: string;
  rm: boolean;
  env: string[];
  envFile: string[];
  workdir: string;
  user: string;
  volume: string[];
  entrypoint?: string;
  network: string;
  hostname: string;
  label: string[];
  pull: PullPolicy;
  quiet: boolean;
  interactive: boolean;
  tty: boolean;
}

/** The arguments and flags that say what the container is. */
export function addCreateFlags(command: Command): Command {
  return command
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
    .option('-v, --volume <source:target[:ro]>', 'mount a path of the node', collect, [])
    .option('--entrypoint <command>', "instead of the image's entrypoint")
    .option('--network <mode>', 'none or host', '')
    .option('--hostname <name>', "the container's host name", '')
    .option('-l, --label <key[=value]>', 'set a label', collect, [])
    .option(
      '--pull <policy>',
      'fetch the image: always, never, or when it is missing (default: missing)',
      parsePullPolicy,
      PullPolicy.PULL_POLICY_MISSING,
    )
    .option('-q, --quiet', 'no progress of the pull', false)
    .option('-i, --interactive', 'hand on stdin', false)
    .option('-t, --tty', 'give the container a terminal; Ctrl-P Ctrl-Q leaves it', false);
}

/** `stdinOnce`: the first client that leaves ends the container's stdin. */
export function createRequest(image: string, args: string[], flags: CreateFlags, stdinOnce: boolean): CreateRequest {
  return {
    image,
    pull: flags.pull,
    name: flags.name,
    entrypoint: flags.entrypoint,
    args,
    env: parseEnv(flags.env, flags.envFile, ownEnviron()),
    workingDir: flags.workdir,
    user: flags.user,
    mounts: flags.volume.map(parseMount),
    hostname: flags.hostname,
    network: flags.network,
    labels: parseLabels(flags.label),
    autoRemove: flags.rm,
    tty: flags.tty,
    stdin: flags.interactive,
    stdinOnce: flags.interactive && stdinOnce,
  };
}

/** Stdout is the container's, or the id's, so that the pull is shown on stderr. */
export async function createContainer(daemon: Daemon, request: CreateRequest, quiet: boolean): Promise<Created> {
  const display = progressDisplay(process.stderr, quiet);
  let end: Created | undefined;
  for await (const { progress, created } of daemon.open(BerthService.create, request)) {
    if (progress) display.update(progress);
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
