import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { BerthService, type AttachRequest, type AttachResponse } from '../cri/generated/berth/v1/berth';
import { BerthError, kindOf } from '../base/errors';
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

/** A daemon that is restarted is there again in a second or two. */
const BACK_WITHIN_MS = 60_000;
const RETRY_MS = 200;

/**
 * Puts this process's stdio before a container until that has exited; its exit code, or 0 after the detach keys. `start`
 * is called once everything that the container writes will come here. Over the end of a daemon it goes on with the next.
 */
export async function attach(
  daemon: Daemon,
  container: string,
  stdin: boolean,
  { sigProxy, detachKeys }: AttachFlags,
  start: () => Promise<unknown> = () => Promise.resolve(),
): Promise<number> {
  const keys = new DetachKeys(detachKeys);
  const current = { talk: begin(daemon, container, stdin) };
  const starting = current.talk.watching.then(start);
  starting.catch(() => current.talk.cancel());
  const forward = async (signal: string) => {
    await starting;
    await daemon.ask(BerthService.kill, { container, signal });
  };
  using _signals = sigProxy ? forwardSignals(forward) : undefined;
  let terminal: Disposable | undefined;
  let hasLeft = false;
  let isFed = false;
  const leave = () => {
    hasLeft = true;
    current.talk.cancel();
  };
  const onAttached = (tty: boolean) => {
    const tell = (resize: NonNullable<ReturnType<typeof sizeOf>>) => void current.talk.say({ resize });
    if (tty) terminal ??= takeTerminal(stdin && process.stdin.isTTY, tell);
    const size = sizeOf(process.stdout);
    if (tty && size) tell(size);
    if (!stdin || isFed) return;
    isFed = true;
    void sendStdin(current, tty && process.stdin.isTTY ? keys : undefined, leave);
  };
  try {
    for (;;) {
      try {
        return await copyOutput(current.talk, onAttached);
      } catch (error) {
        if (hasLeft) return 0;
        await starting; // its failure is why
        if (!isLost(error)) throw error;
      }
      const again = await attachAgain(daemon, container, stdin);
      if (typeof again === 'number') return again;
      current.talk = again;
      process.stderr.write('berth: the daemon was restarted; what was written meanwhile is in the log\r\n');
    }
  } finally {
    terminal?.[Symbol.dispose]();
  }
}

function begin(daemon: Daemon, container: string, stdin: boolean): Talk {
  const talk = daemon.converse(BerthService.attach);
  void talk.say({ start: { container, stdin } });
  return talk;
}

function isLost(error: unknown): boolean {
  return ['unavailable', 'cancelled'].includes(kindOf(error));
}

/** Attached to a daemon that is there again; or the exit code of a container that has exited meanwhile. */
async function attachAgain(daemon: Daemon, container: string, stdin: boolean): Promise<Talk | number> {
  for (const until = Date.now() + BACK_WITHIN_MS; ; await sleep(RETRY_MS)) {
    const talk = begin(daemon, container, stdin);
    try {
      await talk.watching;
      return talk;
    } catch (error) {
      if (kindOf(error) === 'failed_precondition') return (await daemon.ask(BerthService.wait, { container })).exitCode;
      if (!isLost(error) || Date.now() > until) throw error;
    }
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

async function sendStdin(to: { readonly talk: Talk }, keys: DetachKeys | undefined, leave: () => void): Promise<void> {
  try {
    for await (const chunk of process.stdin) {
      const typed = chunk as Buffer;
      const { send, isLeaving } = keys?.take(typed) ?? { send: typed, isLeaving: false };
      if (send.length > 0) await to.talk.say({ stdin: send });
      if (isLeaving) return leave();
    }
  } catch {
    // A stdin that cannot be read has come to its end.
  }
  await to.talk.say({ stdinClose: {} });
}
