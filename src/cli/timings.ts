import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { complain } from './each';
import { table } from './format/table';
import { print } from './output';

/** One step of `timings` in a container's JSON. */
interface Row {
  call: string;
  by: string;
  step: string;
  /** Since the call began. */
  atUs: number;
  us: number;
}

/** Prints for each container where the time of its start went, and says of those that are not there why. */
export async function showTimings(daemon: Daemon, names: readonly string[]): Promise<void> {
  for (const name of names) {
    try {
      const { json } = await daemon.ask(BerthService.inspectContainer, { container: name });
      const { timings } = JSON.parse(json) as { timings: Row[] };
      await print(text(timings));
    } catch (error) {
      complain(error);
    }
  }
}

function text(rows: readonly Row[]): string {
  if (rows.length === 0) return 'nothing was measured: an older version made it\n';
  const cells = rows.map(({ call, by, step, atUs, us }) => [call, by, ms(atUs), ms(us), step]);
  return table(['CALL', 'BY', 'AT MS', 'TOOK MS', 'STEP'], cells);
}

function ms(us: number): string {
  return (us / 1000).toFixed(3);
}
