import { messageOf } from '../base/errors';

/** How a command ended: its exit code, none to tell, or why it could not be run. */
export type Outcome = { exitCode: number | undefined } | { error: unknown };

/** The outcome as clients of protocol version 4 and later read it on the error stream: a v1.Status in JSON. */
export function statusJson(outcome: Outcome): string {
  if ('error' in outcome) return JSON.stringify(failure(messageOf(outcome.error)));
  const { exitCode = 0 } = outcome;
  return JSON.stringify(exitCode === 0 ? { metadata: {}, status: 'Success' } : nonZero(exitCode));
}

/** The same for older clients, who know text only; empty: it went well. */
export function statusText(outcome: Outcome): string {
  if ('error' in outcome) return messageOf(outcome.error);
  const { exitCode = 0 } = outcome;
  return exitCode === 0 ? '' : `command terminated with exit code ${exitCode}`;
}

function nonZero(exitCode: number): object {
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit code ${exitCode}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  };
}

function failure(message: string): object {
  return {
    metadata: {},
    status: 'Failure',
    message: `Internal error occurred: ${message}`,
    reason: 'InternalError',
    details: { causes: [{ message }] },
    code: 500,
  };
}
