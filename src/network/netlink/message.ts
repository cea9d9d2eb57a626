import { getSystemErrorName } from 'node:util';

/** Netlink's own numbers; include/uapi/linux/netlink.h. */
const HEADER_BYTES = 16;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLA_TYPE = 0x3fff;
const NLA_F_NESTED = 0x8000;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

/** One attribute, padded to four bytes. */
export function attr(type: number, ...parts: readonly Buffer[]): Buffer {
  const length = 4 + parts.reduce((sum, part) => sum + part.length, 0);
  if (length > 0xffff) throw new RangeError(`a netlink attribute of ${length} bytes`);
  const padded = Buffer.alloc(align(length));
  padded.writeUInt16LE(length, 0);
  padded.writeUInt16LE(type, 2);
  let at = 4;
  for (const part of parts) at += part.copy(padded, at);
  return padded;
}

/** An attribute that holds attributes. */
export function nested(type: number, ...attributes: readonly Buffer[]): Buffer {
  return attr(type | NLA_F_NESTED, ...attributes);
}

/** A string with its NUL. */
export function text(type: number, value: string): Buffer {
  return attr(type, Buffer.from(`${value}\0`));
}

/* Numbers in the machine's order, which is little endian wherever berth runs, and in the network's. */

export function u8(type: number, value: number): Buffer {
  return attr(type, Buffer.of(value));
}

export function u32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return attr(type, bytes);
}

export function u64(type: number, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return attr(type, bytes);
}

export function be32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return attr(type, bytes);
}

export function be16Bytes(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** A message to be sent; its place in the list is its sequence number. */
export interface Request {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
  /** What it does, for the sentence when it fails: "make the bridge berth0". */
  readonly what: string;
  /** Errors that are as good as success: `['EEXIST']`. */
  readonly tolerated?: readonly string[];
}

export function encode(requests: readonly Request[]): Buffer {
  return Buffer.concat(
    requests.map(({ type, flags, body }, index) => {
      const message = Buffer.alloc(align(HEADER_BYTES + body.length));
      message.writeUInt32LE(HEADER_BYTES + body.length, 0);
      message.writeUInt16LE(type, 4);
      message.writeUInt16LE(flags | NLM_F_REQUEST, 6);
      message.writeUInt32LE(index + 1, 8);
      body.copy(message, HEADER_BYTES);
      return message;
    }),
  );
}

/** A message of the kernel's. */
export interface Reply {
  /** Sequence number of the request that it answers. */
  readonly sequence: number;
  readonly type: number;
  readonly body: Buffer;
  /** Of an acknowledgement: `undefined` for success. */
  readonly failure?: { readonly code: string; readonly said: string } | undefined;
  readonly isAck: boolean;
  /** What it is a part of changed while it was listed: something may be missing, or be there twice. */
  readonly isTorn: boolean;
}

/** All that the kernel answered. */
export function decode(answer: Buffer): Reply[] {
  const replies: Reply[] = [];
  for (let at = 0; at + HEADER_BYTES <= answer.length;) {
    const length = answer.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > answer.length) break;
    replies.push(reply(answer.subarray(at, at + length)));
    at += align(length);
  }
  return replies;
}

function reply(message: Buffer): Reply {
  const type = message.readUInt16LE(4);
  const flags = message.readUInt16LE(6);
  const body = message.subarray(HEADER_BYTES);
  const isTorn = (flags & NLM_F_DUMP_INTR) !== 0;
  const common = { sequence: message.readUInt32LE(8), type, body, isTorn };
  if (type !== NLMSG_ERROR && type !== NLMSG_DONE) return { ...common, isAck: false };
  const errno = body.length >= 4 ? -body.readInt32LE(0) : 0;
  if (errno <= 0) return { ...common, isAck: true };
  const code = getSystemErrorName(-errno);
  return { ...common, isAck: true, failure: { code, said: type === NLMSG_ERROR ? saidIn(body, flags) : '' } };
}

/** The kernel's own sentence, where it has one. */
function saidIn(body: Buffer, flags: number): string {
  if (!(flags & NLM_F_ACK_TLVS) || body.length < 4 + HEADER_BYTES) return '';
  const request = flags & NLM_F_CAPPED ? HEADER_BYTES : align(body.readUInt32LE(4));
  return textOf(attributes(body.subarray(4 + request)).get(NLMSGERR_ATTR_MSG));
}

/** Attributes by type; of those that come more than once, the last. */
export function attributes(bytes: Buffer): Map<number, Buffer> {
  return new Map(attributeList(bytes).map(({ type, value }) => [type, value]));
}

function attributeList(bytes: Buffer): { type: number; value: Buffer }[] {
  const list: { type: number; value: Buffer }[] = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    list.push({ type: bytes.readUInt16LE(at + 2) & NLA_TYPE, value: bytes.subarray(at + 4, at + length) });
    at += align(length);
  }
  return list;
}

/** A string without its NUL; empty for none. */
export function textOf(value: Buffer | undefined): string {
  return (value ?? Buffer.alloc(0)).toString().replace(/\0+$/, '');
}

function align(length: number): number {
  return (length + 3) & ~3;
}
