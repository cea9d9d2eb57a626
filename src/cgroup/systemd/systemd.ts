import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, messageOf } from '../../base/errors';
import { SingleFlight } from '../../base/single-flight';
import { ConnectionLost, RemoteError } from '../../dbus/connection';
import type { Value } from '../../dbus/values';
import { unitObject } from './names';
import type { Property } from './properties';
import { Session, textOf, type Address } from './session';

/** Below the limit of a CreateContainer, so that it can say what it waited for. systemd answers nobody while it reloads. */
const JOB_WITHIN_MS = 60_000;
/** A connection that is being made serves all who come meanwhile, whatever time they have. */
const CONNECTED_WITHIN_MS = 60_000;
/** A job of which nothing was heard for so long may have ended unheard, while systemd was reloaded or started anew. */
const LOOK_AFTER_MS = 5_000;
const RETRY_AFTER_MS = 50;
const RETRY_AT_MOST_EVERY_MS = 2_000;

/** `AllowedCPUs` and `AllowedMemoryNodes` came with it. */
const OLDEST_SYSTEMD = 244;

const UNIT = 'org.freedesktop.systemd1.Unit';

/** What a call gets whose other end went away, or is not there for a moment. */
const GONE_FOR_NOW = new Set(
  ['NoReply', 'Disconnected', 'ServiceUnknown', 'NameHasNoOwner', 'Timeout', 'TimedOut']
    .map(name => `org.freedesktop.DBus.Error.${name}`)
    .concat('org.freedesktop.systemd1.ShuttingDown', 'org.freedesktop.DBus.Error.Spawn.ChildExited'),
);

type ActiveState = 'active' | 'inactive' | 'failed' | 'under way';

/** Somebody who waits for a unit's job. */
interface Waiter {
  unit: string;
  /** Results that were heard of the unit, by job: one may come before the call's own reply. */
  results: Map<string, string>;
  wake: () => void;
}

/**
 * systemd over D-Bus: makes, changes and ends transient units, any number at a time. The connection is made when it is
 * needed, and made again when it was lost: a restart of the bus or of systemd (daemon-reexec) is waited out, and what it
 * has kept unheard is looked up. Errors are `unavailable` when systemd is not reached, `deadline_exceeded` when it does
 * not answer, and name the unit. Nothing takes longer than a minute.
 */
export class Systemd {
  private session: Session | undefined;
  private readonly opening = new SingleFlight<Session>();
  private isClosed = false;
  private readonly waiters = new Set<Waiter>();

  constructor(
    private readonly from: readonly Address[],
    private readonly lookAfterMs = LOOK_AFTER_MS,
  ) {}

  /** Its version, as a number. Throws `failed_precondition` for one that is too old. */
  async version(): Promise<number> {
    const until = Date.now() + JOB_WITHIN_MS;
    const text = await this.withSession(until, session => session.version(until));
    const version = Number(/\d+/.exec(text)?.[0] ?? 0);
    if (version >= OLDEST_SYSTEMD) return version;
    throw new BerthError('failed_precondition', `systemd ${text} is older than ${OLDEST_SYSTEMD}, which berth needs`, {
      hint: 'set runtime.cgroup_driver = "cgroupfs", here and in the kubelet',
    });
  }

  /** Makes a unit and waits until it is active; one that is active already is fine. */
  async start(unit: string, properties: readonly Property[]): Promise<void> {
    const body = [unit, 'replace', properties, []];
    await this.job(unit, 'StartTransientUnit', 'ssa(sv)a(sa(sv))', body, 'active', JOB_WITHIN_MS);
  }

  /** Ends a unit with all that runs in it, and waits until it has; one that is not there is fine. */
  async stop(unit: string, withinMs = JOB_WITHIN_MS): Promise<void> {
    await this.job(unit, 'StopUnit', 'ss', [unit, 'replace'], 'inactive', withinMs);
  }

  /** Changes properties of a unit until it ends; systemd keeps them over its reloads. */
  async setProperties(unit: string, properties: readonly Property[]): Promise<void> {
    if (properties.length === 0) return;
    try {
      const until = Date.now() + JOB_WITHIN_MS;
      const body = [unit, true, properties];
      await this.retried(until, session => session.call('SetUnitProperties', 'sba(sv)', body, until));
    } catch (error) {
      throw explained(`change ${properties.map(([name]) => name).join(', ')} of ${unit}`, error);
    }
  }

  /** What these properties of a scope or slice are now. */
  async properties(unit: string, names: readonly string[]): Promise<Property[]> {
    const of = `org.freedesktop.systemd1.${unit.endsWith('.scope') ? 'Scope' : 'Slice'}`;
    const until = Date.now() + JOB_WITHIN_MS;
    return Promise.all(
      names.map(async (name): Promise<Property> => {
        return [name, await this.retried(until, session => session.property(unitObject(unit), of, name, until))];
      }),
    );
  }

  close(): void {
    this.isClosed = true;
    this.session?.close();
  }

  /**
   * Asks for a job and waits for its end. What is asked for is a state of the unit: when the answer may have been lost,
   * the unit is looked at, and asked for again only if it is not in that state.
   */
  private async job(
    unit: string,
    method: 'StartTransientUnit' | 'StopUnit',
    signature: string,
    body: readonly Value[],
    wanted: 'active' | 'inactive',
    withinMs: number,
  ): Promise<void> {
    const until = Date.now() + withinMs;
    const what = `${wanted === 'active' ? 'start' : 'stop'} ${unit}`;
    const waiter: Waiter = { unit, results: new Map(), wake: () => undefined };
    this.waiters.add(waiter);
    try {
      const job = await this.ask(until, unit, wanted, session => session.call(method, signature, body, until));
      if (job !== undefined) await this.ended(until, waiter, job, wanted);
    } catch (error) {
      if (wanted === 'inactive' && isRemote(error, 'NoSuchUnit')) return;
      throw explained(what, error);
    } finally {
      this.waiters.delete(waiter);
    }
  }

  /** The job that was made; undefined when there is nothing left to do. */
  private async ask(
    until: number,
    unit: string,
    wanted: 'active' | 'inactive',
    call: (session: Session) => Promise<readonly Value[]>,
  ): Promise<string | undefined> {
    let isAgain = false;
    try {
      const [job] = await this.retried(until, async session => {
        if (isAgain && isReached(await stateOf(session, unit, until), wanted)) return [undefined as never];
        isAgain = true;
        return call(session);
      });
      return job as string | undefined;
    } catch (error) {
      // The first call was done, and its reply lost; or a slice is there from before.
      if (wanted === 'active' && isRemote(error, 'UnitExists')) return '';
      throw error;
    }
  }

  /** Waits for a job's result; `job` is empty when it is not known. */
  private async ended(until: number, waiter: Waiter, job: string, wanted: 'active' | 'inactive'): Promise<void> {
    for (;;) {
      const result = waiter.results.get(job);
      if (result === 'done') return;
      if (result !== undefined) throw failed(waiter.unit, `its job ended with "${result}"`);
      const wasWoken = await this.woken(waiter, job === '' ? 0 : Math.min(this.lookAfterMs, until - Date.now()));
      if (wasWoken && waiter.results.has(job)) continue;
      if (Date.now() > until) throw tooLate();
      const state = await this.retried(until, session => stateOf(session, waiter.unit, until));
      if (isReached(state, wanted)) return;
      if (state === 'failed' || (state === 'inactive' && job === '')) throw failed(waiter.unit, `it is ${state}`);
      if (job === '') await sleep(RETRY_AFTER_MS);
    }
  }

  private async woken(waiter: Waiter, ms: number): Promise<boolean> {
    if (ms <= 0) return false;
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve(false), ms);
      waiter.wake = () => (clearTimeout(timer), resolve(true));
    });
  }

  /** Again and again until there is a connection that lasts for the call. */
  private async retried<T>(until: number, call: (session: Session) => Promise<T>): Promise<T> {
    for (let waitMs = RETRY_AFTER_MS; ; waitMs = Math.min(waitMs * 2, RETRY_AT_MOST_EVERY_MS)) {
      try {
        return await this.withSession(until, call);
      } catch (error) {
        if (!isForNow(error) || Date.now() + waitMs > until) throw error;
        await sleep(waitMs);
      }
    }
  }

  private async withSession<T>(until: number, call: (session: Session) => Promise<T>): Promise<T> {
    const session = this.session?.isOpen ? this.session : await this.connected(until);
    return call(session);
  }

  /** One connection for all who come meanwhile, and its failure is everybody's; who has less time leaves sooner. */
  private async connected(until: number): Promise<Session> {
    const opening = this.opening.run('', async () => {
      const session = await Session.open(this.from, this, Date.now() + CONNECTED_WITHIN_MS);
      if (this.isClosed) session.close();
      return (this.session = session);
    });
    const timer = new AbortController();
    const late = sleep(Math.max(until - Date.now(), 0), undefined, { signal: timer.signal, ref: false }).then(() => {
      throw tooLate();
    });
    try {
      return await Promise.race([opening, late]);
    } finally {
      timer.abort();
    }
  }

  /** For the session: a signal of systemd's. */
  jobRemoved(job: string, unit: string, result: string): void {
    for (const waiter of this.waiters) {
      if (waiter.unit !== unit) continue;
      waiter.results.set(job, result);
      waiter.wake();
    }
  }

  /** For the session: everybody looks for himself. */
  interrupted(): void {
    for (const waiter of this.waiters) waiter.wake();
  }
}

async function stateOf(session: Session, unit: string, until: number): Promise<ActiveState> {
  const state = textOf(await session.property(unitObject(unit), UNIT, 'ActiveState', until));
  return state === 'active' || state === 'inactive' || state === 'failed' ? state : 'under way';
}

/** A unit that has failed does not run any more, either. */
function isReached(state: ActiveState, wanted: 'active' | 'inactive'): boolean {
  return state === wanted || (wanted === 'inactive' && state === 'failed');
}

function isRemote(error: unknown, name: string): boolean {
  return error instanceof RemoteError && error.errorName === `org.freedesktop.systemd1.${name}`;
}

function isForNow(error: unknown): boolean {
  if (error instanceof ConnectionLost) return true;
  if (error instanceof RemoteError) return GONE_FOR_NOW.has(error.errorName);
  return error instanceof BerthError && error.kind === 'unavailable';
}

/** Whether systemd cannot be asked now: nobody is there, or it does not answer in time. */
export function isOutOfReach(error: unknown): boolean {
  return error instanceof BerthError && (error.kind === 'unavailable' || error.kind === 'deadline_exceeded');
}

function failed(unit: string, why: string): BerthError {
  return new BerthError('internal', why, { hint: `see what it says: journalctl -u ${unit}` });
}

function tooLate(): BerthError {
  return new BerthError('deadline_exceeded', 'systemd has not done it in time', {
    hint: 'see what it does: systemctl list-jobs',
  });
}

function explained(what: string, error: unknown): BerthError {
  const kind = error instanceof BerthError ? error.kind : 'internal';
  return new BerthError(kind, `${what} through systemd: ${messageOf(error)}`, { cause: error });
}
