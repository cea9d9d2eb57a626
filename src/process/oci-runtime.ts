import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, errnoOf, messageOf } from '../base/errors';
import { runProgram } from '../native/run-program';
import { LaunchError } from './launch-failure';

/** An OCI runtime of the configuration: `[runtimes.<name>]`. */
export interface OciRuntimeConfig {
  path: string;
  args: readonly string[];
  /** Keys of annotations that it gets; one that ends with `*` stands for all that begin so. */
  annotations: readonly string[];
  /** Where it keeps its state. */
  root: string;
}

/** Command lines for one container, each with the program's path first. */
export interface RuntimeCommands {
  create: readonly string[];
  start: readonly string[];
  /** Where `create` leaves the number of the container's process. */
  pidFile: string;
}

/** What `RUNTIME features` says, as far as it is of use here. */
export interface OciFeatures {
  recursiveReadOnlyMounts: boolean;
}

/** Files of one container in its state directory. */
const BUNDLE = 'bundle';
const PID_FILE = 'runtime.pid';
const LOG = 'runtime.log';

const DELETE_WITHIN_MS = 30_000;
const FEATURES_WITHIN_MS = 5_000;
const OUTPUT_MAX = 1024 * 1024;
const ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** A program that makes containers of bundles, as crun, runc and others do by the same command line. */
export class OciRuntime {
  private known: Promise<OciFeatures> | undefined;

  constructor(
    readonly name: string,
    private readonly config: OciRuntimeConfig,
  ) {}

  bundleDir(stateDir: string): string {
    return join(stateDir, BUNDLE);
  }

  commands(stateDir: string, id: string): RuntimeCommands {
    const pidFile = join(stateDir, PID_FILE);
    const logFile = join(stateDir, LOG);
    return {
      create: this.argv(logFile, ['create', '--bundle', this.bundleDir(stateDir), '--pid-file', pidFile, id]),
      start: this.argv(logFile, ['start', id]),
      pidFile,
    };
  }

  exec(files: { log: string; process: string; pidFile: string }, id: string): string[] {
    return this.argv(files.log, ['exec', '--process', files.process, '--pid-file', files.pidFile, id]);
  }

  /** Ends what there is of a container and forgets it; one that it does not know is fine. */
  async delete(id: string): Promise<void> {
    // A program that is not there has made nothing.
    if (!existsSync(this.config.path)) return;
    const { path, timedOut } = await this.run(['--root', this.config.root, 'delete', '--force', id], DELETE_WITHIN_MS);
    if (timedOut) throw new BerthError('deadline_exceeded', `${path} delete did not end within 30 s`);
  }

  /** Only what is configured to reach it. */
  annotationsOf(annotations: Readonly<Record<string, string>>): Record<string, string> {
    const isAllowed = (key: string) =>
      this.config.annotations.some(allowed =>
        allowed.endsWith('*') ? key.startsWith(allowed.slice(0, -1)) : key === allowed,
      );
    return Object.fromEntries(Object.entries(annotations).filter(([key]) => isAllowed(key)));
  }

  /** Asked once; a runtime that cannot tell is taken to have none. */
  features(): Promise<OciFeatures> {
    this.known ??= this.run(['features'], FEATURES_WITHIN_MS).then(({ status, stdout }) => featuresIn(status, stdout));
    return this.known;
  }

  /** A failure of the runtime's, with all that it said; any other error as it is. */
  async explained(error: unknown, stateDir: string): Promise<unknown> {
    if (!(error instanceof LaunchError)) return error;
    if (error.op === 'EXEC') return this.notThere(error.errno, error);
    if (error.op !== 'OCI_RUNTIME') return error;
    const said = await this.saidIn(join(stateDir, LOG));
    return new BerthError(
      'failed_precondition',
      `runtime ${this.name}: ${error.message}: ${said || 'it said nothing'}`,
      {
        cause: error,
      },
    );
  }

  /** The messages of its log, one after the other; empty for none. */
  async saidIn(logFile: string): Promise<string> {
    const text = await readFile(logFile, 'utf8').catch(() => '');
    const lines = text.split('\n').filter(line => line.trim() !== '');
    return lines.map(messageIn).join('; ');
  }

  private argv(logFile: string, command: readonly string[]): string[] {
    const { path, args, root } = this.config;
    return [path, ...args, '--root', root, '--log', logFile, '--log-format', 'json', ...command];
  }

  private async run(command: readonly string[], timeoutMs: number) {
    const { path, args } = this.config;
    try {
      const options = { input: '', env: ENV, timeoutMs, outputBytesMax: OUTPUT_MAX };
      return { path, ...(await runProgram(path, [...args, ...command], options)) };
    } catch (error) {
      throw this.notThere(errnoOf(error) ?? messageOf(error), error);
    }
  }

  private notThere(why: string, cause: unknown): BerthError {
    return new BerthError('failed_precondition', `runtime ${this.name}: ${this.config.path} cannot be run: ${why}`, {
      cause,
      hint: `check runtimes.${this.name}.path in the configuration`,
    });
  }
}

/** A line of its log is an object with a message, from those that keep to the format that they are asked for. */
function messageIn(line: string): string {
  try {
    const entry = JSON.parse(line) as { msg?: unknown };
    return typeof entry.msg === 'string' ? entry.msg : line;
  } catch {
    return line;
  }
}

function featuresIn(status: number | undefined, stdout: string): OciFeatures {
  try {
    const features = JSON.parse(stdout) as { mountOptions?: unknown };
    const options = status === 0 && Array.isArray(features.mountOptions) ? features.mountOptions : [];
    return { recursiveReadOnlyMounts: options.includes('rro') };
  } catch {
    return { recursiveReadOnlyMounts: false };
  }
}
