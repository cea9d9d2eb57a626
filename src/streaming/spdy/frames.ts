import { BerthError } from '../../base/errors';

/*
 * SPDY/3.1 frames, big endian:
 *
 *     control  1 | version 15 | type 16      data  0 | stream id 31
 *              flags 8 | length 24                 flags 8 | length 24
 */

export const TYPE = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

export const FLAG_FIN = 1;

/** Why a stream is reset. */
export const RST = { protocolError: 1, refusedStream: 3, cancel: 5, internalError: 6 } as const;

const VERSION = 3;
const HEADER_BYTES = 8;

/** A request's headers take some hundred bytes; a frame of data is not held and may be as long as it can say. */
const MAX_CONTROL_BYTES = 16 * 1024;

export type Frame =
  /** A piece of a data frame, or all of it; `fin` only on the last. */
  | { kind: 'data'; streamId: number; bytes: Buffer; fin: boolean }
  | { kind: 'control'; type: number; flags: number; payload: Buffer };

/** Cuts the bytes of a connection into frames. What it keeps is at most one control frame. */
export class FrameReader {
  private pending: Buffer = Buffer.alloc(0);
  private data: { streamId: number; left: number; fin: boolean } | undefined;

  /** Frames that `chunk` completes; throws `invalid_argument` when it is no SPDY/3.1. */
  *take(chunk: Buffer): Generator<Frame> {
    let rest = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    this.pending = Buffer.alloc(0);
    while (rest.length > 0) {
      if (this.data) {
        const { streamId, left, fin } = this.data;
        const bytes = rest.subarray(0, left);
        this.data = left > bytes.length ? { streamId, left: left - bytes.length, fin } : undefined;
        rest = rest.subarray(bytes.length);
        yield { kind: 'data', streamId, bytes, fin: fin && this.data === undefined };
        continue;
      }
      const frame = rest.length < HEADER_BYTES ? undefined : this.begin(rest);
      if (frame === undefined) break;
      rest = rest.subarray(frame.bytes);
      if (frame.frame) yield frame.frame;
    }
    // A copy: the chunk that it is a part of may be much longer.
    this.pending = Buffer.from(rest);
  }

  /** The frame at the start of `rest` and its length; undefined when more of it has to come. */
  private begin(rest: Buffer): { bytes: number; frame: Frame | undefined } | undefined {
    const first = rest.readUInt32BE(0);
    const flags = rest.readUInt8(4);
    const length = rest.readUIntBE(5, 3);
    if (first >>> 31 === 0) {
      const fin = (flags & FLAG_FIN) !== 0;
      if (length > 0) this.data = { streamId: first, left: length, fin };
      const empty: Frame = { kind: 'data', streamId: first, bytes: Buffer.alloc(0), fin };
      return { bytes: HEADER_BYTES, frame: length > 0 ? undefined : empty };
    }
    const version = (first >>> 16) & 0x7fff;
    if (version !== VERSION) throw broken(`a frame of version ${version}, and this is version ${VERSION}`);
    if (length > MAX_CONTROL_BYTES) {
      throw broken(`a control frame of ${length} bytes, and ${MAX_CONTROL_BYTES} is the most`);
    }
    if (rest.length < HEADER_BYTES + length) return undefined;
    const payload = rest.subarray(HEADER_BYTES, HEADER_BYTES + length);
    return { bytes: HEADER_BYTES + length, frame: { kind: 'control', type: first & 0xffff, flags, payload } };
  }
}

/** The header of a data frame; `length` bytes follow it. */
export function dataHeader(streamId: number, flags: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES);
  bytes.writeUInt32BE(streamId, 0);
  bytes.writeUInt32BE(((flags << 24) | length) >>> 0, 4);
  return bytes;
}

/** `block` is what `encodeHeaders` made. */
export function synReply(streamId: number, block: Buffer): Buffer {
  return control(TYPE.synReply, 0, Buffer.concat([u32(streamId), block]));
}

export function rstStream(streamId: number, reason: number): Buffer {
  return control(TYPE.rstStream, 0, Buffer.concat([u32(streamId), u32(reason)]));
}

export function ping(payload: Buffer): Buffer {
  return control(TYPE.ping, 0, payload);
}

/** Says that no stream after `lastStreamId` was looked at. */
export function goaway(lastStreamId: number, reason: number): Buffer {
  return control(TYPE.goaway, 0, Buffer.concat([u32(lastStreamId), u32(reason)]));
}

export function broken(what: string): BerthError {
  return new BerthError('invalid_argument', `the client does not speak SPDY/3.1: ${what}`);
}

function control(type: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE((0x80000000 | (VERSION << 16) | type) >>> 0, 0);
  header.writeUInt32BE(((flags << 24) | payload.length) >>> 0, 4);
  return Buffer.concat([header, payload]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}
