import { statfs } from 'node:fs/promises';
import type { Details } from '../../cgroup/details';
import type { Cgroups } from '../../cgroup/groups';
import type { DeviceIo } from '../../cgroup/io';
import type { Container } from '../../container/containers';
import { addon } from '../../native/addon';
import type { Sandbox } from '../../sandbox/sandboxes';
import type { ContainerReading, PodReading, Readings } from '../readings';
import { BlockDevices } from './block-devices';

/** All that metrics tell of a pod and of its containers that run. */
export interface PodFacts {
  reading: PodReading;
  more: More;
  containers: readonly ContainerFacts[];
}

export interface ContainerFacts {
  reading: ContainerReading;
  more: More;
  processes: Processes | undefined;
  /** Of the file system that its writable layer is on. */
  space: Space | undefined;
}

/** Beside the readings, of a container or a pod. */
export interface More {
  details: Details;
  io: readonly (DeviceIo & { name: string })[];
}

export interface Processes {
  count: number;
  descriptors: number;
  sockets: number;
  /** The soft limit of its first process; undefined for none. */
  openFilesMax: number | undefined;
}

export interface Space {
  device: string;
  bytes: number;
  inodes: number;
  freeInodes: number;
}

/** Reads them, of all pods together, each kind in one call. */
export class Facts {
  private readonly devices = new BlockDevices();

  constructor(
    private readonly readings: Readings,
    private readonly cgroups: Cgroups,
    /** A directory of the file system that writable layers are on. */
    private readonly root: string,
  ) {}

  async of(sandboxes: readonly Sandbox[]): Promise<PodFacts[]> {
    const pods = await this.readings.pods(sandboxes);
    const containers = pods.flatMap(pod => pod.containers).filter(({ usage }) => usage !== undefined);
    const [ofPods, ofContainers, processes, space] = await Promise.all([
      this.more(pods.map(({ sandbox }) => sandbox.record.cgroupParent)),
      this.more(containers.map(({ container }) => container.record.cgroupPath)),
      this.processes(containers.map(({ container }) => container)),
      this.space(),
    ]);
    const facts = new Map<Container, ContainerFacts>();
    containers.forEach((reading, i) => {
      const more = ofContainers[i];
      if (more) facts.set(reading.container, { reading, more, processes: processes[i], space });
    });
    return pods.flatMap((reading, i) => {
      const more = ofPods[i];
      if (!more) return [];
      return [{ reading, more, containers: reading.containers.flatMap(({ container }) => facts.get(container) ?? []) }];
    });
  }

  private async more(paths: readonly string[]): Promise<More[]> {
    const [details, io] = await Promise.all([this.cgroups.details(paths), this.cgroups.io(paths)]);
    return details.map((of, i) => ({
      details: of,
      io: (io[i] ?? []).map(one => ({ ...one, name: this.devices.nameOf(one.device) })),
    }));
  }

  private async processes(containers: readonly Container[]): Promise<Processes[]> {
    const members = await this.cgroups.members(containers.map(({ record }) => record.cgroupPath));
    const pids = members.flat();
    const [counts, limits] = await Promise.all([
      addon().descriptorCounts(pids.map(pid => `/proc/${pid}/fd`).join('\0')),
      addon().readFiles(containers.map(({ record }) => `/proc/${record.process?.pid ?? 0}/limits`).join('\0'), ''),
    ]);
    const texts = limits.split('\0');
    let at = 0;
    return members.map((own, i) => {
      const cells = counts.subarray(at * 2, (at += own.length) * 2);
      return { count: own.length, ...sums(cells), openFilesMax: openFilesMax(texts[i] ?? '') };
    });
  }

  private async space(): Promise<Space | undefined> {
    const device = this.devices.ofDirectory(this.root);
    const { bsize, blocks, files, ffree } = await statfs(this.root);
    return { device, bytes: bsize * blocks, inodes: files, freeInodes: ffree };
  }
}

/** What cannot be read has just ended. */
function sums(cells: Float64Array): { descriptors: number; sockets: number } {
  let [descriptors, sockets] = [0, 0];
  for (let i = 0; i < cells.length; i += 2) {
    descriptors += cells[i] || 0;
    sockets += cells[i + 1] || 0;
  }
  return { descriptors, sockets };
}

/** `Max open files            1024                 4096                 files` */
function openFilesMax(limits: string): number | undefined {
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}
