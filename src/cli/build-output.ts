import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { BerthError, messageOf } from '../base/errors';
import { BuildOutput_Type as OutputType } from '../cri/generated/berth/v1/build';
import { NewFile } from './new-file';
import { write } from './output';

/** What a build makes, and where it goes. */
export interface BuildOutput {
  readonly type: OutputType;
  /** A file, or with `isDirectory` a directory; `-` for stdout. Empty where nothing is sent. */
  readonly destination: string;
  readonly isDirectory: boolean;
}

const types: Readonly<Record<string, OutputType>> = {
  image: OutputType.IMAGE,
  oci: OutputType.OCI,
  docker: OutputType.DOCKER,
  tar: OutputType.TAR,
  local: OutputType.TAR,
  none: OutputType.NONE,
};

/** `type=oci,dest=app.tar`, a directory, or `-`; without any, an image in the store. */
export function parseOutput(text: string | undefined): BuildOutput {
  if (text === undefined) return { type: OutputType.IMAGE, destination: '', isDirectory: false };
  if (text === '-') return { type: OutputType.TAR, destination: '-', isDirectory: false };
  if (!text.includes('=')) return { type: OutputType.TAR, destination: text, isDirectory: true };
  const fields = new Map(
    text.split(',').map(field => {
      const equals = field.indexOf('=');
      return [field.slice(0, equals), field.slice(equals + 1)] as const;
    }),
  );
  const name = fields.get('type') ?? '';
  const type = types[name];
  const isSent = type !== OutputType.IMAGE && type !== OutputType.NONE;
  const destination = fields.get('dest') ?? (isSent && name !== 'local' ? '-' : '');
  if (type === undefined || (isSent && destination === ''))
    throw new BerthError(
      'invalid_argument',
      `--output ${text}: ${type === undefined ? 'the type is not known' : 'it needs a dest'}`,
      {
        hint: `write type=${Object.keys(types).join('|')},dest=…`,
      },
    );
  return { type, destination, isDirectory: name === 'local' };
}

/** Takes what the daemon sends; what has not come to its end is thrown away. */
export interface OutputSink extends AsyncDisposable {
  write(bytes: Buffer): Promise<void>;
  /** Resolves when all has arrived. */
  end(): Promise<void>;
}

/** Throws for a place where nothing can be written. */
export async function openOutput({ type, destination, isDirectory }: BuildOutput): Promise<OutputSink> {
  if (destination === '' || type === OutputType.IMAGE || type === OutputType.NONE) return sinkOf(async () => undefined);
  if (isDirectory) return intoDirectory(destination);
  if (destination !== '-') return NewFile.open(destination);
  if (!process.stdout.isTTY) return sinkOf(bytes => write(process.stdout, bytes));
  throw new BerthError('invalid_argument', 'the output is a tar, and stdout is a terminal', {
    hint: 'name a file: dest=…',
  });
}

function sinkOf(write: OutputSink['write']): OutputSink {
  const nothing = async () => undefined;
  return { write, end: nothing, [Symbol.asyncDispose]: nothing };
}

/** The files of the image below a directory, as they are in the image where this user may make them so. */
async function intoDirectory(directory: string): Promise<OutputSink> {
  await mkdir(directory, { recursive: true });
  let tar: TarProcess | undefined; // with the first bytes: of none it would complain
  return {
    write: bytes => (tar ??= new TarProcess(directory)).write(bytes),
    end: async () => tar?.end(),
    [Symbol.asyncDispose]: async () => tar?.stop(),
  };
}

class TarProcess {
  private readonly child;
  private readonly ended: Promise<number | null>;
  private readonly failed: Promise<never>;

  constructor(private readonly directory: string) {
    this.child = spawn('tar', ['-xpf', '-', '-C', directory, '--numeric-owner'], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    const { child } = this;
    this.ended = new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
    this.failed = new Promise((_, reject) => child.stdin.once('error', reject));
    for (const each of [this.ended, this.failed]) each.catch(() => undefined); // heard by whoever writes next
  }

  async write(bytes: Buffer): Promise<void> {
    const { child, failed, ended } = this;
    await this.told(async () => {
      if (!child.stdin.write(bytes)) await Promise.race([failed, ended, once(child.stdin, 'drain')]);
    });
  }

  async end(): Promise<void> {
    this.child.stdin.end();
    const code = await this.told(() => this.ended);
    if (code !== 0) throw new BerthError('failed_precondition', `tar could not write all files to ${this.directory}`);
  }

  /** Nothing when it has ended. */
  stop(): void {
    this.child.kill();
  }

  private async told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const why = `write to ${this.directory} with tar: ${messageOf(error)}`;
      throw new BerthError('failed_precondition', why, { cause: error });
    }
  }
}
