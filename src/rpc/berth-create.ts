import { stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { Context } from '../base/context';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import { Rollback } from '../base/rollback';
import type { Steps } from '../base/steps';
import { createContainer } from '../container/create';
import type { Container, Containers } from '../container/containers';
import { assertRuns } from '../container/emulation';
import type { Names } from '../container/names';
import { removePod } from '../container/pods';
import type { PortMapping } from '../cri';
import {
  PullPolicy,
  type BerthServer,
  type CreateRequest,
  type CreateResponse,
  type Mount,
} from '../cri/generated/berth/v1/berth';
import { notFor } from '../image/documents';
import type { Image, Images } from '../image/images';
import { describePlatform, fits, parsePlatform, type Platform } from '../image/platform';
import { HostPorts } from '../network/host-ports';
import { parseUser } from '../oci/user';
import { runSandbox } from '../sandbox/run';
import { imageByName, pullForPerson } from './berth-images';
import type { BerthParts } from './berth-service';
import { serverStream } from './handler';
import { OwnIds } from './own-ids';
import { assertValidOptions, containerConfig, optionsOf, podConfig } from './person-config';
import { assertNetwork, publishedPorts } from './published-ports';

type Send = (response: CreateResponse) => Promise<void>;

/** Create: a person's container is a pod of its own with one container, made by the code that makes the kubelet's. */
export function createRpc(parts: BerthParts, names: Names) {
  const hostPorts = new HostPorts();
  const ownIds = new OwnIds(parts.sandboxes);
  return {
    create: serverStream<CreateRequest, CreateResponse>(parts.log, 'Create', async (request, ctx, send) => {
      await assertValid(parts, request);
      for (const warning of parts.containers.rlimits.shortfalls(optionsOf(request).ulimits)) await send({ warning });
      using reserved = names.reserve(request.name);
      const { name } = reserved;
      const image = await bringImage(parts, ctx, request, send);
      await using undo = new Rollback(ctx.log);
      const ports = await publishedPorts(hostPorts, parts.sandboxes.network, request, image);
      const container = await make(parts, ctx.steps, undo, request, { name, image, ports, ownIds });
      await send({ created: { id: container.record.id, name } });
      undo.commit();
    }),
  } satisfies Partial<BerthServer>;
}

/** Everything that can be known to be wrong before an image is pulled for it. */
async function assertValid({ sandboxes }: BerthParts, request: CreateRequest): Promise<void> {
  const { user, mounts } = request;
  await assertNetwork(sandboxes.network, request);
  assertValidOptions(request);
  if (user !== '') parseUser(user);
  await Promise.all(mounts.filter(({ volume }) => volume === '').map(assertMountable));
}

async function assertMountable({ source, target }: Mount): Promise<void> {
  for (const path of [source, target]) {
    if (!isAbsolute(path)) {
      throw new BerthError('invalid_argument', `mount ${source} at ${target}: ${JSON.stringify(path)} is not absolute`);
    }
  }
  try {
    await stat(source);
  } catch (error) {
    const why = isAbsent(error)
      ? 'there is no such file or directory on the node'
      : (errnoOf(error) ?? 'it cannot be read');
    throw new BerthError('invalid_argument', `mount ${source} at ${target}: ${why}`, { cause: error });
  }
}

/** The image, pulled where the policy asks for it; pinned, since a person uses it. Refused where the node cannot run it. */
async function bringImage({ images }: BerthParts, ctx: Context, request: CreateRequest, send: Send): Promise<Image> {
  const { image, pull } = request;
  const asked = optionsOf(request).platform;
  const platform = asked === '' ? undefined : parsePlatform(asked);
  const isWanted =
    pull === PullPolicy.PULL_POLICY_ALWAYS ||
    (pull === PullPolicy.PULL_POLICY_MISSING && !images.find(image, platform));
  if (image !== '' && isWanted) {
    const done = await pullForPerson(images, ctx, image, platform ?? images.node, progress => send({ progress })).catch(
      (error: unknown) => {
        throw platform ? withOffers(images, image, platform, error) : error;
      },
    );
    await send({ pulled: done });
  }
  const found = platform ? imageFor(images, image, platform) : imageByName(images, image);
  await warnOfPlatform(images.node, found, image, platform, warning => send({ warning }));
  if (!found.pinned) await images.setPinned(found.id, true);
  return found;
}

/** An image that is here for other platforms alone is mostly one that no registry has, and whose registry says just that. */
function withOffers(images: Images, text: string, platform: Platform, error: unknown): unknown {
  const offers = offersOf(images, text);
  if (offers.length === 0 || !(error instanceof BerthError) || error.kind === 'cancelled') return error;
  const where = `image ${text} is here for ${offers.join(', ')} alone`;
  return new BerthError(error.kind, `${where}, and for ${describePlatform(platform)}: ${error.message}`, {
    cause: error,
  });
}

function offersOf(images: Images, text: string): string[] {
  return images
    .findAll(text)
    .map(({ config }) => describePlatform(config))
    .sort();
}

/** The image of this name for this platform. An id may be that of another one. */
function imageFor(images: Images, text: string, platform: Platform): Image {
  const found = images.find(text, platform);
  if (found && fits(found.config, platform)) return found;
  imageByName(images, text);
  throw notFor(offersOf(images, text), platform, `image ${text}`);
}

/** Throws `failed_precondition` where the node cannot run the image. */
async function warnOfPlatform(
  node: Platform,
  { config }: Image,
  name: string,
  asked: Platform | undefined,
  warn: (text: string) => Promise<void>,
): Promise<void> {
  const doubt = await assertRuns(config, node, `image ${name}`);
  if (doubt !== undefined) await warn(doubt);
  else if (!asked && !fits(config, node))
    // Docker's words: people look for them.
    await warn(
      `The requested image's platform (${describePlatform(config)}) does not match the detected host platform (${describePlatform(node)}) and no specific platform was requested`,
    );
}

const ofPerson = { runtimeHandler: '', owner: 'person' } as const;

/** Takes a fraction of a second, so it is not broken off when the caller goes: it is undone as a whole then. */
async function make(
  { log, sandboxes, containers }: BerthParts,
  steps: Steps | undefined,
  undo: Rollback,
  request: CreateRequest,
  { name, image, ports, ownIds }: { name: string; image: Image; ports: PortMapping[]; ownIds: OwnIds },
): Promise<Container> {
  const ctx = Context.of(log, { steps });
  const options = optionsOf(request);
  using _kept = containers.volumes.hold(request.mounts.map(({ volume }) => volume));
  try {
    using own = ownIds.take(options.usernsMode);
    const { range: ids } = own;
    const sandbox = await undo.step(
      'pod',
      () =>
        runSandbox(sandboxes, ctx, {
          ...ofPerson,
          config: { ...podConfig(request, name, ids), portMappings: ports },
          ...(options.shmBytes === 0n ? {} : { shmBytes: options.shmBytes }),
          extraHosts: options.extraHosts,
          isOffline: request.network === 'none',
        }),
      made => made && removePod(containers, Context.of(log), made),
    );
    const mounts = await Promise.all(request.mounts.map(mount => withVolume(containers, mount)));
    const config = containerConfig({ ...request, mounts }, name, image.id, ids);
    const unfilled = mounts.filter(({ noCopy }) => noCopy).map(({ target }) => target);
    const { autoRemove } = request;
    return await createContainer(containers, ctx, { sandbox, config, name, autoRemove, options, unfilled });
  } catch (error) {
    throw withoutNotFound(error);
  }
}

async function withVolume({ volumes }: Containers, mount: Mount): Promise<Mount> {
  return mount.volume === '' ? mount : { ...mount, source: (await volumes.provide(mount.volume)).path };
}

/** Here only an image is not found; a user that it lacks is a wrong request. */
function withoutNotFound(error: unknown): unknown {
  if (!(error instanceof BerthError) || error.kind !== 'not_found') return error;
  return new BerthError('invalid_argument', error.message, { cause: error });
}
