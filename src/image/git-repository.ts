import { access, constants, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, messageOf, redact } from '../base/errors';
import { directoryIn, removeGitDirs } from '../base/git-files';
import { gitCalls, gitEnvironment, isSsh, refusesShallow, SHALLOW, type GitSource } from '../base/git-source';
import { runProgram, type ProgramOutcome } from '../native/run-program';

const CALL_WITHIN_MS = 30 * 60_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

/** What a proxy before the remote is called. */
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY'];

/** What it says after whatever ssh has said. */
const FROM_GIT_TO_PEOPLE = /^(Please make sure you have the correct access rights|and the repository exists\.)$/;

/** What whoever builds lends for servers that are reached by ssh. */
export interface SshAccess {
  /** The socket of an agent. */
  readonly agent: string;
  /** A file with the keys of hosts: no other host is spoken to. */
  readonly knownHosts: string;
}

export interface Repository {
  /** The directory that was asked for. */
  readonly dir: string;
  /** The commit's whole id. */
  readonly commit: string;
}

/**
 * Brings the files of a repository into the new directory `to` with the git of the node, without its configuration.
 * `keepsGitDir` leaves what git knows of them beside them. Throws `failed_precondition` without git, and
 * `unavailable` with what git said. `ssh` is for a remote that is reached by ssh itself, and for its submodules.
 */
export async function cloneRepository(
  ctx: Context,
  source: GitSource,
  to: string,
  { keepsGitDir, ssh }: { keepsGitDir: boolean; ssh?: SshAccess | undefined },
): Promise<Repository> {
  const what = `git: ${redact(source.remote)}${source.ref === '' ? '' : `#${source.ref}`}`;
  const git = await findGit(what);
  const lent = isSsh(source.remote) ? ssh : undefined;
  const env = environment(lent);
  const run = async (args: readonly string[]) => {
    ctx.throwIfEnded();
    const outcome = await runProgram(git, args, {
      ...{ input: '', env, timeoutMs: CALL_WITHIN_MS, outputBytesMax: OUTPUT_BYTES_MAX, signal: ctx.signal },
    });
    ctx.throwIfEnded();
    if (outcome.status !== 0) throw refusal(what, outcome, lent !== undefined);
    return outcome.stdout.trim();
  };
  for (const args of gitCalls(source, to))
    await run(args).catch((error: unknown) => {
      if (args.includes(SHALLOW) && refusesShallow(messageOf(error))) return run(args.filter(arg => arg !== SHALLOW));
      throw error;
    });
  const commit = await run(['-C', to, 'rev-parse', 'HEAD']);
  await (keepsGitDir ? forgetCredentials(join(to, '.git')) : removeGitDirs(to));
  return { dir: await directoryIn(to, source.directory, what), commit };
}

function environment(ssh: SshAccess | undefined): Record<string, string> {
  const passed = ['PATH', ...PROXY_VARIABLES].flatMap(name => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const noConfig = {
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    HOME: '/dev/null',
    GIT_SSH_COMMAND: sshCommand(ssh),
    ...(ssh ? { SSH_AUTH_SOCK: ssh.agent } : {}),
  };
  return { ...Object.fromEntries(passed), ...gitEnvironment, ...noConfig };
}

/** ssh(1) looks into root's home wherever HOME leads: a Dockerfile must not fetch with the keys and agents of the node. */
function sshCommand(ssh: SshAccess | undefined): string {
  const plain = 'ssh -F none -o BatchMode=yes -o IdentityFile=none';
  if (!ssh) return `${plain} -o IdentityAgent=none`;
  // The agent by the variable's name, since a path would be searched for % and $; the file is the daemon's own.
  const knownHosts = ssh.knownHosts.replace(/%/g, '%%');
  if (/["'\\$\n]/.test(knownHosts))
    throw new BerthError('failed_precondition', `${knownHosts}: ssh cannot be given a file of this name`);
  return (
    `${plain} -o IdentityAgent=SSH_AUTH_SOCK -o StrictHostKeyChecking=yes -o UpdateHostKeys=no ` +
    `-o GlobalKnownHostsFile=none -o 'UserKnownHostsFile="${knownHosts}"'`
  );
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

function refusal(what: string, { stderr, timedOut }: ProgramOutcome, hasSsh: boolean): BerthError {
  if (timedOut)
    return new BerthError('deadline_exceeded', `${what}: git took longer than ${CALL_WITHIN_MS / 60_000} min`);
  const lines = stderr.split(/\r?\n/).filter(line => line !== '' && !FROM_GIT_TO_PEOPLE.test(line));
  const said = redact(lines.slice(-3).join('; '));
  const hint = hintFor(stderr, hasSsh);
  return new BerthError('unavailable', `${what}: ${said || 'git failed without a word'}`, hint ? { hint } : {});
}

function hintFor(said: string, hasSsh: boolean): string | undefined {
  if (!/Host key verification failed|Permission denied \(/.test(said)) return undefined;
  if (!hasSsh) return 'a repository that is reached by ssh needs an agent or a key: --ssh default[=SOCKET|KEY]';
  if (/REMOTE HOST IDENTIFICATION HAS CHANGED/.test(said))
    return 'the host has another key than ~/.ssh/known_hosts says: somebody may be in between';
  if (/Host key verification failed/.test(said))
    return 'no known_hosts of whoever builds has the key of this host; see that it is right, and add it by ssh-keyscan';
  return undefined;
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
