import { spawnSync } from 'node:child_process';
import type { TerminalSize } from '../cri/generated/berth/v1/berth';

/**
 * Lends the terminal to a command elsewhere: `onResize` is told each new size, and where `keys` go to it, they go as
 * they are, Ctrl-C included. Disposing gives the terminal back as it was.
 */
export function takeTerminal(keys: boolean, onResize: (size: TerminalSize) => void): Disposable {
  const resized = () => {
    const size = sizeOf(process.stdout);
    if (size) onResize(size);
  };
  process.stdout.on('resize', resized);
  if (keys) {
    process.stdin.setRawMode(true);
    // Node's raw mode still puts a carriage return before each newline, which the other terminal does itself, or means not
    // to. Where there is no stty(1), full-screen programs look wrong.
    spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  }
  return {
    [Symbol.dispose]: () => {
      process.stdout.off('resize', resized);
      if (keys) process.stdin.setRawMode(false);
    },
  };
}

/** The size of a terminal; undefined where the output is none. */
export function sizeOf({ columns, rows }: NodeJS.WriteStream): TerminalSize | undefined {
  return columns && rows ? { columns, rows } : undefined;
}
