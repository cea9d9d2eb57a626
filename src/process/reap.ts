import { closeSync } from 'node:fs';
import { addon } from '../native/addon';

/** Takes a child's exit status once it has ended, so that no zombie stays, and closes its pidfd; `onEnd` gets the code. */
export function reapWhenEnded(pidfd: number, onEnd: (exitCode: number | null) => void = () => undefined): void {
  const stop = addon().watch(pidfd, () => {
    stop();
    const exitCode = addon().reap(pidfd);
    closeSync(pidfd);
    onEnd(exitCode);
  });
}
