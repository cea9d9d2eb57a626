import { onceFor } from '../base/once-for';
import type { Pressure, Stall, Usage } from '../cgroup/usage';
import type { Container } from '../container/containers';
import { ContainerAttributes, FilesystemIdentifier, PodSandboxAttributes } from '../cri';
import type { Sandbox } from '../sandbox/sandboxes';
import type { InterfaceCounters } from './networks';
import type { ContainerReading, PodReading } from './readings';
import { Wire } from './wire';
import type { Written } from './writable-layers';

/* The CRI's stats messages. Field numbers are those of proto/runtime/v1/api.proto; a test decodes what this writes. */

/** Where writable layers are, as field 2 of a FilesystemUsage. */
export type Place = Uint8Array & { readonly isPlace: true };

/** The CRI names a file system by a mount point, or any directory of it. */
export function placeOf(directory: string): Place {
  return asField(2, FilesystemIdentifier.encode({ mountpoint: directory }).finish()) as Place;
}

/** Adds a ContainerStats for each, as field `field`, to a message. */
export function writeContainerStats(
  wire: Wire,
  field: number,
  readings: readonly ContainerReading[],
  place: Place,
): void {
  for (const reading of readings) containerStats(wire, field, reading, place);
}

/** Adds a PodSandboxStats for each, as field `field`, to a message. */
export function writePodStats(wire: Wire, field: number, readings: readonly PodReading[], place: Place): void {
  for (const reading of readings) podStats(wire, field, reading, place);
}

function containerStats(wire: Wire, field: number, reading: ContainerReading, place: Place): void {
  const { container, atMs, usage, nanoCores, written } = reading;
  const timestamp = atMs * 1e6;
  const start = wire.begin(field);
  wire.raw(containerAttributes(container));
  if (usage) {
    cpuUsage(wire, 2, timestamp, usage, nanoCores);
    memoryUsage(wire, 3, timestamp, usage);
  }
  if (written) filesystemUsage(wire, 4, written, place);
  if (usage) {
    swapUsage(wire, 5, timestamp, usage);
    ioUsage(wire, 6, timestamp, usage);
  }
  wire.end(start);
}

function podStats(wire: Wire, field: number, reading: PodReading, place: Place): void {
  const { sandbox, atMs, usage, nanoCores, interfaces, containers } = reading;
  const timestamp = atMs * 1e6;
  const start = wire.begin(field);
  wire.raw(podAttributes(sandbox));
  const linux = wire.begin(2);
  if (usage) {
    cpuUsage(wire, 1, timestamp, usage, nanoCores);
    memoryUsage(wire, 2, timestamp, usage);
  }
  if (interfaces) networkUsage(wire, 3, timestamp, interfaces);
  if (usage) processUsage(wire, 4, timestamp, usage);
  for (const container of containers) containerStats(wire, 5, container, place);
  if (usage) ioUsage(wire, 6, timestamp, usage);
  wire.end(linux);
  wire.end(start);
}

function cpuUsage(wire: Wire, field: number, timestamp: number, usage: Usage, nanoCores: number | undefined): void {
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  wire.uint64Value(2, usage.cpuNs);
  wire.uint64Value(3, nanoCores);
  if (usage.cpuPressure) pressure(wire, 4, usage.cpuPressure);
  wire.end(start);
}

function memoryUsage(wire: Wire, field: number, timestamp: number, usage: Usage): void {
  const workingSet = workingSetOf(usage);
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  wire.uint64Value(2, workingSet);
  wire.uint64Value(3, leftOf(usage.memoryLimitBytes, workingSet));
  wire.uint64Value(4, usage.memoryBytes);
  wire.uint64Value(5, usage.anonBytes);
  wire.uint64Value(6, usage.pageFaults);
  wire.uint64Value(7, usage.majorPageFaults);
  if (usage.memoryPressure) pressure(wire, 8, usage.memoryPressure);
  wire.end(start);
}

/** As the kubelet counts it, who evicts pods by it: all but the page cache that would go first. */
export function workingSetOf({ memoryBytes, inactiveFileBytes }: Usage): number | undefined {
  return memoryBytes === undefined ? undefined : Math.max(0, memoryBytes - (inactiveFileBytes ?? 0));
}

function leftOf(limit: number | undefined, used: number | undefined): number | undefined {
  return limit === undefined || used === undefined ? undefined : Math.max(0, limit - used);
}

function filesystemUsage(wire: Wire, field: number, written: Written, place: Place): void {
  const start = wire.begin(field);
  wire.varint(1, written.takenAtMs * 1e6);
  wire.raw(place);
  wire.uint64Value(3, written.bytes);
  wire.uint64Value(4, written.inodes);
  wire.end(start);
}

function swapUsage(wire: Wire, field: number, timestamp: number, usage: Usage): void {
  if (usage.swapBytes === undefined) return;
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  wire.uint64Value(2, leftOf(usage.swapLimitBytes, usage.swapBytes));
  wire.uint64Value(3, usage.swapBytes);
  wire.end(start);
}

function ioUsage(wire: Wire, field: number, timestamp: number, { ioPressure }: Usage): void {
  if (!ioPressure) return;
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  pressure(wire, 2, ioPressure);
  wire.end(start);
}

function processUsage(wire: Wire, field: number, timestamp: number, { tasks }: Usage): void {
  if (tasks === undefined) return;
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  wire.uint64Value(2, tasks);
  wire.end(start);
}

function pressure(wire: Wire, field: number, { full, some }: Pressure): void {
  const start = wire.begin(field);
  stall(wire, 1, full);
  stall(wire, 2, some);
  wire.end(start);
}

/** Zeros are left out, as proto3 has it: most containers wait for nothing. */
function stall(wire: Wire, field: number, { totalNs, avg10, avg60, avg300 }: Stall): void {
  const start = wire.begin(field);
  if (totalNs > 0) wire.varint(1, totalNs);
  if (avg10 > 0) wire.double(2, avg10);
  if (avg60 > 0) wire.double(3, avg60);
  if (avg300 > 0) wire.double(4, avg300);
  wire.end(start);
}

function networkUsage(wire: Wire, field: number, timestamp: number, interfaces: readonly InterfaceCounters[]): void {
  const start = wire.begin(field);
  wire.varint(1, timestamp);
  const main = interfaces.find(({ name }) => name === 'eth0') ?? interfaces[0];
  if (main) interfaceUsage(wire, 2, main);
  for (const one of interfaces) interfaceUsage(wire, 3, one);
  wire.end(start);
}

function interfaceUsage(wire: Wire, field: number, counters: InterfaceCounters): void {
  const start = wire.begin(field);
  wire.string(1, counters.name);
  wire.uint64Value(2, counters.receivedBytes);
  wire.uint64Value(3, counters.receiveErrors);
  wire.uint64Value(4, counters.sentBytes);
  wire.uint64Value(5, counters.sendErrors);
  wire.end(start);
}

/* By record: what is in them changes with it alone. */
const attributesOf = new WeakMap<object, Uint8Array>();

/** Field 1 of a ContainerStats. */
function containerAttributes({ record, config }: Container): Uint8Array {
  const { metadata, labels, annotations } = config;
  const encode = () => ContainerAttributes.encode({ id: record.id, metadata, labels, annotations }).finish();
  return onceFor(attributesOf, record, () => asField(1, encode()));
}

/** Field 1 of a PodSandboxStats. */
function podAttributes({ record, config }: Sandbox): Uint8Array {
  const { metadata, labels, annotations } = config;
  const encode = () => PodSandboxAttributes.encode({ id: record.id, metadata, labels, annotations }).finish();
  return onceFor(attributesOf, record, () => asField(1, encode()));
}

function asField(field: number, message: Uint8Array): Uint8Array {
  const wire = new Wire(message.length + 16);
  const start = wire.begin(field);
  wire.raw(message);
  wire.end(start);
  return Uint8Array.from(wire.finish());
}
