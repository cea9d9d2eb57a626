import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BerthError, isAbsent, messageOf, redact } from '../base/errors';
import { directoryIn, removeGitDirs } from '../base/git-files';
import { gitCalls, gitEnvironment, parseGitSource, refusesShallow, SHALLOW } from '../base/git-source';
import { onInterrupt } from './on-interrupt';

const ofRepository: ReadonlySet<string> = new Set([
  'GIT_DIR',
  'GIT_COMMON_DIR',
  'GIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_OBJECT_DIRECTORY',
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_SHALLOW_FILE',
  'GIT_NAMESPACE',
  'GIT_PREFIX',
]);

/** A repository that is here for a while. */
export class GitContext implements Disposable {
  private constructor(
    private readonly root: string,
    /** What was asked for of it. */
    readonly dir: string,
    private readonly release: () => void,
  ) {}

  /** Clones with the git, the configuration and the credentials of whoever asks. What git says goes to stderr. */
  static async clone(text: string): Promise<GitContext> {
    const source = parseGitSource(text);
    const root = mkdtempSync(join(tmpdir(), 'berth-context-'));
    const release = onInterrupt(() => remove(root));
    try {
      for (const args of gitCalls(source, join(root, 'files'))) await git(args, text);
      await removeGitDirs(join(root, 'files'));
      const dir = await directoryIn(join(root, 'files'), source.directory, `build ${redact(text)}`);
      return new GitContext(root, dir, release);
    } catch (error) {
      remove(root);
      release();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    remove(this.root);
    this.release();
  }
}

/** Git may be at work in it still, when all of this is interrupted. */
function remove(root: string): void {
  rmSync(root, { recursive: true, force: true, maxRetries: 10 });
}

/** What git asks, it asks at the terminal; what it says is shown once it has ended. */
async function git(args: readonly string[], text: string): Promise<void> {
  const child = spawn('git', args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...withoutRepository(process.env), ...gitEnvironment },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (said += piece));
  let ended: unknown[];
  try {
    ended = (await once(child, 'close')) as unknown[];
  } catch (error) {
    const why = isAbsent(error) ? 'git is not installed here' : messageOf(error);
    throw new BerthError('failed_precondition', `build ${redact(text)}: ${why}`, { cause: error });
  }
  if (ended[0] !== 0 && args.includes(SHALLOW) && refusesShallow(said))
    return git(
      args.filter(arg => arg !== SHALLOW),
      text,
    );
  process.stderr.write(said);
  if (ended[0] !== 0) throw new BerthError('unavailable', `build ${redact(text)}: git has failed; it says above why`);
}

/** In a hook of git, its variables name the repository that the hook is of: what is cloned would go into that one. */
function withoutRepository(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !ofRepository.has(name)));
}
