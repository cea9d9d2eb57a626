import { BerthError } from './errors';

/** For each state, the states that may follow it. */
export type Moves<State extends string> = { readonly [from in State]: readonly State[] };

/** Throws `failed_precondition` naming both states unless `moves` allows going from one to the other. */
export function assertMove<State extends string>(moves: Moves<State>, what: string, from: State, to: State): void {
  if (moves[from].includes(to)) return;
  throw new BerthError('failed_precondition', `${what} is ${from} and cannot become ${to}`);
}
