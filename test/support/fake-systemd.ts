import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { basename, join } from 'node:path';
import { readIfThere, treeOf } from '../../src/cgroup/files';
import { slicePath, unitObject } from '../../src/cgroup/systemd/names';
import { decodeMessage, encodeMessage, type Message } from '../../src/dbus/message';
import type { Value, Variant } from '../../src/dbus/values';

interface Unit {
  path: string;
  state: 'active' | 'inactive' | 'failed';
  properties: Map<string, Variant>;
}

class Refusal extends Error {
  constructor(
    readonly errorName: string,
    message: string,
  ) {
    super(message);
  }
}

const BUS = 'org.freedesktop.DBus';
const SYSTEMD = 'org.freedesktop.systemd1';

/** The hierarchies of v1 that systemd puts processes into. */
const V1_OF_SYSTEMD = /^(cpu|cpuacct|cpu,cpuacct|memory|pids|devices|blkio|systemd)$/;
const LOOK_EVERY_MS = 10;

/** Nothing goes wrong. */
export function noFaults() {
  return {
    /** Jobs end and no signal says so. */
    losesSignals: false,
    /** Replies to method calls are kept until this many are. */
    answersInBunchesOf: 1,
    /** The connection is cut before the next job's reply. */
    cutsNextJob: false,
    /** The next job ends with this result, and its unit fails. */
    nextResult: '',
    /** The next call of this member is refused. */
    refuses: '',
    /** Somebody else on the bus tells that he is systemd, and that a job has failed; systemd does not say how it ended. */
    isImitated: false,
    /** No call is answered. */
    isSilent: false,
  };
}

/**
 * A bus with nobody on it but systemd, or what berth needs of it: it makes scopes around processes and slices in real
 * cgroup trees, and, as systemd does, ends a scope when its last process has gone and refuses one without any.
 */
export class FakeSystemd {
  /** Members of calls as they came. */
  readonly calls: string[] = [];
  readonly units = new Map<string, Unit>();
  /** How often it has looked for scopes without processes. */
  looks = 0;
  /** What goes wrong; each may be set at any time. */
  readonly faults = noFaults();
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  private kept: (() => void)[] = [];
  private jobs = 0;
  /** Its name on the bus is `:1.` and this. */
  private life = 0;
  private serial = 0;
  private readonly timer = setInterval(() => this.endEmptyScopes(), LOOK_EVERY_MS).unref();

  private constructor(
    readonly socketPath: string,
    /** Of the hierarchies that it works in. */
    private readonly roots: readonly string[],
  ) {}

  /** @param roots a directory for each hierarchy of the host */
  static async start(socketPath: string, roots: readonly string[]): Promise<FakeSystemd> {
    const isItsOwn = (root: string) => existsSync(join(root, 'cgroup.events')) || V1_OF_SYSTEMD.test(nameOf(root));
    const fake = new FakeSystemd(socketPath, roots.filter(isItsOwn));
    await fake.listen();
    return fake;
  }

  get address(): string {
    return `unix:path=${this.socketPath}`;
  }

  /** Everybody is cut off, and for a while nobody gets through. */
  async stopListening(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
    const closed = this.server && once(this.server, 'close');
    this.server?.close();
    await closed;
    rmSync(this.socketPath, { force: true });
  }

  async listen(): Promise<void> {
    this.server = createServer(socket => this.serve(socket)).listen(this.socketPath);
    await once(this.server, 'listening');
  }

  /** As after daemon-reexec: another owner of its name, which knows of all units and of nobody who listens. */
  reexecute(): void {
    this.life++;
    this.tellOwner(BUS, this.owner);
  }

  private get owner(): string {
    return `:1.${this.life}`;
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.stopListening();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    let received: Buffer = Buffer.alloc(0);
    let isAuthenticated = false;
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk]);
      if (!isAuthenticated) {
        if (received.includes('AUTH EXTERNAL') && !received.includes('BEGIN')) socket.write('OK 0123456789abcdef\r\n');
        const begin = received.indexOf('BEGIN\r\n');
        if (begin < 0) return;
        isAuthenticated = true;
        received = received.subarray(begin + 7);
      }
      for (let next; (next = decodeMessage(received)) !== undefined;) {
        received = received.subarray(next.length);
        this.take(socket, next.message);
      }
    });
  }

  private take(socket: Socket, message: Message): void {
    const { member = '', serial, interface: of } = message;
    this.calls.push(member);
    if (this.faults.isSilent) return;
    const reply = (answer: Partial<Message>) =>
      this.answer(() =>
        socket.write(
          encodeMessage({
            type: 'reply',
            serial: ++this.serial,
            replySerial: serial,
            signature: '',
            body: [],
            ...answer,
          }),
        ),
      );
    try {
      if (member === this.faults.refuses) {
        this.faults.refuses = '';
        throw new Refusal('org.freedesktop.DBus.Error.InvalidArgs', `${member} is refused`);
      }
      if (of === BUS) return reply(this.handleForBus(member));
      const [answer, afterwards] = this.handle(message);
      if (afterwards && this.faults.cutsNextJob) {
        this.faults.cutsNextJob = false;
        afterwards();
        socket.destroy();
        return;
      }
      reply(answer);
      if (afterwards) this.answer(afterwards);
    } catch (error) {
      const errorName = error instanceof Refusal ? error.errorName : 'org.freedesktop.DBus.Error.Failed';
      const text = error instanceof Error ? error.message : String(error);
      reply({ type: 'error', errorName, signature: 's', body: [text] });
    }
  }

  private answer(write: () => void): void {
    this.kept.push(write);
    const replies = this.kept.length;
    if (replies < this.faults.answersInBunchesOf) return;
    for (const go of this.kept.splice(0)) go();
  }

  private handleForBus(member: string): Partial<Message> {
    if (member === 'Hello') return { signature: 's', body: [':1.700'] };
    return member === 'GetNameOwner' ? { signature: 's', body: [this.owner] } : {};
  }

  private handle({ member = '', body, path = '' }: Message): [answer: Partial<Message>, afterwards?: () => void] {
    switch (member) {
      case 'StartTransientUnit': {
        const [name, , properties] = body as [string, string, [string, Variant][]];
        return this.job(name, this.startUnit(name, new Map(properties)));
      }
      case 'StopUnit': {
        const [name] = body as [string];
        const unit = this.found(name);
        this.end(name, unit);
        return this.job(name, 'done');
      }
      case 'SetUnitProperties': {
        const [name, , properties] = body as [string, boolean, [string, Variant][]];
        const unit = this.found(name);
        for (const [key, value] of properties) unit.properties.set(key, value);
        return [{}];
      }
      case 'Get': {
        const [, name] = body as [string, string];
        return [{ signature: 'v', body: [this.property(path, name)] }];
      }
      default:
        return [{}];
    }
  }

  private property(path: string, name: string): Variant {
    if (name === 'Version') return { signature: 's', value: '252.99-1~fake' };
    const unit = [...this.units].find(([unitName]) => unitObject(unitName) === path)?.[1];
    if (name === 'ActiveState') return { signature: 's', value: unit?.state ?? 'inactive' };
    return unit?.properties.get(name) ?? { signature: 't', value: 2n ** 64n - 1n };
  }

  private startUnit(name: string, properties: Map<string, Variant>): string {
    if (this.units.has(name)) throw new Refusal('org.freedesktop.systemd1.UnitExists', `Unit ${name} already exists.`);
    const pids = (properties.get('PIDs')?.value ?? []) as number[];
    const isScope = name.endsWith('.scope');
    if (isScope && pids.length === 0)
      throw new Refusal('org.freedesktop.DBus.Error.Failed', 'Scope has no PIDs. Refusing.');
    const slice = slicePath(isScope ? (properties.get('Slice')?.value as string) : name);
    const unit: Unit = { path: isScope ? `${slice}/${name}` : slice, state: 'active', properties };
    this.units.set(name, unit);
    const result = this.faults.nextResult || 'done';
    this.faults.nextResult = '';
    if (result !== 'done') {
      unit.state = 'failed';
      if (properties.get('CollectMode')?.value === 'inactive-or-failed') this.units.delete(name);
      return result;
    }
    for (const root of this.roots) {
      mkdirSync(join(root, unit.path), { recursive: true });
      for (const pid of pids) writeFileSync(join(root, unit.path, 'cgroup.procs'), String(pid));
    }
    return 'done';
  }

  private job(unit: string, result: string): [answer: Partial<Message>, afterwards: () => void] {
    const job = `/org/freedesktop/systemd1/job/${++this.jobs}`;
    const removed = () => {
      if (this.faults.losesSignals) return;
      if (this.faults.isImitated) {
        this.tellOwner(':1.666', ':1.666');
        return this.tellRemoved(':1.666', [this.jobs, job, unit, 'failed']);
      }
      this.tellRemoved(this.owner, [this.jobs, job, unit, result]);
    };
    return [{ signature: 'o', body: [job] }, removed];
  }

  private tellOwner(sender: string, owner: string): void {
    const body = [SYSTEMD, ':1.0', owner];
    this.signal({ sender, path: '/org/freedesktop/DBus', interface: BUS, member: 'NameOwnerChanged' }, 'sss', body);
  }

  private tellRemoved(sender: string, body: Value[]): void {
    const of = { path: '/org/freedesktop/systemd1', interface: `${SYSTEMD}.Manager`, member: 'JobRemoved' };
    this.signal({ sender, ...of }, 'uoss', body);
  }

  private signal(header: Partial<Message>, signature: string, body: Value[]): void {
    const bytes = encodeMessage({ type: 'signal', serial: ++this.serial, ...header, signature, body });
    for (const socket of this.sockets) socket.write(bytes);
  }

  private found(name: string): Unit {
    const unit = this.units.get(name);
    if (!unit) throw new Refusal('org.freedesktop.systemd1.NoSuchUnit', `Unit ${name} not loaded.`);
    return unit;
  }

  private endEmptyScopes(): void {
    this.looks++;
    for (const [name, unit] of this.units) {
      if (name.endsWith('.scope') && unit.state === 'active' && !this.isPopulated(unit)) this.end(name, unit);
    }
  }

  private isPopulated({ path }: Unit): boolean {
    return this.roots.some(root =>
      [...treeOf(join(root, path))].some(dir => readIfThere(join(dir, 'cgroup.procs')) !== ''),
    );
  }

  private end(name: string, { path }: Unit): void {
    this.units.delete(name);
    for (const root of this.roots) removeEmptyTree(join(root, path));
  }
}

/** Of the hierarchy that a directory is in: a mount point is called after it. */
function nameOf(root: string): string {
  return basename(join(root, '..'));
}

/** As far as it is empty. */
function removeEmptyTree(dir: string): void {
  for (const at of [...treeOf(dir)].reverse()) {
    try {
      rmdirSync(at);
    } catch {
      // It is left to whoever has put something there.
    }
  }
}
