/**
 * Loaded by mocha where tests have company or slow processors: a test's time-out, when it is read, is longer than what was
 * set.
 */
import { Runnable } from 'mocha';
import { patience } from './patience';

const timeout = Reflect.get(Runnable.prototype, 'timeout') as (this: Runnable, ms?: number | string) => number;

Reflect.set(Runnable.prototype, 'timeout', function (this: Runnable, ...ms: [] | [number | string]) {
  return ms.length === 0 ? timeout.call(this) * patience : timeout.apply(this, ms);
});
