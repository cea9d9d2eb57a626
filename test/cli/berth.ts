import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { berthFile } from '../support/programs';
import type { FakeDaemon } from './fake-daemon';

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A `berth` that runs. */
export class Running {
  stdout = Buffer.alloc(0);
  stderr = Buffer.alloc(0);
  readonly ended: Promise<Ended>;

  constructor(readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk: Buffer) => (this.stdout = Buffer.concat([this.stdout, chunk])));
    child.stderr.on('data', (chunk: Buffer) => (this.stderr = Buffer.concat([this.stderr, chunk])));
    child.stdin.on('error', () => undefined);
    this.ended = once(child, 'close').then(([code]) => ({
      code: code as number | null,
      stdout: this.stdout.toString(),
      stderr: this.stderr.toString(),
    }));
  }

  /** Resolves once stdout holds `text`. */
  async printed(text: string): Promise<void> {
    while (!this.stdout.includes(text)) await once(this.child.stdout, 'data');
  }
}

export function startBerth(daemon: FakeDaemon | string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const socket = typeof daemon === 'string' ? daemon : daemon.socket;
  return new Running(
    spawn(process.execPath, [berthFile, ...args], {
      env: { PATH: process.env['PATH'], BERTH_HOST: `unix://${socket}`, ...env },
    }),
  );
}

/** Runs `berth` to its end, with `input` on its stdin. */
export async function berth(daemon: FakeDaemon | string, args: readonly string[], input = ''): Promise<Ended> {
  const running = startBerth(daemon, args);
  running.child.stdin.end(input);
  return await running.ended;
}
