import { isAbsolute } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type {
  BerthServer,
  ImportFileSystemRequest,
  LoadRequest,
  LoadResponse,
  LoadStart,
  PullResponse,
  SaveRequest,
  SaveResponse,
} from '../cri/generated/berth/v1/berth';
import type { Images } from '../image/images';
import { describePlatform, fits, parsePlatform } from '../image/platform';
import { canonicalForm, parseReference } from '../image/reference';
import { imageByName } from './berth-images';
import { ProgressFeed } from './berth-progress';
import type { BerthParts } from './berth-service';
import { bidiStream, serverStream, type Requests } from './handler';

/** Images that go without a registry. What a person brings is pinned: the kubelet does not collect it. */
export function archiveRpcs({ log, images }: BerthParts) {
  return {
    load: bidiStream<LoadRequest, LoadResponse>(log, 'Load', async (requests, ctx, send) => {
      const start = await firstOf(requests, ({ start }) => start);
      await using progress = new ProgressFeed(progress => send({ progress }));
      await load(images, ctx, start, chunksOf(requests), progress, send);
      await progress.end();
      await send({ done: {} });
    }),
    importFileSystem: bidiStream<ImportFileSystemRequest, PullResponse>(
      log,
      'ImportFileSystem',
      async (requests, ctx, send) => {
        const { reference, changes, message, what } = await firstOf(requests, ({ start }) => start);
        await using progress = new ProgressFeed(progress => send({ progress }));
        const request = { chunks: chunksOf(requests), what: what || 'the archive', changes, message };
        const image = await images.importFileSystem(
          ctx,
          { ...request, ...(reference === '' ? {} : { name: reference }) },
          progress.take,
        );
        await images.setPinned(image.id, true);
        await progress.end();
        const name = reference === '' ? '' : canonicalForm(parseReference(reference));
        await send({ done: { imageId: image.id, digest: image.digest, reference: name, changed: true } });
      },
    ),
    save: serverStream<SaveRequest, SaveResponse>(log, 'Save', async (request, ctx, send) => {
      const { images: names, directory, platform } = request;
      if (names.length === 0) throw new BerthError('invalid_argument', 'no image is named');
      for (const name of names) imageByName(images, name);
      if (directory !== '') assertAbsolute(directory, 'save');
      await using progress = new ProgressFeed(progress => send({ progress }));
      const to = directory === '' ? { send: (data: Buffer) => send({ data }) } : { directory };
      await images.save(ctx, names, to, progress.take, platform === '' ? undefined : parsePlatform(platform));
      await progress.end();
    }),
  } satisfies Partial<BerthServer>;
}

async function load(
  images: Images,
  ctx: Context,
  { directory, name, what }: LoadStart,
  chunks: () => Promise<Buffer | undefined>,
  progress: ProgressFeed,
  send: (response: LoadResponse) => Promise<void>,
): Promise<void> {
  if (directory !== '') assertAbsolute(directory, 'load');
  await images.load(
    ctx,
    {
      from: directory === '' ? { chunks } : { directory },
      what: what || directory || 'the archive',
      ...(name === '' ? {} : { name }),
    },
    async (image, references) => {
      await images.setPinned(image.id, true);
      const platform = fits(image.config, images.node) ? '' : describePlatform(image.config);
      await send({ loaded: { imageId: image.id, references: [...references], platform } });
    },
    progress.take,
  );
}

function assertAbsolute(path: string, verb: string): void {
  if (isAbsolute(path)) return;
  throw new BerthError('invalid_argument', `${verb}: the path ${JSON.stringify(path)} is not absolute`);
}

async function firstOf<Request, Start>(
  requests: Requests<Request>,
  startIn: (request: Request) => Start | undefined,
): Promise<Start> {
  const { value } = await requests.next();
  const start = value && startIn(value);
  if (start) return start;
  throw new BerthError('invalid_argument', 'the first request of a call is its start');
}

/** The pieces of an archive until the client has said all; the next is read when the last has been written. */
function chunksOf(requests: Requests<{ data?: Buffer | undefined }>): () => Promise<Buffer | undefined> {
  return async () => {
    const { value, done } = await requests.next();
    if (done || value === undefined) return undefined;
    if (value.data) return value.data;
    throw new BerthError('invalid_argument', 'what follows the start of a call is data');
  };
}
