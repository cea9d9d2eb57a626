import { writeSync } from 'node:fs';
import winston from 'winston';
import Transport from 'winston-transport';
import { errnoOf, redact } from './errors';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

export type LogFormat = 'text' | 'json';
type LogFields = Record<string, unknown>;

export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** The same log with these fields on every line. */
  with(fields: LogFields): Logger;
}

/**
 * A transport that has written the line when `log` returns: winston's own file
 * and stream transports lose lines when the process exits right after.
 */
class StderrTransport extends Transport {
  /** The reader does not read: lines are dropped, without waiting, until one gets through. */
  private isStuck = false;

  override log(info: Record<symbol | string, unknown>, next: () => void): void {
    let rest = Buffer.from(`${String(info[Symbol.for('message')])}\n`);
    const giveUpAt = this.isStuck ? 0 : performance.now() + STUCK_AFTER_MS;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(2, rest));
        this.isStuck = false;
      } catch (error) {
        // Closed (EPIPE) or, when somebody made it non-blocking, full (EAGAIN): no reason for the daemon to end.
        this.isStuck = errnoOf(error) !== 'EAGAIN' || performance.now() > giveUpAt;
        if (this.isStuck) break;
        Atomics.wait(SLEEP, 0, 0, 1);
      }
    }
    next();
  }
}

/** A reader that is only slow has taken something after this long. */
const STUCK_AFTER_MS = 100;
const SLEEP = new Int32Array(new SharedArrayBuffer(4));

/** A logger that writes one line per message to stderr, synchronously; `json` has one object a line. */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  const { combine, timestamp, json, printf } = winston.format;
  const text = printf(({ timestamp: at, level: lvl, message, ...fields }) => {
    const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`);
    return `${String(at)} ${lvl.toUpperCase().padEnd(5)} ${String(message)}${rest.join('')}`;
  });
  const inner = winston.createLogger({
    level,
    format: combine(timestamp(), format === 'json' ? json({ replacer: jsonable }) : text),
    transports: [new StderrTransport()],
  });
  return wrap(inner, new Set(LEVELS.slice(0, LEVELS.indexOf(level) + 1)));
}

/** What is not written costs nothing: winston takes a line through all of its streams before it drops it. */
function wrap(inner: winston.Logger, written: ReadonlySet<LogLevel>): Logger {
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
    if (written.has(level)) inner.log(level, redact(message), fields);
  };
  return {
    error: at('error'),
    warn: at('warn'),
    info: at('info'),
    debug: at('debug'),
    with: fields => wrap(inner.child(fields), written),
  };
}

function plain(value: unknown): string {
  if (typeof value === 'string') return /[\s"=]/.test(value) ? JSON.stringify(redact(value)) : redact(value);
  if (typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean') return String(value);
  return JSON.stringify(value, jsonable);
}

function jsonable(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Error) return redact(value.message);
  return value;
}

/** A logger that says nothing; for tests and for library use of single modules. */
export const silentLogger: Logger = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  with: () => silentLogger,
};
