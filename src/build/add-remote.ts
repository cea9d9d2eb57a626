import { mkdir } from 'node:fs/promises';
import { posix } from 'node:path';
import { DockerfileError } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';
import type { StepTools } from './steps';

export function isRemote(source: string): boolean {
  return /^(https?|git|ssh):\/\//.test(source) || /^git@[^:]+:/.test(source);
}

/** Brings what a URL has into a new directory: one file, or with `isTree` the files of a repository. */
export async function fetchRemote(
  { workshop, ctx }: StepTools,
  command: CommandOf<'COPY' | 'ADD'>,
  source: string,
): Promise<{ dir: string; isTree: boolean }> {
  if (!/^https?:\/\//.test(source) || /\.git(#|$)/.test(source))
    throw new DockerfileError(command, `ADD ${source}: repositories of git are not in this version of berth`, {
      hint: 'clone it in a RUN',
    });
  const url = parsed(source, command);
  const name = posix.basename(decodeURIComponent(url.pathname));
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

function parsed(source: string, command: CommandOf<'COPY' | 'ADD'>): URL {
  try {
    return new URL(source);
  } catch {
    throw new DockerfileError(command, `ADD ${source}: it is no URL`);
  }
}
