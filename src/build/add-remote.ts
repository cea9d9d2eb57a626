import { mkdir } from 'node:fs/promises';
import { posix } from 'node:path';
import { BerthError, messageOf, redact } from '../base/errors';
import { isGit, parseGitSource } from '../base/git-source';
import { DockerfileError } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';
import type { StepTools } from './steps';

export function isRemote(source: string): boolean {
  return /^https?:\/\//.test(source) || isGit(source);
}

/** Brings what a URL has into a new directory: one file, or with `isTree` the files of a repository. */
export async function fetchRemote(
  tools: StepTools,
  command: CommandOf<'COPY' | 'ADD'>,
  source: string,
): Promise<{ dir: string; isTree: boolean }> {
  if (isGit(source)) return { dir: await fetchRepository(tools, command, source), isTree: true };
  const { workshop, ctx } = tools;
  const url = parsed(source, command);
  const name = nameIn(url, command);
  if (name === '' || name === '/')
    throw new DockerfileError(command, `ADD ${source}: the URL has no file name`, {
      hint: 'its last part is the name',
    });
  const dir = workshop.fresh('downloaded');
  await mkdir(dir, { mode: 0o700 });
  ctx.stage(`download ${url.origin}${url.pathname}`);
  await workshop.download(ctx, url.href, posix.join(dir, name), command.flags.checksum);
  return { dir, isTree: false };
}

async function fetchRepository(
  { workshop, ctx, options }: StepTools,
  command: CommandOf<'COPY' | 'ADD'>,
  source: string,
): Promise<string> {
  const { keepGitDir: keepsGitDir, checksum } = command.flags;
  const agent = options.ssh.get('default');
  ctx.stage(`clone ${redact(source)}`);
  try {
    const parsed = parseGitSource(source);
    const { dir, commit } = await workshop.clone(ctx, parsed, workshop.fresh('cloned'), {
      keepsGitDir,
      ssh: agent === undefined ? undefined : { agent, knownHosts: options.knownHosts },
    });
    if (checksum === undefined || (checksum.length >= 7 && commit.startsWith(checksum))) return dir;
    throw new BerthError('data_loss', `it is at commit ${commit}, and --checksum=${checksum} was asked for`);
  } catch (error) {
    ctx.throwIfEnded();
    throw new DockerfileError(command, `ADD ${redact(source)}: ${messageOf(error)}`, { cause: error });
  }
}

function nameIn({ pathname }: URL, command: CommandOf<'COPY' | 'ADD'>): string {
  try {
    return posix.basename(decodeURIComponent(pathname));
  } catch {
    throw new DockerfileError(
      command,
      `ADD: the path ${pathname} of its URL has a % that no two hexadecimal digits follow`,
    );
  }
}

function parsed(source: string, command: CommandOf<'COPY' | 'ADD'>): URL {
  try {
    return new URL(source);
  } catch {
    throw new DockerfileError(command, `ADD ${source}: it is no URL`);
  }
}
