import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/*
 * A registry that costs next to nothing: blobs are files. Run as a process of
 * its own, so that the one that measures has its event loop for itself:
 *
 *   node file-registry.js <dir of blobs> <tag>=<digest>...
 *
 * It prints the port on loopback.
 */
const [dir = '', ...tags] = process.argv.slice(2);
const digests = new Map(tags.map(tag => tag.split('=', 2) as [string, string]));
const manifestType = 'application/vnd.oci.image.manifest.v1+json';

const server = createServer((request, response) => {
  const [, kind, name = ''] = /\/(manifests|blobs)\/([^/?]+)$/.exec(request.url ?? '') ?? [];
  const digest = digests.get(name) ?? name;
  if (kind === undefined) response.writeHead(200).end('{}');
  else if (!/^sha256:[0-9a-f]{64}$/.test(digest)) response.writeHead(404).end();
  else send(response, join(dir, digest.slice('sha256:'.length)), digest, kind, request.method === 'HEAD');
});

function send(response: ServerResponse, file: string, digest: string, kind: string, headOnly: boolean): void {
  response.writeHead(200, {
    'content-type': kind === 'manifests' ? manifestType : 'application/octet-stream',
    'content-length': statSync(file).size,
    'docker-content-digest': digest,
  });
  if (headOnly) response.end();
  else if (kind === 'manifests') response.end(readFileSync(file));
  else createReadStream(file, { highWaterMark: 1 << 20 }).pipe(response);
}

server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
