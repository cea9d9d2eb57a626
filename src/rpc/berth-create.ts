import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { Context } from '../base/context';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import { Rollback } from '../base/rollback';
import { createContainer } from '../container/create';
import type { Container } from '../container/containers';
import type { Names } from '../container/names';
import { removePod } from '../container/pods';
import { ContainerConfig, NamespaceMode, PodSandboxConfig, SecurityProfile_ProfileType } from '../cri';
import {
  PullPolicy,
  type BerthServer,
  type CreateRequest,
  type CreateResponse,
  type Mount,
} from '../cri/generated/berth/v1/berth';
import type { Image } from '../image/images';
import { parseUser } from '../oci/user';
import { runSandbox } from '../sandbox/run';
import { imageByName, pullForPerson } from './berth-images';
import type { BerthParts } from './berth-service';
import { serverStream } from './handler';

type Send = (response: CreateResponse) => Promise<void>;

/** Create: a person's container is a pod of its own with one container, made by the code that makes the kubelet's. */
export function createRpc(parts: BerthParts, names: Names) {
  return {
    create: serverStream<CreateRequest, CreateResponse>(parts.log, 'Create', async (request, ctx, send) => {
      await assertValid(request);
      using reserved = names.reserve(request.name);
      const { name } = reserved;
      const image = await bringImage(parts, ctx, request, send);
      await using undo = new Rollback(ctx.log);
      const container = await make(parts, undo, request, name, image);
      await send({ created: { id: container.record.id, name } });
      undo.commit();
    }),
  } satisfies Partial<BerthServer>;
}

/** Everything that can be known to be wrong before an image is pulled for it. */
async function assertValid({ network, user, mounts }: CreateRequest): Promise<void> {
  if (!['', 'none', 'host'].includes(network)) {
    throw new BerthError('invalid_argument', `network ${JSON.stringify(network)} is not known`, {
      hint: 'it is none or host',
    });
  }
  if (user !== '') parseUser(user);
  await Promise.all(mounts.map(assertMountable));
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

/** The image, pulled where the policy asks for it; pinned, since a person uses it. */
async function bringImage(
  { images }: BerthParts,
  ctx: Context,
  { image, pull }: CreateRequest,
  send: Send,
): Promise<Image> {
  const isWanted =
    pull === PullPolicy.PULL_POLICY_ALWAYS || (pull === PullPolicy.PULL_POLICY_MISSING && !images.find(image));
  if (image !== '' && isWanted) {
    await send({ pulled: await pullForPerson(images, ctx, image, progress => send({ progress })) });
  }
  const found = imageByName(images, image);
  if (!found.pinned) await images.setPinned(found.id, true);
  return found;
}

const ofPerson = { runtimeHandler: '', owner: 'person' } as const;

/** Takes a fraction of a second, so it is not broken off when the caller goes: it is undone as a whole then. */
async function make(
  { log, sandboxes, containers }: BerthParts,
  undo: Rollback,
  request: CreateRequest,
  name: string,
  image: Image,
): Promise<Container> {
  const ctx = Context.of(log);
  try {
    const sandbox = await undo.step(
      'pod',
      () =>
        runSandbox(sandboxes, ctx, {
          ...ofPerson,
          config: podConfig(request, name),
          isOffline: request.network === 'none',
        }),
      made => made && removePod(containers, Context.of(log), made),
    );
    const config = containerConfig(request, name, image);
    return await createContainer(containers, ctx, { sandbox, config, name, autoRemove: request.autoRemove });
  } catch (error) {
    throw withoutNotFound(error);
  }
}

/** Here only an image is not found; a user that it lacks is a wrong request. */
function withoutNotFound(error: unknown): unknown {
  if (!(error instanceof BerthError) || error.kind !== 'not_found') return error;
  return new BerthError('invalid_argument', error.message, { cause: error });
}

function podConfig({ hostname, network, labels }: CreateRequest, name: string): PodSandboxConfig {
  return PodSandboxConfig.fromPartial({
    metadata: { name, uid: randomUUID(), namespace: 'berth', attempt: 0 },
    hostname,
    labels,
    linux: { securityContext: { namespaceOptions: namespaces(network) } },
  });
}

function containerConfig(request: CreateRequest, name: string, image: Image): ContainerConfig {
  const { entrypoint, args } = request;
  // Set, it replaces the image's; when it is empty, the first argument is the command.
  const command = entrypoint === undefined ? [] : entrypoint === '' ? args.slice(0, 1) : [entrypoint];
  if (entrypoint === '' && args.length === 0) {
    throw new BerthError('invalid_argument', 'no command: the entrypoint is taken away and none is given instead', {
      hint: 'give a command',
    });
  }
  return ContainerConfig.fromPartial({
    metadata: { name, attempt: 0 },
    image: { image: image.id, userSpecifiedImage: request.image },
    command,
    args: entrypoint === '' ? args.slice(1) : args,
    workingDir: request.workingDir,
    envs: request.env,
    mounts: request.mounts.map(({ source, target, readonly }) => ({
      hostPath: source,
      containerPath: target,
      readonly,
    })),
    labels: request.labels,
    tty: request.tty,
    stdin: request.stdin,
    stdinOnce: request.stdinOnce,
    linux: {
      securityContext: {
        namespaceOptions: namespaces(request.network),
        runAsUsername: request.user,
        noNewPrivs: false,
        seccomp: { profileType: SecurityProfile_ProfileType.RuntimeDefault },
      },
    },
  });
}

/** Without a network of its own a pod has the loopback device only. */
function namespaces(network: string) {
  return {
    network: network === 'host' ? NamespaceMode.NODE : NamespaceMode.POD,
    pid: NamespaceMode.CONTAINER,
    ipc: NamespaceMode.POD,
  };
}
