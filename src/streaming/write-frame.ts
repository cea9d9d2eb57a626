import type { Duplex } from 'node:stream';

/**
 * Writes a frame in one system call, with the payload where it is. The caller must not touch that before the returned
 * promise settles: when it was sent, or the stream is no more. None is returned when all of it is with the kernel already.
 */
export function writeFrame(stream: Duplex, header: Buffer, payload: Buffer): void | Promise<void> {
  if (stream.destroyed) return;
  let settle: () => void = nothing;
  stream.cork();
  stream.write(header);
  if (payload.length > 0) stream.write(payload, () => settle());
  stream.uncork();
  if (payload.length > 0 && stream.writableLength > 0) return new Promise(resolve => (settle = resolve));
}

function nothing(): void {
  // Nobody waits yet.
}

/** Final, and binary. */
const BINARY = 0x82;

/**
 * What stands before the payload of a binary WebSocket message from a server (RFC 6455, 5.2), and the number of its channel.
 * `ws` takes messages in one piece, and to put one byte before a payload is to copy it; between whole messages of its, whole
 * ones of others are fine.
 */
export function messageHeader(channel: number, payloadBytes: number): Buffer {
  const length = 1 + payloadBytes;
  const extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
  const header = Buffer.allocUnsafe(2 + extended + 1);
  header[0] = BINARY;
  header[1] = extended === 0 ? length : extended === 2 ? 126 : 127;
  if (extended === 2) header.writeUInt16BE(length, 2);
  if (extended === 8) header.writeBigUInt64BE(BigInt(length), 2);
  header[2 + extended] = channel;
  return header;
}
