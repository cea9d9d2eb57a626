import type { EventEmitter } from 'node:events';
import { keysIn } from './keys';

/** What is shown on a whole terminal. */
export interface FullScreenView {
  /** Takes a key; false when it says that this is enough. */
  key(name: string): boolean;
  /** A text for each row of a screen of that size, as wide as it is. */
  draw(columns: number, rows: number): string[];
}

/** The other screen, without a cursor, on which lines do not wrap. */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J';
const LEAVE = '\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l';

/** Those that end this process, by number. */
const ENDING = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;

/**
 * Shows a view on the terminal of stdin and stdout until it has had enough, stdin ends, or a signal comes, whose number it
 * gives, otherwise 0. Then, and while this process is stopped, the terminal is as it was, whatever ends it but SIGKILL.
 */
export async function showFullScreen(view: FullScreenView): Promise<number> {
  const { stdin, stdout } = process;
  using terminal = new Terminal();
  return await new Promise<number>((resolve, reject) => {
    /** An error ends the view, so that the terminal is given back before it is told. */
    const guarded = (work: () => void) => () => {
      try {
        work();
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const draw = guarded(() => {
      const lines = view.draw(stdout.columns || 80, stdout.rows || 24);
      stdout.write(`\x1b[H${lines.join('\r\n')}`);
    });
    const suspend = () => {
      process.off('SIGTSTP', suspend);
      terminal.leave();
      process.kill(0, 'SIGTSTP');
    };
    const resume = () => {
      process.off('SIGTSTP', suspend).on('SIGTSTP', suspend);
      terminal.enter();
      draw();
    };
    const take = (text: string) => {
      for (const key of keysIn(text)) {
        if (key === 'ctrl-z') return suspend();
        if (!view.key(key)) return resolve(0);
      }
      resume(); // it may not have been stopped: nobody but a shell continues it
    };
    terminal.listen(stdin, 'data', (text: string) => guarded(() => take(text))());
    terminal.listen(stdin, 'end', () => resolve(0));
    terminal.listen(stdin, 'error', () => resolve(0));
    terminal.listen(stdout, 'resize', () => {
      stdout.write('\x1b[2J');
      draw();
    });
    for (const [signal, number] of Object.entries(ENDING)) terminal.listen(process, signal, () => resolve(number));
    terminal.listen(process, 'SIGCONT', resume);
    terminal.listen(process, 'SIGTSTP', suspend);
    draw();
  });
}

/** The terminal while it is ours: keys come as they are pressed, and the screen is another one. */
class Terminal implements Disposable {
  private isOurs = false;
  private readonly undo: (() => void)[] = [];

  constructor() {
    // What nobody catches ends the process by this, too.
    this.listen(process, 'exit', () => this.leave());
    this.enter();
    process.stdin.setEncoding('utf8').resume();
  }

  listen(from: EventEmitter, event: string, listener: (text: string) => void): void {
    from.on(event, listener);
    this.undo.push(() => from.off(event, listener));
  }

  enter(): void {
    if (this.isOurs) return;
    this.isOurs = true;
    process.stdin.setRawMode(true);
    process.stdout.write(ENTER);
  }

  leave(): void {
    if (!this.isOurs) return;
    this.isOurs = false;
    process.stdout.write(LEAVE);
    process.stdin.setRawMode(false);
  }

  [Symbol.dispose](): void {
    this.leave();
    process.stdin.pause();
    for (const undo of this.undo) undo();
  }
}
