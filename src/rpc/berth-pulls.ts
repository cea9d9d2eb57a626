import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal } from '../base/any-signal';
import type { Context } from '../base/context';
import {
  RunningPull_Operation as BerthOperation,
  RunningPull_Outcome as BerthOutcome,
  type BerthServer,
  type PullsRequest,
  type PullsResponse,
  type RunningPull,
} from '../cri/generated/berth/v1/berth';
import type { Operation, Outcome, PullBook, PullStatus } from '../image/pulls';
import { layerProgress } from './berth-progress';
import type { BerthParts } from './berth-service';
import { serverStream, unary } from './handler';

/** Five times a second is as much as anybody reads. */
const MIN_INTERVAL_MS = 200;
/** Rates fall while nothing changes. */
const MAX_INTERVAL_MS = 1000;

export function pullRpcs({ log, images }: BerthParts) {
  return {
    pulls: unary(log, 'Pulls', () => response(images.book)),
    watchPulls: serverStream<PullsRequest, PullsResponse>(log, 'WatchPulls', (_, ctx, send) =>
      watch(images.book, ctx, send),
    ),
  } satisfies Partial<BerthServer>;
}

async function watch(book: PullBook, ctx: Context, send: (response: PullsResponse) => Promise<void>): Promise<void> {
  while (!ctx.signal.aborted) {
    const now = response(book);
    await send(now);
    await pause(MIN_INTERVAL_MS, ctx.signal);
    const isMoving = now.pulls.some(({ outcome }) => outcome === BerthOutcome.RUNNING);
    await changeOrPause(book, isMoving ? MAX_INTERVAL_MS : undefined, ctx.signal);
  }
}

async function changeOrPause(book: PullBook, ms: number | undefined, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const either = anySignal([signal, over.signal]);
  try {
    await Promise.race([book.nextChange(either), ...(ms === undefined ? [] : [pause(ms, either)])]);
  } finally {
    over.abort();
  }
}

/** Ends early, and well, when the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

function response(book: PullBook): PullsResponse {
  return { pulls: book.list().map(runningPull) };
}

function runningPull(pull: PullStatus): RunningPull {
  return {
    id: pull.id,
    reference: pull.reference,
    operation: OPERATIONS[pull.operation],
    askedBy: [...pull.askedBy],
    startedAtNs: toNs(pull.startedAtMs),
    endedAtNs: pull.endedAtMs === undefined ? 0n : toNs(pull.endedAtMs),
    stage: pull.stage,
    layers: pull.layers.map(layerProgress),
    doneBytes: BigInt(pull.doneBytes),
    totalBytes: BigInt(pull.totalBytes),
    bytesPerSecond: BigInt(pull.bytesPerSecond),
    remainingSeconds: BigInt(pull.remainingSeconds ?? -1),
    outcome: pull.outcome === undefined ? BerthOutcome.RUNNING : OUTCOMES[pull.outcome],
    error: pull.error ?? '',
    imageId: pull.imageId ?? '',
  };
}

const OPERATIONS: Readonly<Record<Operation, BerthOperation>> = {
  pull: BerthOperation.PULL,
  load: BerthOperation.LOAD,
  import: BerthOperation.IMPORT,
};

const OUTCOMES: Readonly<Record<Outcome, BerthOutcome>> = {
  succeeded: BerthOutcome.SUCCEEDED,
  failed: BerthOutcome.FAILED,
  cancelled: BerthOutcome.CANCELLED,
};

function toNs(ms: number): bigint {
  return BigInt(ms) * 1_000_000n;
}
