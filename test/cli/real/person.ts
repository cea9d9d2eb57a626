import assert from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { berthFile } from '../../support/programs';

/** A person at a terminal of 91 columns and 17 rows, by script(1), with one command in it, whose exit code and stty(1) follow. */
export class Person {
  seen = '';
  readonly ended: Promise<unknown>;

  private constructor(private readonly shell: ChildProcessWithoutNullStreams) {
    this.ended = once(shell, 'close');
    shell.stdout.setEncoding('utf8').on('data', (text: string) => (this.seen += text));
  }

  static at(socket: string, ...args: string[]): Person {
    return Person.before(socket, `berth ${args.join(' ')}`);
  }

  /** One that a shell with job control lets run, and takes up again when it was stopped. */
  static stopping(socket: string, ...args: string[]): Person {
    return Person.before(socket, `set -m; berth ${args.join(' ')}; echo "stopped $?"; fg`);
  }

  private static before(socket: string, commands: string): Person {
    const berth = `"${process.execPath}" "${berthFile}"`;
    const script = `stty cols 91 rows 17; ${commands.replace('berth', berth)}; echo "code $?"; stty -a`;
    const env = { ...process.env, BERTH_HOST: socket };
    return new Person(spawn('script', ['-qec', script, '/dev/null'], { env }));
  }

  type(keys: string): void {
    this.shell.stdin.write(keys);
  }

  /** Closes the terminal. */
  leave(): void {
    this.shell.kill();
  }

  /** Resolves once `text` was seen, behind what there was at `from`. */
  async sees(text: string, from = 0): Promise<void> {
    while (!this.seen.includes(text, from)) {
      const more = await Promise.race([once(this.shell.stdout, 'data'), this.ended.then(() => undefined)]);
      assert.ok(more !== undefined || this.seen.includes(text, from), `${text} is not in ${JSON.stringify(this.seen)}`);
    }
  }
}
