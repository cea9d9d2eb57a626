import type { Command } from 'commander';
import { join } from 'node:path';
import { BerthError } from '../base/errors';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { write } from './output';

interface Flags {
  archive: boolean;
  followLink: boolean;
  quiet: boolean;
}

/** One side of a copy: a path of a container's, or one of the node's, where `-` is stdin or stdout. */
interface Side {
  container: string | undefined;
  path: string;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER:PATH PATH|-\n       berth cp [OPTIONS] PATH|- CONTAINER:PATH')
    .argument('<source>', 'what is copied; of a directory written as DIR/. what is in it')
    .argument('<target>', 'where it goes: into a directory that is there, else under that name')
    .option('-a, --archive', 'keep owners and set-user-id bits (default: whose the target is)', false)
    .option('-L, --follow-link', 'when the source is a link, copy what it leads to', false)
    .option('-q, --quiet', 'changes nothing: there is no progress to show', false)
    .addHelpText(
      'after',
      '\nContainers that do not run can be copied from and to, too. With - a tar is read or written.' +
        '\nExample: berth cp web:/etc/nginx/nginx.conf .\n         tar -c site | berth cp - web:/srv',
    )
    .action(async (source: string, target: string, flags: Flags) => {
      await copy(daemon(), sideOf(source), sideOf(target), flags);
    });
}

async function copy(daemon: Daemon, source: Side, target: Side, flags: Flags): Promise<void> {
  if (source.container !== undefined && target.container !== undefined) {
    throw new BerthError('invalid_argument', 'a copy from one container to another is not known', {
      hint: 'copy by way of a tar: berth cp ONE:PATH - | berth cp - OTHER:PATH',
    });
  }
  if (source.container !== undefined) return copyOut(daemon, source.container, source.path, target.path, flags);
  if (target.container !== undefined) return copyIn(daemon, source.path, target.container, target.path, flags);
  throw new BerthError('invalid_argument', 'neither side names a container', { hint: 'write it as CONTAINER:PATH' });
}

async function copyOut(daemon: Daemon, container: string, path: string, target: string, flags: Flags): Promise<void> {
  const isTar = target === '-';
  if (isTar && process.stdout.isTTY) {
    throw new BerthError('failed_precondition', 'a tar is not for a terminal', { hint: 'write it to a file: > x.tar' });
  }
  const request = {
    ...{ container, path, hostPath: isTar ? '' : onNode(target), followLink: flags.followLink, archive: flags.archive },
    ...{ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
  };
  for await (const { data } of daemon.open(ContainersService.copyOut, request)) await write(process.stdout, data);
}

async function copyIn(daemon: Daemon, source: string, container: string, path: string, flags: Flags): Promise<void> {
  const isTar = source === '-';
  const talk = daemon.converse(ContainersService.copyIn);
  const start = { container, path, hostPath: isTar ? '' : onNode(source), followLink: flags.followLink };
  void talk.say({ start: { ...start, archive: flags.archive } });
  if (isTar) void sendStdin(talk);
  else talk.end();
  for await (const _ of talk);
}

async function sendStdin(talk: { say(request: { data: Buffer }): Promise<void>; end(): void }): Promise<void> {
  for await (const chunk of process.stdin) await talk.say({ data: chunk as Buffer });
  talk.end();
}

/** A colon makes it a container's path, unless a slash or a dot at its beginning says that it is a path. */
function sideOf(text: string): Side {
  const colon = text.indexOf(':');
  if (colon < 1 || /^[./]/.test(text)) return { container: undefined, path: text };
  return { container: text.slice(0, colon), path: text.slice(colon + 1) || '/' };
}

/** Absolute; the end, which says whether a directory or what is in it is meant, stays as it is. */
function onNode(path: string): string {
  const whole = path.startsWith('/') ? path : join(process.cwd(), path);
  const isContent = /(^|\/)\.$/.test(path);
  return isContent ? `${whole.replace(/\/$/, '')}/.` : whole;
}
