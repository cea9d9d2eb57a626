import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Container, Containers } from '../container/containers';
import { pauseContainer, unpauseContainer, isPaused } from '../container/pause';
import { configOf, type ConfigObject } from '../image/config-changes';
import type { Digest } from '../image/digest';
import type { Workshop } from '../image/workshop';
import { documentOf, type RunConfig } from './document';
import { mountPointsOf } from './step-container';
import type { BuildParts } from './steps';

export interface CommitOptions {
  /** In full; undefined for an image without a name. */
  readonly tag: string | undefined;
  /** Lines of a Dockerfile. */
  readonly changes: readonly string[];
  readonly message: string;
  readonly author: string;
  /** Hold the container's processes still while its files are read. */
  readonly pause: boolean;
}

/** Makes an image of a container's image and what the container has changed in its files; the container is left as it is. */
export async function commitContainer(
  parts: BuildParts,
  ctx: Context,
  container: Container,
  options: CommitOptions,
): Promise<Digest> {
  const { images, containers } = parts;
  const { record } = container;
  const changes = configOf(options.changes);
  const image = images.find(record.imageId);
  if (!image)
    throw new BerthError('failed_precondition', `commit ${record.name ?? record.id}: its image is not here any more`, {
      hint: 'pull it again',
    });
  return images.build(async workshop => {
    const { config, layers } = await images.base(ctx, workshop, image);
    const upper = await readUpper(containers, ctx, workshop, container, options.pause);
    const layer = await workshop.pack(ctx, upper, { below: layers, mountPoints: mountPointsOf(container) });
    const document = documentOf(config, image.id);
    document.created = new Date().toISOString();
    if (options.author !== '') document.author = options.author;
    document.config = changed(document.config, changes);
    document.history.push({
      ...{ created: document.created, created_by: container.config.command.concat(container.config.args).join(' ') },
      ...(options.message === '' ? {} : { comment: options.message }),
      ...(layer ? {} : { empty_layer: true }),
    });
    if (layer) document.rootfs.diff_ids.push(layer.layer.diffId);
    const tags = options.tag === undefined ? [] : [options.tag];
    const { image: made } = await workshop.finish(
      ctx,
      [{ document, layers: layer ? [...layers, layer] : layers }],
      tags,
    );
    return made.id;
  });
}

/** A copy of what the container has written; it goes on as soon as that is read. */
async function readUpper(
  containers: Containers,
  ctx: Context,
  workshop: Workshop,
  container: Container,
  pause: boolean,
): Promise<string> {
  const holds = pause && container.record.state === 'running' && !isPaused(containers, container);
  if (holds) await pauseContainer(containers, ctx, container);
  try {
    ctx.stage("read the container's files");
    return await workshop.copyOfUpper(ctx, containers.paths(container.record.id).upper);
  } finally {
    if (holds && container.record.state === 'running') await unpauseContainer(containers, container);
  }
}

/** What the lines say goes over what the image says: variables, labels, ports and volumes one by one. */
function changed(config: RunConfig, changes: ConfigObject): RunConfig {
  const names = new Set((changes.Env ?? []).map(line => line.split('=', 1)[0]));
  const env = [...(config.Env ?? []).filter(line => !names.has(line.split('=', 1)[0])), ...(changes.Env ?? [])];
  return {
    ...config,
    ...changes,
    ...(env.length > 0 ? { Env: env } : {}),
    ...merged('Labels', config, changes),
    ...merged('ExposedPorts', config, changes),
    ...merged('Volumes', config, changes),
  };
}

function merged(key: 'Labels' | 'ExposedPorts' | 'Volumes', config: RunConfig, changes: ConfigObject): RunConfig {
  return changes[key] ? { [key]: { ...config[key], ...changes[key] } } : {};
}
