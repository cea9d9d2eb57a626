import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import type { Wire } from '../stats/wire';

/** A response that is bytes already. */
class Encoded {
  constructor(readonly bytes: Pick<Buffer, 'byteLength' | 'copy'>) {}
}

/**
 * Lets a handler answer with the bytes of its response's message, as `acceptEncoded`
 * takes them: a list of a thousand objects, whose encoding is known, is put together
 * and not encoded anew.
 */
export function encoded<Response>(bytes: Buffer): Response {
  return new Encoded(bytes) as Response;
}

/**
 * The same for bytes that lie in pieces. grpc-js puts its own five bytes before a message and copies that there, and needs
 * nothing else of it: so many megabytes are moved once.
 */
export function encodedPieces<Response>(pieces: readonly Uint8Array[]): Response {
  const copy = (target: Uint8Array, start = 0) => {
    let at = start;
    for (const piece of pieces) {
      target.set(piece, at);
      at += piece.length;
    }
    return at - start;
  };
  return new Encoded({ byteLength: pieces.reduce((sum, { length }) => sum + length, 0), copy }) as Response;
}

/** The same for what was written there, which is moved where grpc-js wants it. */
export function encodedBy<Response>(wire: Wire): Response {
  return new Encoded({
    byteLength: wire.byteLength,
    copy: (target, start = 0) => wire.moveTo(target, start),
  }) as Response;
}

/** The same service, whose responses may also come from `encoded`. */
export function acceptEncoded(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => [name, withBytes(method)]));
}

function withBytes(method: MethodDefinition<unknown, unknown>): MethodDefinition<unknown, unknown> {
  const { responseSerialize } = method;
  return {
    ...method,
    responseSerialize: response =>
      response instanceof Encoded ? (response.bytes as Buffer) : responseSerialize(response),
  };
}
