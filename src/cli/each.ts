import { sentenceOf } from './errors';
import { print } from './output';

/**
 * Does the same to everything that was named, all at once, and prints what each act returned, in the order of the
 * names. What went wrong is said of each, and makes the exit code 1.
 */
export async function each(names: readonly string[], act: (name: string) => Promise<string>): Promise<void> {
  for (const result of await Promise.allSettled(names.map(act))) {
    if (result.status === 'fulfilled') await print(result.value);
    else complain(result.reason);
  }
}

/** Says that one of several did not go well. */
export function complain(error: unknown): void {
  process.stderr.write(sentenceOf(error));
  process.exitCode = 1;
}
