import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { isAbsolute, resolve } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import { buildImage, type BuildEvent, type BuildOptions, type BuildParts } from '../build/build';
import { commitContainer } from '../build/commit';
import { pruneBuildCache } from '../build/prune';
import { containerByName } from '../container/find';
import { OutputStream } from '../cri/generated/berth/v1/berth';
import {
  BuilderService,
  BuildOutput_Type as OutputType,
  BuildStep_State as StepState,
  type BuildCachePlace,
  type BuilderServer,
  type BuildRequest,
  type BuildResponse,
  type BuildStart,
} from '../cri/generated/berth/v1/build';
import { describePlace, type ArtefactPlace } from '../image/artefact';
import { isDigest } from '../image/digest';
import { givenName } from '../image/load';
import { describePlatform, parsePlatform, type Platform } from '../image/platform';
import { canonicalForm, parseReference, tagForm } from '../image/reference';
import { ProgressFeed } from './berth-progress';
import { bidiStream, complete, unary, type Requests } from './handler';

/** berth.v1.Builder: images out of Dockerfiles. */
export function buildService(log: Logger, parts: BuildParts): UntypedServiceImplementation {
  const built = {
    build: bidiStream<BuildRequest, BuildResponse>(log, 'Build', (requests, ctx, send) =>
      build(parts, requests, ctx, send),
    ),
    commit: unary(log, 'Commit', async (request, ctx) => {
      const { reference, changes, message, author, pause } = request;
      const container = containerByName(parts.containers, request.container);
      const tag = reference === '' ? undefined : canonicalForm(givenName(reference));
      const id = await commitContainer(parts, ctx, container, { tag, changes, message, author, pause });
      return { imageId: id, reference: tag ?? '' };
    }),
    pruneBuildCache: unary(log, 'PruneBuildCache', async ({ all }) => pruneBuildCache(parts, all)),
  } satisfies Partial<BuilderServer>;
  return complete(BuilderService, built);
}

async function build(
  parts: BuildParts,
  requests: Requests<BuildRequest>,
  ctx: Context,
  send: (response: BuildResponse) => Promise<void>,
): Promise<void> {
  const { value } = await requests.next();
  const start = value?.start;
  if (!start) throw new BerthError('invalid_argument', 'the first request of a build is its start');
  const options = optionsOf(start, data => send({ data }));
  await using progress = new ProgressFeed(pull => send({ pull }));
  await using line = new SendQueue(send);
  const { image } = await buildImage(parts, ctx, options, contextOf(requests), async event => {
    if (event.type === 'pull') progress.take(event.progress);
    else await line.push(responseOf(event));
  });
  await progress.end();
  await line.idle();
  const references = image ? [...options.tags] : [];
  await send({ done: { imageId: image?.id ?? '', manifestDigest: image?.manifestDigest ?? '', references } });
}

/** Events in their order, as fast as the client takes them; all are sent before the call ends, also when it fails. */
class SendQueue implements AsyncDisposable {
  private last: Promise<void> = Promise.resolve();

  constructor(private readonly send: (response: BuildResponse) => Promise<void>) {}

  /** Resolves once it is sent and the client takes more. */
  push(response: BuildResponse): Promise<void> {
    // The call has ended when this fails, and its work hears of that itself.
    this.last = this.last.then(() => this.send(response)).catch(() => undefined);
    return this.last;
  }

  idle(): Promise<void> {
    return this.last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.last;
  }
}

const states: Readonly<Record<string, StepState>> = {
  started: StepState.STARTED,
  done: StepState.DONE,
  cached: StepState.CACHED,
  failed: StepState.FAILED,
};

function responseOf(event: Exclude<BuildEvent, { type: 'pull' }>): BuildResponse {
  switch (event.type) {
    case 'warning':
      return { warning: event.text };
    case 'output': {
      const stream = event.stream === 'stdout' ? OutputStream.STDOUT : OutputStream.STDERR;
      return { log: { step: event.id, stream, data: event.data } };
    }
    case 'step': {
      const { id, name, durationMs, why } = event;
      const state = states[event.state] ?? StepState.STARTED;
      return { step: { id, name, state, durationMs: BigInt(durationMs), why } };
    }
  }
}

function optionsOf(start: BuildStart, send: (data: Buffer) => Promise<void>): BuildOptions {
  const { sourceDateEpoch, target } = start;
  for (const [id, path] of Object.entries(start.ssh))
    if (!isAbsolute(path)) throw new BerthError('invalid_argument', `ssh ${id}: the path ${path} is not absolute`);
  return {
    dockerfile: start.dockerfile,
    dockerfileName: start.dockerfileName || 'Dockerfile',
    tags: start.tags.map(tag => canonicalForm(givenName(tag))),
    ...(target === '' ? {} : { target }),
    buildArgs: new Map(Object.entries(start.buildArgs)),
    labels: new Map(Object.entries(start.labels)),
    noCache: start.noCacheStages.length > 0 ? start.noCacheStages : start.noCache,
    pull: start.pull,
    platforms: distinct(start.platforms),
    secrets: new Map(start.secrets.map(({ id, value }) => [id, value])),
    ssh: new Map(Object.entries(start.ssh)),
    knownHosts: start.knownHosts,
    network: start.network,
    ulimits: start.ulimits,
    ...(sourceDateEpoch === undefined ? {} : { epochSeconds: epochOf(sourceDateEpoch) }),
    contexts: new Map(Object.entries(start.contexts)),
    why: start.why,
    cacheFrom: start.cacheFrom.map(place => cachePlaceOf(place)),
    cacheInline: start.cacheInline,
    cacheTo: start.cacheTo.map(({ place, allStages, ignoreErrors }) => {
      return { place: exportPlaceOf(place), all: allStages, ignoresErrors: ignoreErrors };
    }),
    output: outputOf(start.output?.type ?? OutputType.IMAGE, send),
  };
}

function cachePlaceOf(place: BuildCachePlace | undefined): ArtefactPlace {
  if (place?.reference !== undefined) return { reference: canonicalForm(parseReference(place.reference)) };
  const { path = '', tag = '' } = place?.directory ?? {};
  if (isAbsolute(path) && tag !== '') return { directory: resolve(path), which: tag };
  throw new BerthError(
    'invalid_argument',
    'a cache is in a registry, or under a tag in a directory with an absolute path',
  );
}

/** What is written has a tag; said before anything is built. */
function exportPlaceOf(asked: BuildCachePlace | undefined): ArtefactPlace {
  const place = cachePlaceOf(asked);
  const hasTag = 'reference' in place ? tagForm(parseReference(place.reference)) !== undefined : !isDigest(place.which);
  if (hasTag) return place;
  throw new BerthError('invalid_argument', `a cache is written under a tag, and ${describePlace(place)} is a digest`);
}

/** Each once, in their order. */
function distinct(texts: readonly string[]): Platform[] {
  const platforms = texts.map(parsePlatform);
  return [...new Map(platforms.map(platform => [describePlatform(platform), platform])).values()];
}

function outputOf(type: OutputType, send: (data: Buffer) => Promise<void>): BuildOptions['output'] {
  switch (type) {
    case OutputType.IMAGE:
      return { type: 'image' };
    case OutputType.NONE:
      return { type: 'none' };
    case OutputType.TAR:
      return { type: 'files', send };
    default:
      return { type: 'archive', send };
  }
}

function epochOf(seconds: bigint): number {
  if (seconds >= 0n && seconds <= 253_402_300_799n) return Number(seconds);
  throw new BerthError('invalid_argument', `SOURCE_DATE_EPOCH ${seconds} is no time until the year 9999`);
}

/** The pieces of the context until the client has said all. */
function contextOf(requests: Requests<BuildRequest>): () => Promise<Buffer | undefined> {
  return async () => {
    const { value, done } = await requests.next();
    if (done || value === undefined) return undefined;
    if (value.context) return value.context;
    throw new BerthError('invalid_argument', 'what follows the start of a build is its context');
  };
}
