import { BerthError, messageOf } from '../../base/errors';
import { Connection } from '../../dbus/connection';
import type { Message } from '../../dbus/message';
import type { Value, Variant } from '../../dbus/values';

const SYSTEMD = 'org.freedesktop.systemd1';
const MANAGER_PATH = '/org/freedesktop/systemd1';
const MANAGER = 'org.freedesktop.systemd1.Manager';
const PROPERTIES = 'org.freedesktop.DBus.Properties';
const BUS = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' };

const SYSTEM_BUS = '/run/dbus/system_bus_socket';
/** systemd's own, for when there is no bus, or not yet: the same calls, and all signals. */
const PRIVATE_SOCKET = '/run/systemd/private';

const CONNECT_WITHIN_MS = 10_000;
/** systemd answers nobody while it reloads, which takes seconds with many units. */
const SUBSCRIBE_WITHIN_MS = 60_000;

export interface SessionEvents {
  /** A job has ended. */
  jobRemoved(job: string, unit: string, result: string): void;
  /** Something may have been missed: systemd was started anew, or the connection is gone. */
  interrupted(): void;
}

/** Where systemd may be spoken to, the best first. */
export interface Address {
  socket: string;
  isBus: boolean;
}

export function addresses(environment: NodeJS.ProcessEnv): Address[] {
  const given = environment['DBUS_SYSTEM_BUS_ADDRESS'];
  if (given === undefined || given === '') {
    return [
      { socket: SYSTEM_BUS, isBus: true },
      { socket: PRIVATE_SOCKET, isBus: false },
    ];
  }
  // The first that is a path; its other keys (guid=…) are for who has several.
  const path = /(?:^|;)unix:(?:[^;]*,)?path=([^,;]+)/.exec(given)?.[1];
  if (path !== undefined) return [{ socket: decodeURIComponent(path), isBus: true }];
  throw new BerthError('invalid_argument', `DBUS_SYSTEM_BUS_ADDRESS=${given} names no unix socket by its path`, {
    hint: 'set it to unix:path=/…, or unset it',
  });
}

/**
 * A connection on which systemd tells of its jobs. On a bus anybody may send anybody a signal that looks like one of
 * systemd's: it is believed from the connection alone that the bus says is systemd's, and the bus's own from the bus.
 */
export class Session {
  /** Systemd's name on the bus; empty while it has none, undefined before the bus has said. */
  private owner: string | undefined;

  private constructor(
    private readonly connection: Connection,
    private readonly isBus: boolean,
    private readonly events: SessionEvents,
  ) {}

  /**
   * Connects to the first address that answers; throws what each of them said.
   *
   * @param until when to give up, in milliseconds since 1970
   */
  static async open(from: readonly Address[], events: SessionEvents, until: number): Promise<Session> {
    const failures: string[] = [];
    for (const address of from) {
      try {
        return await Session.openAt(address, events, until);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    throw new BerthError('unavailable', `systemd is not reached: ${failures.join('; ')}`, {
      hint: 'see whether it and the bus are up: systemctl status dbus',
    });
  }

  private static async openAt({ socket, isBus }: Address, events: SessionEvents, until: number): Promise<Session> {
    // systemd's own socket has signals at once, of jobs that are not asked for here.
    let session: Session | undefined = undefined;
    const onSignal = (signal: Message) => session?.hear(signal);
    const connection = await Connection.open(socket, onSignal, Math.min(CONNECT_WITHIN_MS, leftUntil(until)));
    session = new Session(connection, isBus, events);
    connection.whenClosed(() => events.interrupted());
    try {
      await session.introduce(until);
      return session;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.connection.isOpen;
  }

  close(): void {
    this.connection.close();
  }

  /** A method of systemd's manager, answered before `until`, in milliseconds since 1970. */
  async call(member: string, signature: string, body: readonly Value[], until: number): Promise<readonly Value[]> {
    return this.connection.call(
      { ...this.destination, path: MANAGER_PATH, interface: MANAGER, member, signature, body },
      leftUntil(until),
    );
  }

  /** A property of an object's. */
  async property(path: string, of: string, name: string, until: number): Promise<Variant> {
    const get = { ...this.destination, path, interface: PROPERTIES, member: 'Get', signature: 'ss', body: [of, name] };
    const [variant] = await this.connection.call(get, leftUntil(until));
    return variant as Variant;
  }

  async version(until: number): Promise<string> {
    return textOf(await this.property(MANAGER_PATH, MANAGER, 'Version', until));
  }

  private get destination(): { destination?: string } {
    return this.isBus ? { destination: SYSTEMD } : {};
  }

  /** All at once: the other side answers in order. */
  private async introduce(until: number): Promise<void> {
    const onBus = () => [this.bus('Hello'), this.match(JOB_REMOVED), this.match(NEW_SYSTEMD), this.findOwner()];
    await Promise.all([...(this.isBus ? onBus() : []), this.subscribe(until)]);
  }

  /** Asked for after the matches: whoever takes the name later is announced. */
  private async findOwner(): Promise<void> {
    const [owner] = await this.bus('GetNameOwner', 's', [SYSTEMD]);
    // What was announced meanwhile is newer.
    this.owner ??= owner as string;
  }

  private async subscribe(until: number): Promise<void> {
    await this.call('Subscribe', '', [], until);
  }

  private async match(rule: string): Promise<void> {
    await this.bus('AddMatch', 's', [rule]);
  }

  private async bus(member: string, signature = '', body: readonly Value[] = []): Promise<readonly Value[]> {
    return this.connection.call({ ...BUS, member, signature, body }, CONNECT_WITHIN_MS);
  }

  private hear(signal: Message): void {
    if (isJobRemoved(signal) && (!this.isBus || signal.sender === this.owner)) {
      this.events.jobRemoved(...jobOf(signal));
    } else if (this.isBus && isOwnerChange(signal) && signal.sender === BUS.destination) {
      this.owner = signal.body[2] as string;
      if (this.owner !== '') this.meetAgain();
    }
  }

  /** A new systemd has forgotten who listens. Where this fails, another new one is announced, or the connection's end. */
  private meetAgain(): void {
    this.subscribe(Date.now() + SUBSCRIBE_WITHIN_MS).catch(() => undefined);
    this.events.interrupted();
  }
}

function leftUntil(until: number): number {
  return Math.max(until - Date.now(), 0);
}

const JOB_REMOVED = `type='signal',sender='${SYSTEMD}',path='${MANAGER_PATH}',interface='${MANAGER}',member='JobRemoved'`;
const NEW_SYSTEMD = `type='signal',sender='${BUS.destination}',member='NameOwnerChanged',arg0='${SYSTEMD}'`;

function isJobRemoved({ interface: of, member, signature }: Message): boolean {
  return of === MANAGER && member === 'JobRemoved' && signature === 'uoss';
}

function jobOf({ body }: Message): [job: string, unit: string, result: string] {
  const [, job, unit, result] = body as [number, string, string, string];
  return [job, unit, result];
}

function isOwnerChange({ interface: of, member, signature, body }: Message): boolean {
  return of === BUS.interface && member === 'NameOwnerChanged' && signature === 'sss' && body[0] === SYSTEMD;
}

/** Throws `internal` for a property that is no text. */
export function textOf({ signature, value }: Variant): string {
  if (typeof value === 'string') return value;
  throw new BerthError('internal', `a property of systemd's is a text, and this one is of type ${signature}`);
}
