import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';

/** A response that is bytes already. */
class Encoded {
  constructor(readonly bytes: Buffer) {}
}

/**
 * Lets a handler answer with the bytes of its response's message, as `acceptEncoded`
 * takes them: a list of a thousand objects, whose encoding is known, is put together
 * and not encoded anew.
 */
export function encoded<Response>(bytes: Buffer): Response {
  return new Encoded(bytes) as Response;
}

/** The same service, whose responses may also come from `encoded`. */
export function acceptEncoded(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(Object.entries(service).map(([name, method]) => [name, withBytes(method)]));
}

function withBytes(method: MethodDefinition<unknown, unknown>): MethodDefinition<unknown, unknown> {
  const { responseSerialize } = method;
  return {
    ...method,
    responseSerialize: response => (response instanceof Encoded ? response.bytes : responseSerialize(response)),
  };
}
