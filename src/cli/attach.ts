import type { Command } from 'commander';
import { BerthService, type AttachRequest, type AttachResponse } from '../cri/generated/berth/v1/berth';
import { BerthError } from '../base/errors';
import type { Conversation, Daemon } from './client';
import { DetachKeys } from './detach-keys';
import { write } from './output';
import { forwardSignals } from './signals';
import { sizeOf, takeTerminal } from './terminal';

export function define(command: Command, daemon: () => Daemon): void {
  addAttachFlags(command)
    .usage('[OPTIONS] CONTAINER')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .option('--no-stdin', 'only watch')
    .addHelpText(
      'after',
      '\nWhat it wrote before is in its log. At a terminal, Ctrl-P Ctrl-Q leaves, and the container runs on.' +
        '\nExample: berth attach web',
    )
    .action(async (container: string, { stdin, ...how }: { stdin: boolean } & AttachFlags) => {
      process.exitCode = await attach(daemon(), container, stdin, how);
    });
}

/** How a person sits before a container. */
export interface AttachFlags {
  sigProxy: boolean;
  detachKeys: string;
}

/** The flags of everything that attaches. */
export function addAttachFlags(command: Command): Command {
  return command
    .option('--sig-proxy <bool>', 'hand signals on to the container (default: true)', text => text !== 'false', true)
    .option('--detach-keys <keys>', 'what leaves the terminal (default: ctrl-p,ctrl-q)', 'ctrl-p,ctrl-q');
}

type Talk = Conversation<AttachRequest, AttachResponse>;

/**
 * Puts this process's stdio before a container until that has exited; its exit code, or 0 after the detach keys. `start`
 * is called once everything that the container writes will come here.
 */
export async function attach(
  daemon: Daemon,
  container: string,
  stdin: boolean,
  { sigProxy, detachKeys }: AttachFlags,
  start: () => Promise<unknown> = () => Promise.resolve(),
): Promise<number> {
  const keys = new DetachKeys(detachKeys);
  const talk = daemon.converse(BerthService.attach);
  void talk.say({ start: { container, stdin } });
  const starting = talk.watching.then(start);
  starting.catch(() => talk.cancel());
  const forward = async (signal: string) => {
    await starting;
    await daemon.ask(BerthService.kill, { container, signal });
  };
  using _signals = sigProxy ? forwardSignals(forward) : undefined;
  let terminal: Disposable | undefined;
  let hasLeft = false;
  const leave = () => {
    hasLeft = true;
    talk.cancel();
  };
  try {
    return await copyOutput(talk, tty => {
      if (tty) terminal = takeTerminal(stdin && process.stdin.isTTY, resize => void talk.say({ resize }));
      const resize = sizeOf(process.stdout);
      if (tty && resize) void talk.say({ resize });
      if (stdin) void sendStdin(talk, tty && process.stdin.isTTY ? keys : undefined, leave);
    });
  } catch (error) {
    if (hasLeft) return 0;
    await starting; // its failure is why
    throw error;
  } finally {
    terminal?.[Symbol.dispose]();
  }
}

async function copyOutput(talk: Talk, onAttached: (tty: boolean) => void): Promise<number> {
  let end: number | undefined;
  for await (const { attached, stdout, stderr, exitCode } of talk) {
    if (attached) onAttached(attached.tty);
    if (stdout) await write(process.stdout, stdout);
    if (stderr) await write(process.stderr, stderr);
    end = exitCode;
  }
  if (end !== undefined) return end;
  throw new BerthError('internal', 'the daemon ended the call without an exit code');
}

async function sendStdin(talk: Talk, keys: DetachKeys | undefined, leave: () => void): Promise<void> {
  try {
    for await (const chunk of process.stdin) {
      const typed = chunk as Buffer;
      const { send, isLeaving } = keys?.take(typed) ?? { send: typed, isLeaving: false };
      if (send.length > 0) await talk.say({ stdin: send });
      if (isLeaving) return leave();
    }
  } catch {
    // A stdin that cannot be read has come to its end.
  }
  await talk.say({ stdinClose: {} });
}
