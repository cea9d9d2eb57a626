import { isAbsolute } from 'node:path';
import { BerthError } from '../base/errors';
import { copyFromNode, copyInto, copyOut, copyToNode } from '../container/copy';
import { containerByName } from '../container/find';
import type {
  ContainersServer,
  CopyInRequest,
  CopyInResponse,
  CopyInStart,
  CopyOutRequest,
  CopyOutResponse,
} from '../cri/generated/berth/v1/containers';
import type { BerthParts } from './berth-service';
import { bidiStream, serverStream, type Requests } from './handler';

export function copyRpcs({ log, containers }: BerthParts) {
  return {
    copyOut: serverStream<CopyOutRequest, CopyOutResponse>(log, 'CopyOut', async (request, ctx, send) => {
      const container = containerByName(containers, request.container);
      const from = { path: inside(request.path), follow: request.followLink };
      if (request.hostPath === '') return copyOut(containers, ctx, container, from, data => send({ data }));
      const { uid, gid } = request;
      const owner = request.archive ? 'kept' : { uid, gid };
      await copyToNode(containers, ctx, container, from, { path: onNode(request.hostPath), owner });
    }),
    copyIn: bidiStream<CopyInRequest, CopyInResponse>(log, 'CopyIn', async (requests, ctx, send) => {
      const start = await firstOf(requests);
      const container = containerByName(containers, start.container);
      const to = { path: inside(start.path), owner: start.archive ? 'kept' : { uid: 0, gid: 0 } } as const;
      if (start.hostPath === '') {
        await copyInto(containers, ctx, container, to, () => nextOf(requests));
      } else {
        const from = { path: onNode(start.hostPath), follow: start.followLink };
        await copyFromNode(containers, ctx, container, from, to);
      }
      await send({});
    }),
  } satisfies Partial<ContainersServer>;
}

async function firstOf(requests: Requests<CopyInRequest>): Promise<CopyInStart> {
  const { value } = await requests.next();
  if (value?.start) return value.start;
  throw new BerthError('invalid_argument', 'the first message of a copy is its start');
}

async function nextOf(requests: Requests<CopyInRequest>): Promise<Buffer | undefined> {
  const { value, done } = await requests.next();
  if (done) return undefined;
  if (value.data) return value.data;
  throw new BerthError('invalid_argument', 'a copy is started once');
}

/** In a container, paths begin at its root. */
function inside(path: string): string {
  if (path === '' || path.includes('\0'))
    throw new BerthError('invalid_argument', 'the path in the container is empty');
  return path.startsWith('/') ? path : `/${path}`;
}

function onNode(path: string): string {
  if (isAbsolute(path) && !path.includes('\0')) return path;
  throw new BerthError('invalid_argument', `the path ${JSON.stringify(path)} on the node is not absolute`);
}
