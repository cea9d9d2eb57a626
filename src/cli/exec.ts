import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, type ExecRequest, type ExecResponse, type ExecStart } from '../cri/generated/berth/v1/berth';
import type { Conversation, Daemon } from './client';
import { write } from './output';
import { collect } from './parse/collect';
import { ownEnviron, parseEnv } from './parse/env';
import { forwardSignals } from './signals';
import { sizeOf, takeTerminal } from './terminal';

interface Flags {
  interactive: boolean;
  tty: boolean;
  env: string[];
  envFile: string[];
  workdir: string;
  user: string;
}

type Talk = Conversation<ExecRequest, ExecResponse>;

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER COMMAND [ARG…]')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .argument('<command...>', 'with its arguments')
    .passThroughOptions()
    .option('-i, --interactive', 'hand on stdin', false)
    .option('-t, --tty', 'give the command a terminal', false)
    .option('-e, --env <key[=value]>', 'set a variable, or hand on the one that is set here', collect, [])
    .option('--env-file <file>', 'set the variables of a file, KEY=VALUE a line', collect, [])
    .option('-w, --workdir <directory>', 'the directory that the command starts in', '')
    .option('-u, --user <user[:group]>', 'whom the command runs as, by name or number', '')
    .addHelpText('after', '\nExample: berth exec -it web sh\n         echo hello | berth exec -i web cat')
    .action(async (container: string, args: string[], flags: Flags) => {
      process.exitCode = await exec(daemon(), toStart(container, args, flags));
    });
}

function toStart(container: string, command: string[], flags: Flags): ExecStart {
  return {
    container,
    command,
    env: parseEnv(flags.env, flags.envFile, ownEnviron()),
    workingDir: flags.workdir,
    user: flags.user,
    tty: flags.tty,
    stdin: flags.interactive,
    size: flags.tty ? sizeOf(process.stdout) : undefined,
  };
}

async function exec(daemon: Daemon, start: ExecStart): Promise<number> {
  if (start.tty && start.stdin && !process.stdin.isTTY) {
    throw new BerthError('failed_precondition', 'stdin is not a terminal', { hint: 'leave out -t' });
  }
  const talk = daemon.converse(BerthService.exec);
  void talk.say({ start });
  using _terminal = start.tty ? takeTerminal(start.stdin, resize => void talk.say({ resize })) : undefined;
  using _signals = forwardSignals(signal => talk.say({ signal }));
  if (start.stdin) void sendStdin(talk);
  return await copyOutput(talk);
}

/** Reads no faster than the command does: the next chunk is asked for when the last one has gone. */
async function sendStdin(talk: Talk): Promise<void> {
  try {
    for await (const chunk of process.stdin) await talk.say({ stdin: chunk as Buffer });
  } catch {
    // A stdin that cannot be read has come to its end.
  }
  await talk.say({ stdinClose: {} });
}

async function copyOutput(talk: Talk): Promise<number> {
  let end: number | undefined;
  for await (const { stdout, stderr, exitCode } of talk) {
    if (stdout) await write(process.stdout, stdout);
    if (stderr) await write(process.stderr, stderr);
    end = exitCode;
  }
  if (end !== undefined) return end;
  throw new BerthError('internal', 'the daemon ended the call without an exit code');
}
