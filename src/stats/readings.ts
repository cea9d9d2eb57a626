import type { Cgroups } from '../cgroup/groups';
import type { Usage } from '../cgroup/usage';
import type { Logger } from '../base/log';
import { readAhead } from '../base/read-ahead';
import type { Container, Containers } from '../container/containers';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { CpuRate } from './cpu-rate';
import { readNetworks, type InterfaceCounters } from './networks';
import { WritableLayers, type Written } from './writable-layers';

/** What is read, and then put into an answer, in one go: about a millisecond of each. */
const AT_A_TIME = 64;

/** What a container used at a moment. */
export interface ContainerReading {
  container: Container;
  atMs: number;
  /** Undefined when it does not run. */
  usage: Usage | undefined;
  /** Billionths of a core; undefined at its first reading. */
  nanoCores: number | undefined;
  written: Written | undefined;
}

/** What a pod used, and each of its containers. */
export interface PodReading {
  sandbox: Sandbox;
  atMs: number;
  usage: Usage | undefined;
  nanoCores: number | undefined;
  /** Undefined where the pod's network is the host's. */
  interfaces: readonly InterfaceCounters[] | undefined;
  containers: readonly ContainerReading[];
}

/** Reads what containers and pods use, of all that are asked for together. */
export class Readings {
  readonly layers: WritableLayers;
  private readonly rates = new WeakMap<Container | Sandbox, CpuRate>();

  constructor(
    private readonly sandboxes: Sandboxes,
    private readonly containersOfAll: Containers,
    private readonly cgroups: Cgroups,
    log: Logger,
  ) {
    this.layers = new WritableLayers(containersOfAll, log);
  }

  async containers(some: readonly Container[]): Promise<ContainerReading[]> {
    return (await all(this.containersInParts(some))).flat();
  }

  /** The same in parts, each read while the one before it is used. */
  async *containersInParts(some: readonly Container[]): AsyncGenerator<ContainerReading[], void, undefined> {
    await this.layers.refresh(some);
    yield* readAhead(some, AT_A_TIME, part => this.readContainers(part));
  }

  async pods(some: readonly Sandbox[]): Promise<PodReading[]> {
    return (await all(this.podsInParts(some))).flat();
  }

  /** The same in parts, each read while the one before it is used. */
  async *podsInParts(some: readonly Sandbox[]): AsyncGenerator<PodReading[], void, undefined> {
    const bySandbox = this.containersBySandbox(some);
    await this.layers.refresh([...bySandbox.values()].flat());
    yield* readAhead(some, AT_A_TIME, part => this.readPods(part, bySandbox));
  }

  private async readContainers(some: readonly Container[]): Promise<ContainerReading[]> {
    const usages = await this.usages(some.filter(runs), ({ record }) => record.cgroupPath);
    return some.map(container => this.containerReading(container, usages));
  }

  private async readPods(
    some: readonly Sandbox[],
    bySandbox: ReadonlyMap<string, readonly Container[]>,
  ): Promise<PodReading[]> {
    const containersOf = ({ record }: Sandbox) => bySandbox.get(record.id) ?? [];
    const things = [
      ...some.filter(({ record }) => record.state === 'ready'),
      ...some.flatMap(containersOf).filter(runs),
    ];
    const [usages, interfaces] = await Promise.all([this.usages(things, cgroupOf), this.interfaces(some)]);
    return some.map(sandbox => ({
      sandbox,
      ...this.used(sandbox, usages),
      interfaces: interfaces.get(sandbox),
      containers: containersOf(sandbox).map(container => this.containerReading(container, usages)),
    }));
  }

  private containersBySandbox(sandboxes: readonly Sandbox[]): Map<string, Container[]> {
    const found = new Map<string, Container[]>(sandboxes.map(({ record }) => [record.id, []]));
    for (const container of this.containersOfAll.list()) {
      if (container.record.state !== 'creating') found.get(container.record.sandboxId)?.push(container);
    }
    return found;
  }

  private async usages<Thing extends Container | Sandbox>(
    things: readonly Thing[],
    pathOf: (thing: Thing) => string,
  ): Promise<Taken> {
    const usages = await this.cgroups.usage(things.map(pathOf));
    const of = new Map<Container | Sandbox, Usage>();
    things.forEach((thing, i) => {
      const usage = usages[i];
      if (usage) of.set(thing, usage);
    });
    return { atMs: Date.now(), monotonicMs: performance.now(), of };
  }

  /** Of the pods that have a network of their own. */
  async interfaces(sandboxes: readonly Sandbox[]): Promise<Map<Sandbox, InterfaceCounters[]>> {
    const own = sandboxes.filter(({ record }) => record.state === 'ready' && record.ownNetwork);
    const counters = await readNetworks(own.map(({ record }) => this.sandboxes.paths(record.id).network));
    return new Map(own.map((sandbox, i) => [sandbox, counters[i] ?? []]));
  }

  private containerReading(container: Container, taken: Taken): ContainerReading {
    return { container, ...this.used(container, taken), written: this.layers.of(container) };
  }

  private used(thing: Container | Sandbox, { atMs, monotonicMs, of }: Taken) {
    const usage = of.get(thing);
    if (usage?.cpuNs === undefined) return { atMs, usage, nanoCores: undefined };
    let rate = this.rates.get(thing);
    if (!rate) this.rates.set(thing, (rate = new CpuRate()));
    return { atMs, usage, nanoCores: rate.add(monotonicMs, usage.cpuNs) };
  }
}

/** Usages that were read together. */
interface Taken {
  atMs: number;
  monotonicMs: number;
  of: Map<Container | Sandbox, Usage>;
}

async function all<Part>(parts: AsyncIterable<Part>): Promise<Part[]> {
  const found: Part[] = [];
  for await (const part of parts) found.push(part);
  return found;
}

function runs({ record }: Container): boolean {
  return record.state === 'running' || record.state === 'created';
}

function cgroupOf(thing: Container | Sandbox): string {
  return 'cgroupPath' in thing.record ? thing.record.cgroupPath : thing.record.cgroupParent;
}
