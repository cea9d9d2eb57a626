import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, PullPolicy, type Created, type CreateRequest } from '../cri/generated/berth/v1/berth';
import { attach } from './attach';
import type { Daemon } from './client';
import { collect } from './parse/collect';
import { progressDisplay } from './format/progress';
import { copyLogs } from './logs';
import { print } from './output';
import { ownEnviron, parseEnv } from './parse/env';
import { parseLabels } from './parse/labels';
import { parseMount } from './parse/mount';
import { forwardSignals } from './signals';

interface Flags {
  detach: boolean;
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

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE [COMMAND] [ARG…]')
    .argument('<image>', 'a reference, an id, or the first digits of one')
    .argument('[command...]', "instead of the image's own, with its arguments")
    .passThroughOptions()
    .option('-d, --detach', 'print the id and return while it runs', false)
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
    .option('-t, --tty', 'give the container a terminal; Ctrl-P Ctrl-Q leaves it', false)
    .addHelpText('after', '\nExample: berth run --rm -v ./site:/site:ro -e LANG=C alpine ls /site')
    .action(async (image: string, args: string[], flags: Flags) => {
      await run(daemon(), image, args, flags);
    });
}

async function run(daemon: Daemon, image: string, args: string[], flags: Flags): Promise<void> {
  if (flags.tty && flags.interactive && !flags.detach && !process.stdin.isTTY) {
    throw new BerthError('failed_precondition', 'stdin is not a terminal', { hint: 'leave out -t' });
  }
  const { id } = await create(daemon, toRequest(image, args, flags), flags.quiet);
  if (!flags.detach) {
    const start = () => daemon.ask(BerthService.start, { container: id });
    const isAttached = flags.interactive || flags.tty;
    process.exitCode = isAttached
      ? await attach(daemon, id, flags.interactive, start)
      : await startInForeground(daemon, id);
    return;
  }
  await daemon.ask(BerthService.start, { container: id });
  await print(`${id}\n`);
}

function toRequest(image: string, args: string[], flags: Flags): CreateRequest {
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
    stdinOnce: flags.interactive && !flags.detach,
  };
}

/** Stdout is the container's, or the id's, so that the pull is shown on stderr. */
async function create(daemon: Daemon, request: CreateRequest, quiet: boolean): Promise<Created> {
  const display = progressDisplay(process.stderr, quiet);
  let end: Created | undefined;
  for await (const { progress, created } of daemon.open(BerthService.create, request)) {
    if (progress) display.update(progress);
    end = created;
  }
  if (end) return end;
  throw new BerthError('internal', 'the daemon ended the call without saying which container it made');
}

/** Starts a container that is watched already, so that nothing of it is missed, and returns its exit code. */
async function startInForeground(daemon: Daemon, container: string): Promise<number> {
  const logs = daemon.open(BerthService.logs, { container, follow: true, sinceNs: 0n });
  const exit = daemon.begin(BerthService.wait, { container });
  const started = Promise.all([logs.watching, exit.watching]).then(() => daemon.ask(BerthService.start, { container }));
  using _signals = forwardSignals(async signal => {
    await started;
    await daemon.ask(BerthService.kill, { container, signal });
  });
  const ended = Promise.all([exit.reply, copyLogs(logs, false)]);
  // When the start fails these two fail after it, and say less.
  ended.catch(() => undefined);
  await started;
  const [{ exitCode }] = await ended;
  return exitCode;
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
