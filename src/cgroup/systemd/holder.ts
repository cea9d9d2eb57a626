import { closeSync } from 'node:fs';
import { addon } from '../../native/addon';
import { ControlSocket } from '../../native/control';
import { startHelper } from '../../native/helper';

/** A process that does nothing; it ends with this one, or with `release`, unless `keep` was called before. */
export interface Holder {
  pid: number;
  keep(): void;
  release(): void;
}

/** Starts the process that a scope is made around (`native/helper/hold.c`). */
export async function startHolder(name: string): Promise<Holder> {
  const { pid, pidfd, controlFd } = await startHelper({ role: 'hold', name, plan: { outer: [], inner: [] } });
  const stop = addon().watch(pidfd, () => {
    stop();
    addon().reap(pidfd);
    closeSync(pidfd);
  });
  const nothing = () => undefined;
  const socket = ControlSocket.fromFd(controlFd, nothing, nothing);
  return {
    pid,
    keep: () => {
      socket.send({ type: 'START' });
      socket.end();
    },
    release: () => socket.close(),
  };
}
