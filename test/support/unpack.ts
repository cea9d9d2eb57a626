import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { nativePath } from '../../src/native/paths';

export interface UnpackRun {
  /** The word of the step that failed. */
  readonly step: string | undefined;
  readonly stderr: string;
  readonly summary: ReadonlyMap<string, string>;
}

export interface UnpackOptions {
  /** Directories of the layers below, top first; without it the layer is a base. */
  readonly lower?: readonly string[];
  /** A file that is to become the layer's manifest. */
  readonly manifest?: string;
  readonly maxBytes?: number;
}

/** Runs the built berth-unpack on the bytes of a layer, as the daemon does; `dir` is made if it is not there. */
export function unpackTar(bytes: Buffer, dir: string, options: UnpackOptions = {}): UnpackRun {
  mkdirSync(dir, { recursive: true });
  const manifest = options.manifest === undefined ? undefined : openSync(options.manifest, 'w+', 0o600);
  try {
    const ended = spawnSync(nativePath('berth-unpack'), unpackArguments(bytes.length, dir, options), {
      input: bytes,
      stdio: ['pipe', 'pipe', 'pipe', ...(manifest === undefined ? [] : [manifest])],
      env: {},
      timeout: 60_000,
    });
    return unpackRun(ended.status, ended.stdout.toString('latin1'), ended.stderr.toString('latin1'));
  } finally {
    if (manifest !== undefined) closeSync(manifest);
  }
}

export function unpackArguments(bytes: number, dir: string, options: UnpackOptions = {}): string[] {
  const lower = options.lower ?? [];
  return [
    'layer',
    ...['--dir', dir, '--size', String(bytes), '--max-bytes', String(options.maxBytes ?? 4 * 1024 ** 3)],
    ...['--digest', 'sha256', '--mode', lower.length > 0 ? 'above' : 'base'],
    ...(options.manifest === undefined ? [] : ['--manifest', '3']),
    ...lower.flatMap(layer => ['--lower', layer]),
  ];
}

export function unpackRun(status: number | null, stdout: string, stderr: string): UnpackRun {
  const lines = stdout.split('\n').filter(line => line.includes(' '));
  const summary = new Map(lines.map(line => [line.split(' ')[0] ?? '', line.slice(line.indexOf(' ') + 1)]));
  const step = status === 0 ? undefined : (/^(\S+) \d+ /m.exec(stderr)?.[1] ?? `died with ${status ?? 'a signal'}`);
  return { step, stderr, summary };
}
