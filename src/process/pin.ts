import { ControlSocket } from '../native/control';
import { startHelper } from '../native/helper';
import { fileCalls } from '../native/file-calls';
import type { HelperMessage, LaunchPlan } from '../native/plan-ops';
import { BerthError } from '../base/errors';
import { deferred } from './deferred';
import { launchError } from './launch-failure';
import { reapWhenEnded } from './reap';

/** The pod's init, when it has one. */
interface Pause {
  pid: number;
  pidStartTime: bigint;
}

/** What was pinned. The pod's init ends with `release`, and with this process, unless `keep` was called before. */
export interface Pinned {
  pause: Pause | undefined;
  keep(): void;
  release(): void;
}

/** What the helper sent before it ended has arrived by then. */
const LAST_WORD_MS = 1000;

/** Makes and pins namespaces as the plan's outer section says; `pause` is undefined when it starts no pause process. */
export async function pinNamespaces(plan: LaunchPlan, name: string): Promise<Pinned> {
  const helper = await startHelper({ role: 'pin', name, plan });
  const heard = deferred<HelperMessage | undefined>();
  // A pod's init that it started has a copy of the socket: when the helper dies before its word, no end comes that way.
  reapWhenEnded(helper.pidfd, () => setTimeout(() => heard.resolve(undefined), LAST_WORD_MS).unref());
  const socket = ControlSocket.fromFd(
    helper.controlFd,
    message => heard.resolve(message),
    () => heard.resolve(undefined),
  );
  const message = await heard.promise;
  const keep = () => {
    socket.send({ type: 'START' });
    socket.end();
  };
  if (message?.type === 'DONE') {
    const pause = { pid: message.pausePid, pidStartTime: message.pauseStartTime };
    return { pause: message.pausePid === 0 ? undefined : pause, keep, release: () => socket.close() };
  }
  socket.close();
  if (message?.type === 'FAILED') throw launchError(message, plan);
  throw new BerthError('internal', 'the helper that pins namespaces ended without a word');
}

/** Unmounts pins or any other mounts; those that are not mounted, or not there, are fine. Throws the first failure, once all were tried. */
export async function unmountAll(paths: readonly string[]): Promise<void> {
  for (const failure of await fileCalls(paths.map(path => ({ call: 'umount', path })))) {
    if (failure.code === 'EINVAL' || failure.code === 'ENOENT') continue;
    throw new BerthError('internal', `unmount ${failure.call.path}: ${failure.code}`);
  }
}
