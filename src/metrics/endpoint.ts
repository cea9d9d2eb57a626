import { lstat, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { PrometheusMetrics } from './prometheus';

/** Where the metrics are served: `host:port`, `[address]:port`, `:port` on loopback, or a socket `unix:/path`. */
type Address = { readonly host: string; readonly port: number } | { readonly path: string };

/** Where no host is given. */
const LOOPBACK = '127.0.0.1';

function parseAddress(text: string): Address {
  if (text.startsWith('unix:/')) return { path: text.slice('unix:'.length).replace(/^\/\/+/, '/') };
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host: host || LOOPBACK, port: Number(text.slice(colon + 1)) };
}

/** Answers `GET /metrics`, and nothing else. */
export async function serveMetrics(metrics: PrometheusMetrics, text: string, log: Logger): Promise<MetricsEndpoint> {
  const address = parseAddress(text);
  const server = createServer({ headersTimeout: 5000, requestTimeout: 5000 }, (request, response) => {
    answer(metrics, request, response).catch((error: unknown) => {
      log.warn(`metrics: ${messageOf(error)}`);
      response.destroy();
    });
  });
  server.maxConnections = 64;
  server.maxHeadersCount = 64;
  if ('path' in address) await removeSocket(address.path);
  await listening(server, address, text);
  log.info('metrics', { address: described(server, text) });
  return new MetricsEndpoint(server);
}

export class MetricsEndpoint {
  constructor(private readonly server: Server) {}

  async close(): Promise<void> {
    const closed = new Promise(resolve => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}

async function answer(metrics: PrometheusMetrics, { method, url }: IncomingMessage, response: ServerResponse) {
  const isOurs = url?.split('?')[0] === '/metrics';
  if (!isOurs || (method !== 'GET' && method !== 'HEAD')) {
    response.writeHead(isOurs ? 405 : 404, { 'content-type': 'text/plain' }).end('GET /metrics is all there is\n');
    return;
  }
  const text = await metrics.text();
  response.writeHead(200, { 'content-type': metrics.contentType, 'content-length': Buffer.byteLength(text) }).end(text);
}

/** The socket of a daemon that is gone; a file that is none is somebody else's. */
async function removeSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) await rm(path);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

async function listening(server: Server, address: Address, text: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen('path' in address ? { path: address.path, readableAll: false } : address, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    throw new BerthError('failed_precondition', `serve metrics on ${text}: ${messageOf(error)}`, {
      cause: error,
      hint: 'choose another metrics.address, or "" for none',
    });
  }
}

/** With the port that the kernel chose. */
function described(server: Server, text: string): string {
  const address = server.address();
  return typeof address === 'object' && address !== null
    ? `${text.slice(0, text.lastIndexOf(':')) || LOOPBACK}:${address.port}`
    : text;
}
