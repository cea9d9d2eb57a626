import { access, constants, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, messageOf, redact } from '../base/errors';
import { directoryIn, removeGitDirs } from '../base/git-files';
import { gitCalls, gitEnvironment, SHALLOW, type GitSource } from '../base/git-source';
import { runProgram, type ProgramOutcome } from '../native/run-program';

const CALL_WITHIN_MS = 30 * 60_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

/** What a proxy before the remote is called. */
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY'];

/** ssh(1) looks into root's home wherever HOME leads: a Dockerfile must not fetch with the keys and agents of the node. */
const SSH = 'ssh -F none -o BatchMode=yes -o IdentityFile=none -o IdentityAgent=none';

export interface Repository {
  /** The directory that was asked for. */
  readonly dir: string;
  /** The commit's whole id. */
  readonly commit: string;
}

/**
 * Brings the files of a repository into the new directory `to` with the git of the node, without its configuration.
 * `keepsGitDir` leaves what git knows of them beside them. Throws `failed_precondition` without git, and
 * `unavailable` with what git said.
 */
export async function cloneRepository(
  ctx: Context,
  source: GitSource,
  to: string,
  keepsGitDir: boolean,
): Promise<Repository> {
  const what = `git: ${redact(source.remote)}${source.ref === '' ? '' : `#${source.ref}`}`;
  const git = await findGit(what);
  const env = environment();
  const run = async (args: readonly string[]) => {
    ctx.throwIfEnded();
    const outcome = await runProgram(git, args, {
      ...{ input: '', env, timeoutMs: CALL_WITHIN_MS, outputBytesMax: OUTPUT_BYTES_MAX, signal: ctx.signal },
    });
    ctx.throwIfEnded();
    if (outcome.status !== 0) throw refusal(what, outcome);
    return outcome.stdout.trim();
  };
  for (const args of gitCalls(source, to))
    await run(args).catch((error: unknown) => {
      // A remote that is only files has the whole history or nothing.
      if (args.includes(SHALLOW) && /shallow/.test(messageOf(error))) return run(args.filter(arg => arg !== SHALLOW));
      throw error;
    });
  const commit = await run(['-C', to, 'rev-parse', 'HEAD']);
  await (keepsGitDir ? forgetCredentials(join(to, '.git')) : removeGitDirs(to));
  return { dir: await directoryIn(to, source.directory, what), commit };
}

function environment(): Record<string, string> {
  const passed = ['PATH', ...PROXY_VARIABLES].flatMap(name => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const noConfig = {
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    HOME: '/dev/null',
    GIT_SSH_COMMAND: SSH,
  };
  return { ...Object.fromEntries(passed), ...gitEnvironment, ...noConfig, LC_ALL: 'C' };
}

async function findGit(what: string): Promise<string> {
  for (const dir of (process.env['PATH'] ?? '').split(':').filter(part => part.startsWith('/'))) {
    const path = join(dir, 'git');
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  throw new BerthError('failed_precondition', `${what}: git is not installed on this node`, { hint: 'install git' });
}

function refusal(what: string, { stderr, timedOut }: ProgramOutcome): BerthError {
  if (timedOut)
    return new BerthError('deadline_exceeded', `${what}: git took longer than ${CALL_WITHIN_MS / 60_000} min`);
  const said = redact(stderr.trim().split('\n').slice(-3).join('; '));
  return new BerthError('unavailable', `${what}: ${said || 'git failed without a word'}`);
}

/** What is kept goes into an image: a token in the URL, which submodules have, too, is not for those who get that. */
export async function forgetCredentials(gitDir: string): Promise<void> {
  const isConfig = (path: string) => path === 'config' || /^modules\/(.*\/)?config$/.test(path);
  for (const entry of await readdir(gitDir, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !isConfig(relative(gitDir, path))) continue;
    const text = await readFile(path, 'latin1');
    await writeFile(path, text.replace(/(https?:\/\/)[^/\s]*@/gi, '$1'), 'latin1');
  }
}
