import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { BuiltImage } from './image-builder';

/**
 * A registry with one image, under every name, whose layers come fast to the half, and then a byte at a time, never the
 * last, until they are let go.
 */
export interface GatedRegistry extends AsyncDisposable {
  readonly host: string;
  /** Lets everything pass from now on. */
  open(): void;
}

export async function startGatedRegistry(image: BuiltImage): Promise<GatedRegistry> {
  const blobs = new Map([image.manifest, image.config, ...image.layers].map(blob => [blob.digest, blob]));
  const held = new Set(image.layers.map(({ digest }) => digest));
  const waiting: (() => void)[] = [];
  let isOpen = false;
  const sendHeld = (response: ServerResponse, bytes: Buffer) => {
    let sent = bytes.length >> 1;
    response.write(bytes.subarray(0, sent));
    const drip = setInterval(() => {
      if (sent < bytes.length - 1) response.write(bytes.subarray(sent, ++sent));
    }, 20);
    const rest = () => {
      clearInterval(drip);
      response.end(bytes.subarray(sent));
    };
    response.once('close', () => clearInterval(drip));
    if (isOpen) rest();
    else waiting.push(rest);
  };
  const server = createServer((request, response) => {
    const name = request.url?.split('/').pop() ?? '';
    const { bytes, mediaType, digest } = blobs.get(name) ?? image.manifest;
    response.writeHead(200, {
      'content-type': mediaType,
      'content-length': bytes.length,
      'docker-content-digest': digest,
    });
    if (held.has(name)) sendHeld(response, bytes);
    else response.end(request.method === 'HEAD' ? undefined : bytes);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    host: `127.0.0.1:${address.port}`,
    open: () => {
      isOpen = true;
      for (const rest of waiting.splice(0)) rest();
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
