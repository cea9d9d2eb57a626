import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { BerthError, messageOf } from '../base/errors';
import { BuildOutput_Type as OutputType } from '../cri/generated/berth/v1/build';

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

/** Takes what the daemon sends. */
export interface OutputSink {
  write(bytes: Buffer): Promise<void>;
  /** Resolves when all has arrived. */
  end(): Promise<void>;
}

export function openOutput({ type, destination, isDirectory }: BuildOutput): OutputSink {
  if (destination === '' || type === OutputType.IMAGE || type === OutputType.NONE)
    return { write: async () => undefined, end: async () => undefined };
  if (isDirectory) return intoDirectory(destination);
  if (destination === '-' && process.stdout.isTTY)
    throw new BerthError('invalid_argument', 'the output is a tar, and stdout is a terminal', {
      hint: 'name a file: dest=…',
    });
  return destination === '-'
    ? { ...toStream(process.stdout), end: async () => undefined }
    : toStream(createWriteStream(destination));
}

function toStream(stream: Writable): OutputSink {
  const failed = new Promise<never>((_, reject) => {
    stream.once('error', error => {
      reject(new BerthError('failed_precondition', `write the output: ${messageOf(error)}`, { cause: error }));
    });
  });
  failed.catch(() => undefined); // told by whoever writes next
  return {
    write: async bytes => {
      if (!stream.write(bytes)) await Promise.race([failed, once(stream, 'drain')]);
    },
    end: async () => {
      await Promise.race([failed, new Promise<void>(resolve => stream.end(() => resolve()))]);
    },
  };
}

/** The files of the image below a directory, as they are in the image where this user may make them so. */
function intoDirectory(directory: string): OutputSink {
  mkdirSync(directory, { recursive: true });
  const child = spawn('tar', ['-xpf', '-', '-C', directory, '--numeric-owner'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  ended.catch(() => undefined); // heard at the end
  const sink = toStream(child.stdin);
  return {
    write: bytes => sink.write(bytes),
    end: async () => {
      await sink.end();
      const code = await ended;
      if (code !== 0) throw new BerthError('failed_precondition', `tar could not write all files to ${directory}`);
    },
  };
}
