import type { Client } from '@grpc/grpc-js';
import {
  ListContainersResponse,
  ListContainerStatsResponse,
  ListPodSandboxResponse,
  ListPodSandboxStatsResponse,
} from '../src/cri';

const COUNTS = {
  ListContainers: (bytes: Buffer) => ListContainersResponse.decode(bytes).containers.length,
  ListPodSandbox: (bytes: Buffer) => ListPodSandboxResponse.decode(bytes).items.length,
  ListContainerStats: (bytes: Buffer) => ListContainerStatsResponse.decode(bytes).stats.length,
  ListPodSandboxStats: (bytes: Buffer) => ListPodSandboxStatsResponse.decode(bytes).stats.length,
};

export type Listing = keyof typeof COUNTS;

/** A call without a filter, whose answer is left as bytes: decoding is the client's own time. */
export function rawCall(client: Client, listing: Listing): Promise<{ count(): number }> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      `/runtime.v1.RuntimeService/${listing}`,
      () => Buffer.alloc(0),
      (bytes: Buffer) => bytes,
      undefined,
      (error, bytes) =>
        error || !bytes ? reject(error ?? new Error('no answer')) : resolve({ count: () => COUNTS[listing](bytes) }),
    );
  });
}
