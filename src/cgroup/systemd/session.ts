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

/** systemd answers nobody while it reloads, which takes seconds with many units. */
const CALL_WITHIN_MS = 60_000;
const CONNECT_WITHIN_MS = 10_000;

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

/** A connection on which systemd tells of its jobs. */
export class Session {
  private constructor(
    private readonly connection: Connection,
    private readonly isBus: boolean,
  ) {}

  /** Connects to the first address that answers; throws what each of them said. */
  static async open(from: readonly Address[], events: SessionEvents): Promise<Session> {
    const failures: string[] = [];
    for (const { socket, isBus } of from) {
      try {
        return await Session.openAt(socket, isBus, events);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    throw new BerthError('unavailable', `systemd is not reached: ${failures.join('; ')}`);
  }

  private static async openAt(socket: string, isBus: boolean, events: SessionEvents): Promise<Session> {
    const onSignal = (signal: Message, connection: Connection) => {
      if (isJobRemoved(signal)) events.jobRemoved(...jobOf(signal));
      else if (isNewSystemd(signal)) {
        // It has forgotten who listens; where this fails, another new one is announced, or the connection's end.
        new Session(connection, isBus).subscribe().catch(() => undefined);
        events.interrupted();
      }
    };
    const connection = await Connection.open(socket, onSignal, CONNECT_WITHIN_MS);
    const session = new Session(connection, isBus);
    connection.whenClosed(() => events.interrupted());
    try {
      await session.introduce();
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

  /** A method of systemd's manager. */
  async call(member: string, signature: string, body: readonly Value[]): Promise<readonly Value[]> {
    return this.connection.call(
      { ...this.destination, path: MANAGER_PATH, interface: MANAGER, member, signature, body },
      CALL_WITHIN_MS,
    );
  }

  /** A property of an object's. */
  async property(path: string, of: string, name: string): Promise<Variant> {
    const get = { ...this.destination, path, interface: PROPERTIES, member: 'Get', signature: 'ss', body: [of, name] };
    const [variant] = await this.connection.call(get, CALL_WITHIN_MS);
    return variant as Variant;
  }

  async version(): Promise<string> {
    return textOf(await this.property(MANAGER_PATH, MANAGER, 'Version'));
  }

  private get destination(): { destination?: string } {
    return this.isBus ? { destination: SYSTEMD } : {};
  }

  /** All at once: the other side answers in order. */
  private async introduce(): Promise<void> {
    const first = this.isBus ? [this.bus('Hello'), this.match(JOB_REMOVED), this.match(NEW_SYSTEMD)] : [];
    await Promise.all([...first, this.subscribe()]);
  }

  private async subscribe(): Promise<void> {
    await this.call('Subscribe', '', []);
  }

  private async match(rule: string): Promise<void> {
    await this.bus('AddMatch', 's', [rule]);
  }

  private async bus(member: string, signature = '', body: readonly Value[] = []): Promise<void> {
    await this.connection.call({ ...BUS, member, signature, body }, CONNECT_WITHIN_MS);
  }
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

function isNewSystemd({ interface: of, member, signature, body }: Message): boolean {
  return (
    of === BUS.interface &&
    member === 'NameOwnerChanged' &&
    signature === 'sss' &&
    body[0] === SYSTEMD &&
    body[2] !== ''
  );
}

/** Throws `internal` for a property that is no text. */
export function textOf({ signature, value }: Variant): string {
  if (typeof value === 'string') return value;
  throw new BerthError('internal', `a property of systemd's is a text, and this one is of type ${signature}`);
}
