import type { CommandTarget, RemoteProcess, Sink } from './backend';
import type { Outcome } from './status';

/** One client of an exec or attach, whatever it is connected by. */
export interface RemoteClient {
  /** Aborts when it has gone. */
  readonly gone: AbortSignal;
  readonly sink: Sink;
  /** Its input goes to this process from here on; what came before was held. */
  feed(process: RemoteProcess): void;
  /**
   * Tells how it ended, in the order that clients need: no more input, the outcome, the ends of the outputs; then waits
   * for the client to close, since closing first would cut off what is on its way.
   */
  finish(outcome: Outcome): Promise<void>;
}

/** Exec and attach: runs the request to its end, and tells the client how it was. */
export async function serveCommand(client: RemoteClient, target: CommandTarget): Promise<void> {
  await client.finish(await outcomeOf(client, target));
}

async function outcomeOf(client: RemoteClient, target: CommandTarget): Promise<Outcome> {
  try {
    const process = await target.open(client.sink, client.gone);
    client.feed(process);
    return { exitCode: await process.ended };
  } catch (error) {
    return { error };
  }
}
