import { BerthError } from '../../base/errors';

/** A place in a Dockerfile; lines are counted from 1. */
export interface Place {
  readonly line: number;
  readonly endLine: number;
}

/** A Dockerfile that says what cannot be done; `build.ts` adds its name and the lines. */
export class DockerfileError extends BerthError {
  constructor(
    readonly place: Place,
    message: string,
    options: { hint?: string; cause?: unknown } = {},
  ) {
    super('invalid_argument', message, options);
  }
}
