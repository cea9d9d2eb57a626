import type { Command } from 'commander';
import {
  BerthService,
  ContainerState as State,
  type Container,
  type ImageUsageResponse,
} from '../cri/generated/berth/v1/berth';
import { ContainersService, type ContainerSize, type Volume } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { humanAge, nowNs } from './format/age';
import { listFormat, listing, type ListFormat } from './format/listing';
import { shortId } from './format/names';
import { humanSize } from './format/size';
import { table } from './format/table';
import { print } from './output';
import { nameOf, statusOf } from './ps';

interface Found {
  images: ImageUsageResponse;
  usedImages: number;
  containers: readonly Container[];
  sizes: ReadonlyMap<string, ContainerSize>;
  volumes: readonly Volume[];
}

const HEADERS = { Type: 'TYPE', TotalCount: 'TOTAL', Active: 'ACTIVE', Size: 'SIZE', Reclaimable: 'RECLAIMABLE' };
const formatOf = listFormat(HEADERS);

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-v, --verbose', 'container by container, volume by volume', false)
    .option('--format <format>', 'table, json or a template: {{.Type}} {{.Size}}', formatOf, formatOf('table'))
    .addHelpText('after', '\nExample: berth system df')
    .action(async ({ verbose, format }: { verbose: boolean; format: ListFormat }) => {
      const found = await look(daemon());
      await print(verbose ? details(found) : listing(format, HEADERS, Object.keys(HEADERS), summary(found)));
    });
}

async function look(daemon: Daemon): Promise<Found> {
  const [images, { containers }, { volumes }] = await Promise.all([
    daemon.ask(BerthService.imageUsage, {}),
    daemon.ask(BerthService.listContainers, { all: true }),
    daemon.ask(ContainersService.listVolumes, { sizes: true }),
  ]);
  const { sizes } = await daemon.ask(ContainersService.sizes, { containers: containers.map(({ id }) => id) });
  const usedImages = new Set(containers.map(({ imageId }) => imageId)).size;
  return { images, usedImages, containers, sizes: new Map(sizes.map(size => [size.id, size])), volumes };
}

function summary({ images, usedImages, containers, sizes, volumes }: Found) {
  const written = (some: readonly Container[]) => sum(some.map(({ id }) => sizes.get(id)?.writableBytes ?? 0n));
  const running = containers.filter(isRunning);
  const unused = volumes.filter(volume => volume.containers.length === 0);
  const volumeBytes = (some: readonly Volume[]) => sum(some.map(({ sizeBytes }) => sizeBytes));
  return [
    row('Images', Number(images.images), usedImages, images.usedBytes, images.unusedBytes),
    row(
      'Containers',
      containers.length,
      running.length,
      written(containers),
      written(containers.filter(c => !isRunning(c))),
    ),
    row('Volumes', volumes.length, volumes.length - unused.length, volumeBytes(volumes), volumeBytes(unused)),
  ];
}

function row(type: string, total: number, active: number, bytes: bigint, reclaimable: bigint) {
  const percent = bytes === 0n ? 0 : Math.round((Number(reclaimable) / Number(bytes)) * 100);
  return {
    fields: {
      Type: type,
      TotalCount: String(total),
      Active: String(active),
      Size: humanSize(bytes),
      Reclaimable: `${humanSize(reclaimable)} (${percent}%)`,
    },
    json: { sizeBytes: Number(bytes), reclaimableBytes: Number(reclaimable) },
  };
}

function isRunning({ state }: Container): boolean {
  return state === State.CONTAINER_STATE_RUNNING || state === State.CONTAINER_STATE_PAUSED;
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

function details({ containers, sizes, volumes }: Found): string {
  const now = nowNs();
  const ofContainers = containers.map(container => [
    shortId(container.id),
    nameOf(container),
    humanSize(sizes.get(container.id)?.writableBytes ?? 0n),
    humanAge(container.createdAtNs, now),
    statusOf(container, now),
  ]);
  const ofVolumes = volumes.map(({ name, containers: users, sizeBytes }) => [
    name,
    String(users.length),
    humanSize(sizeBytes),
  ]);
  return (
    `Containers:\n\n${table(['CONTAINER ID', 'NAMES', 'SIZE', 'CREATED', 'STATUS'], ofContainers)}\n` +
    `Volumes:\n\n${table(['VOLUME NAME', 'CONTAINERS', 'SIZE'], ofVolumes)}`
  );
}
