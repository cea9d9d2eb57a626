/**
 * `berth`: argv in, a daemon's answers out. The order of reading: verbs.ts (what there is), program.ts (how a verb gets
 * its options), run.ts (the longest of them), client.ts (the wire).
 */
import { CommanderError } from 'commander';
import { exitCodeOf, sentenceOf } from './errors';
import { endQuietlyOnBrokenPipe, flush } from './output';
import { makeProgram, withoutHelpVerb } from './program';

async function main(args: readonly string[]): Promise<void> {
  endQuietlyOnBrokenPipe();
  let errorCode = 1;
  const program = makeProgram(verb => (errorCode = verb.errorCode));
  try {
    await program.parseAsync(withoutHelpVerb(args), { from: 'user' });
  } catch (error) {
    process.exitCode = report(error, errorCode);
  }
  await flush();
  // Calls that nobody waits for any more, and a stdin that is open, would keep the process.
  process.exit();
}

/** Says what went wrong, unless commander has, and returns the exit code for it. */
function report(error: unknown, errorCode: number): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : errorCode;
  process.stderr.write(sentenceOf(error));
  return exitCodeOf(error, errorCode);
}

void main(process.argv.slice(2));
