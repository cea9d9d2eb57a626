import { createInterface } from 'node:readline/promises';
import { BerthError } from '../base/errors';

/** Asks at a terminal whether to go on; elsewhere nobody could answer, so that it has to be said with -f. */
export async function confirm(force: boolean, what: string): Promise<void> {
  if (force) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new BerthError('failed_precondition', 'nobody can be asked whether to go on: stdin is not a terminal', {
      hint: 'say it with -f',
    });
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`${what} Go on? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new BerthError('cancelled', 'nothing was removed');
  } finally {
    lines.close();
  }
}
