import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { copyLogs } from './logs';
import { forwardSignals } from './signals';

/**
 * Starts a container that is watched already, so that nothing of it is missed, and returns its exit code. Of what earlier
 * runs of it have written, these last lines are shown.
 */
export async function startInForeground(
  daemon: Daemon,
  container: string,
  sigProxy: boolean,
  tail?: bigint,
): Promise<number> {
  const logs = daemon.open(BerthService.logs, { container, follow: true, tail, sinceNs: 0n });
  const exit = daemon.begin(BerthService.wait, { container });
  const started = Promise.all([logs.watching, exit.watching]).then(() => daemon.ask(BerthService.start, { container }));
  const forward = async (signal: string) => {
    await started;
    await daemon.ask(BerthService.kill, { container, signal });
  };
  using _signals = sigProxy ? forwardSignals(forward) : undefined;
  const ended = Promise.all([exit.reply, copyLogs(logs, false)]);
  // When the start fails these two fail after it, and say less.
  ended.catch(() => undefined);
  await started;
  const [{ exitCode }] = await ended;
  return exitCode;
}
