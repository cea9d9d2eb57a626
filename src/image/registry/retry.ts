import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '../../base/context';
import { errnoOf, messageOf } from '../../base/errors';

/** A registry that asks for more patience than this is not waited for. */
const retryAfterMaxMs = 30_000;

export function isBusy(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Waits before attempt `attempt + 1`; false when the registry wants a longer pause than anybody would wait. */
export async function pause(ctx: Context, attempt: number, firstMs: number, retryAfter: unknown): Promise<boolean> {
  const asked = typeof retryAfter === 'string' ? retryAfterMs(retryAfter) : undefined;
  if (asked !== undefined && asked > retryAfterMaxMs) return false;
  const full = firstMs * 2 ** (attempt - 1);
  const ms = asked ?? full / 2 + (Math.random() * full) / 2; // so that a hundred nodes do not come back at once
  await ctx.race(sleep(ms, undefined, { signal: ctx.signal }));
  return true;
}

/** Milliseconds of a Retry-After header: seconds or a date (RFC 9110, 10.2.3). */
function retryAfterMs(value: string): number | undefined {
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

/** Why there was no answer. A wrong certificate or an unknown name stays wrong: fatal. */
export function networkReason(error: unknown): { reason: string; fatal: boolean } {
  const code = errnoOf(error);
  const message = messageOf(error);
  const isOurs = code === undefined || message.includes(code) || /^ERR_(?!TLS|SSL)/.test(code);
  const fatal =
    code === 'ENOTFOUND' ||
    /CERT|SELF_SIGNED|ERR_TLS|ERR_SSL|UNABLE_TO|ERR_OSSL|^ERR_(REDIRECT|ENCODING|PROXY)$|UND_ERR_INVALID_ARG/.test(
      code ?? '',
    );
  return { reason: isOurs ? message : `${message} (${code})`, fatal };
}

export function times(count: number): string {
  if (count <= 2) return count === 1 ? 'once' : 'twice';
  return `${['no', 'one', 'two', 'three', 'four'][count] ?? count} times`;
}
