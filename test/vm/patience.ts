/**
 * Loaded by mocha in the guest, whose processors are a small part as fast as the machine's: a test's time-out, when it
 * is read, is that much longer than what was set.
 */
import { Runnable } from 'mocha';

const FACTOR = 5;

const timeout = Reflect.get(Runnable.prototype, 'timeout') as (this: Runnable, ms?: number | string) => number;

Reflect.set(Runnable.prototype, 'timeout', function (this: Runnable, ...ms: [] | [number | string]) {
  return ms.length === 0 ? timeout.call(this) * FACTOR : timeout.apply(this, ms);
});
