import { readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import { isGit } from '../base/git-source';
import { ignoreLines, IgnorePatterns } from '../base/patterns';
import { contextTar } from './context-tar';
import { GitContext } from './git-context';

/** What a build is made of. */
export interface BuildInput {
  readonly dockerfile: string;
  /** For messages. */
  readonly dockerfileName: string;
  /** A tar, in pieces. */
  readonly context: AsyncIterable<Buffer>;
  /** Once nothing of it is needed any more. */
  readonly dispose?: () => void;
}

/** Reads the Dockerfile and what is ignored; the context is read as it is sent. */
export async function readBuildInput(path: string, file: string | undefined): Promise<BuildInput> {
  if (path === '-') {
    if (file !== undefined && file !== '-') return { ...named(file), context: emptyTar() };
    return { dockerfile: await stdinText(), dockerfileName: 'Dockerfile', context: emptyTar() };
  }
  if (isGit(path)) return fromRepository(path, file);
  assertDirectory(path);
  return fromDirectory(path, file);
}

/** The Dockerfile is one of the repository's. */
async function fromRepository(text: string, file: string | undefined): Promise<BuildInput> {
  const repository = await GitContext.clone(text);
  try {
    const { dir } = repository;
    const name = file ?? basename(defaultFile(dir));
    for (const beside of [`${name}.dockerignore`, '.dockerignore']) within(dir, beside);
    const input = await fromDirectory(dir, name === '-' ? name : within(dir, name));
    return { ...input, dispose: () => repository[Symbol.dispose]() };
  } catch (error) {
    repository[Symbol.dispose]();
    throw error;
  }
}

/** A link in a repository must not make a file of this machine its Dockerfile, or what is read beside it. */
function within(dir: string, file: string): string {
  const path = join(dir, file);
  if (!exists(path) || realpathSync(path).startsWith(`${realpathSync(dir)}/`)) return path;
  throw new BerthError('invalid_argument', `build: ${JSON.stringify(file)} leads out of the repository`);
}

async function fromDirectory(path: string, file: string | undefined): Promise<BuildInput> {
  const own = file ?? defaultFile(path);
  const { dockerfile, dockerfileName } =
    own === '-' ? { dockerfile: await stdinText(), dockerfileName: 'Dockerfile' } : named(own);
  return { dockerfile, dockerfileName, context: contextTar(path, ignoredIn(path, own)) };
}

function defaultFile(path: string): string {
  const usual = join(path, 'Dockerfile');
  return exists(usual) || !exists(join(path, 'Containerfile')) ? usual : join(path, 'Containerfile');
}

function named(file: string): { dockerfile: string; dockerfileName: string } {
  try {
    return { dockerfile: readFileSync(file, 'utf8'), dockerfileName: basename(file) };
  } catch (error) {
    const why = isAbsent(error) ? 'there is no such file' : (errnoOf(error) ?? 'it cannot be read');
    throw new BerthError('not_found', `read ${file}: ${why}`, {
      cause: error,
      hint: 'a build needs a Dockerfile; name it: -f FILE',
    });
  }
}

/** A file beside the Dockerfile goes over the one of the context. */
function ignoredIn(path: string, dockerfile: string): IgnorePatterns {
  const candidates = [...(dockerfile === '-' ? [] : [`${dockerfile}.dockerignore`]), join(path, '.dockerignore')];
  for (const candidate of candidates) {
    let text: string;
    try {
      text = readFileSync(candidate, 'utf8');
    } catch (error) {
      if (isAbsent(error)) continue;
      throw new BerthError('failed_precondition', `read ${candidate}: ${errnoOf(error) ?? 'it cannot be read'}`, {
        cause: error,
      });
    }
    try {
      return new IgnorePatterns(ignoreLines(text));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new BerthError('invalid_argument', `${candidate}: ${JSON.stringify(error.message)} is a malformed pattern`);
    }
  }
  return new IgnorePatterns([]);
}

async function stdinText(): Promise<string> {
  if (process.stdin.isTTY)
    throw new BerthError('invalid_argument', 'stdin is a terminal, and no Dockerfile comes from it');
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** A build without a context has an empty one. */
async function* emptyTar(): AsyncGenerator<Buffer> {
  yield Buffer.alloc(1024);
}

function assertDirectory(path: string): void {
  let why: string;
  try {
    if (statSync(path).isDirectory()) return;
    why = 'it is no directory';
  } catch (error) {
    why = isAbsent(error) ? 'there is no such directory' : (errnoOf(error) ?? 'it cannot be read');
  }
  throw new BerthError('invalid_argument', `build ${path}: ${why}`);
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}
