import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Stream, type IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { silentLogger } from '../../../src/base/log';
import { ContainerEventResponse, PodSandboxConfig, RuntimeServiceService } from '../../../src/cri';
import { Events } from '../../../src/events/events';
import { eventRpcs } from '../../../src/rpc/container-events';
import { complete } from '../../../src/rpc/handler';
import { serve, type RpcServer } from '../../../src/rpc/server';
import { CriClient } from '../../support/cri-client';
import { EventStream } from '../../support/event-stream';

/** A pod whose status is large, so that what a client does not read soon fills all buffers on the way. */
const sandbox = {
  record: { id: 'pod', owner: 'cri', state: 'ready', createdAtNs: 1n, runtimeHandler: '' },
  config: PodSandboxConfig.fromPartial({ metadata: { name: 'p' }, annotations: { large: 'x'.repeat(100_000) } }),
};

describe('a subscriber of GetContainerEvents', function () {
  this.timeout(60_000);
  const events = new Events({ keptMax: 10, waitingMax: 20 });
  const dir = mkdtempSync(join(tmpdir(), 'berth-events-'));
  let server: RpcServer;
  let client: CriClient;

  before(async () => {
    const containers = { events, sandboxes: { find: () => sandbox }, ofSandbox: () => [] };
    const parts = { log: silentLogger, containers } as unknown as Parameters<typeof eventRpcs>[0];
    const implementation = complete(RuntimeServiceService, eventRpcs(parts));
    server = await serve(join(dir, 'cri.sock'), [{ definition: RuntimeServiceService, implementation }], silentLogger);
    client = new CriClient(server.path);
  });
  after(async () => {
    client.close();
    await server.close();
    rmSync(dir, { recursive: true });
  });

  const emit = (i: number) => events.emit({ type: 'pod', action: 'start', id: `${i}`, podId: 'pod' });

  it('that does not read hears in order what came until it was too slow, and then that it was', async () => {
    using reader = await EventStream.open(client);
    const session = connectHttp2('http://localhost', { createConnection: () => connect(server.path) });
    const sleeper = await subscribe(session.request({ ...POST, ':path': PATH }));
    const count = 120;
    for (let i = 0; i < count; i++) {
      emit(i);
      // One who reads keeps up, while the other sleeps.
      await reader.first(i + 1);
    }
    const { messages, trailers } = await readAll(sleeper);
    session.close();
    assert.equal(status[Number(trailers['grpc-status'])], 'RESOURCE_EXHAUSTED');
    assert.match(decodeURIComponent(String(trailers['grpc-message'])), /has not read its events.*subscribe again/);
    const ids = messages.map(message => Number(ContainerEventResponse.decode(message).containerId));
    assert.ok(ids.length < count);
    assert.deepEqual(
      ids,
      ids.map((_, i) => i),
    );
    assert.equal(reader.failure, undefined);
  });
});

const PATH = '/runtime.v1.RuntimeService/GetContainerEvents';
const POST = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' };
/** An empty message with its prefix. */
const EMPTY = Buffer.alloc(5);

/** By hand, since gRPC's own client reads ahead whether anybody asks it to or not. */
async function subscribe(stream: ClientHttp2Stream): Promise<ClientHttp2Stream> {
  stream.end(EMPTY);
  await once(stream, 'response');
  return stream;
}

async function readAll(stream: ClientHttp2Stream): Promise<{ messages: Buffer[]; trailers: IncomingHttpHeaders }> {
  const ended = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>;
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    messages.push(bytes.subarray(at + 5, end));
    at = end;
  }
  return { messages, trailers: (await ended)[0] };
}
