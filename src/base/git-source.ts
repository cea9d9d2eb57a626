import { BerthError } from './errors';

/** A directory of a repository at some state of it, as builds name it: `REMOTE#REF:DIRECTORY`. */
export interface GitSource {
  readonly remote: string;
  /** A branch, a tag or a whole commit id; empty: what the remote takes as its own. */
  readonly ref: string;
  /** Below the root of the repository; empty: the root. */
  readonly directory: string;
}

/** Protocols that ask nobody's files of this machine. */
const PROTOCOLS = 'git:http:https:ssh';

/** Of a call of git: one commit is enough. Without it, where a remote refuses that (`refusesShallow`). */
export const SHALLOW = '--depth=1';

/** Whether git says that a remote has the whole history or nothing, as one that is only files. */
export function refusesShallow(said: string): boolean {
  return said.includes('shallow');
}

/** What git must not take from whose machine it runs on, nor ask anybody. */
export const gitEnvironment: Readonly<Record<string, string>> = {
  GIT_ALLOW_PROTOCOL: PROTOCOLS,
  GIT_TERMINAL_PROMPT: '0',
  LC_ALL: 'C', // what it says is read
};

/** Whether a source of files is a repository: `git://…`, `ssh://…`, `git@host:path`, or `http(s)://….git`. */
export function isGit(text: string): boolean {
  return /^(git|ssh):\/\//.test(text) || /^[\w.-]+@[^:/]+:/.test(text) || /^https?:\/\/[^#]+\.git(#|$)/.test(text);
}

/** Whether a remote is reached by ssh. */
export function isSsh(remote: string): boolean {
  return remote.startsWith('ssh://') || !/^\w+:\/\//.test(remote);
}

/** Throws `invalid_argument` for a reference or a directory that cannot be one, and for a remote that is an attack. */
export function parseGitSource(text: string): GitSource {
  const hash = text.indexOf('#');
  const [remote, fragment] = hash < 0 ? [text, ''] : [text.slice(0, hash), text.slice(hash + 1)];
  if (isSsh(remote)) assertNoOption(remote);
  const colon = fragment.indexOf(':');
  const [ref, written] = colon < 0 ? [fragment, ''] : [fragment.slice(0, colon), fragment.slice(colon + 1)];
  if (!/^([\w/@+][\w./@+-]*)?$/.test(ref) || ref.includes('..'))
    throw new BerthError('invalid_argument', `${text}: ${JSON.stringify(ref)} is no branch, tag or commit`);
  const parts = written.split('/').filter(part => part !== '' && part !== '.');
  if (parts.includes('..') || parts.includes('.git'))
    throw new BerthError('invalid_argument', `${text}: ${JSON.stringify(written)} is no directory of the repository`);
  return { remote, ref, directory: parts.join('/') };
}

/** Git and ssh get a user, a host, a port and a path as words, which they must not take for options. */
function assertNoOption(remote: string): void {
  const [, authority = '', path = ''] = /^ssh:\/\/([^/]*)(.*)$/.exec(remote) ?? /^([^:]*):(.*)$/.exec(remote) ?? [];
  const words = [...authority.split(/[@:]/), path.replace(/^\//, '')];
  if (!words.some(word => word.startsWith('-')) && !/[%\s]/.test(authority)) return;
  throw new BerthError('invalid_argument', `${remote}: a user, a host or a path of ssh cannot look like that`);
}

/**
 * The arguments of git, call by call, that bring a source into the new directory `to`: the files of that state alone. Nothing
 * of the repository is run.
 */
export function gitCalls({ remote, ref }: GitSource, to: string): readonly (readonly string[])[] {
  const at = ['-C', to, '-c', 'advice.detachedHead=false', '-c', 'core.hooksPath=/dev/null'];
  const fetched = ref === '' ? 'HEAD' : ref;
  return [
    ['-c', 'init.defaultBranch=main', 'init', '--quiet', '--template=', to],
    [...at, 'remote', 'add', 'origin', remote],
    [...at, 'fetch', '--quiet', SHALLOW, '--no-tags', 'origin', fetched],
    [...at, 'checkout', '--quiet', 'FETCH_HEAD'],
    [...at, 'submodule', '--quiet', 'update', '--init', '--recursive', SHALLOW],
  ];
}
