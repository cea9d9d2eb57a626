import { Reader } from './reader';
import type { Value, Variant } from './values';
import { Writer } from './writer';

type MessageType = 'call' | 'reply' | 'error' | 'signal';

const TYPES: readonly MessageType[] = ['call', 'reply', 'error', 'signal'];

/** A message; a call has path and member, a reply and an error replySerial, an error errorName, a signal all of path, interface and member. */
export interface Message {
  type: MessageType;
  serial: number;
  path?: string;
  interface?: string;
  member?: string;
  errorName?: string;
  replySerial?: number;
  destination?: string;
  sender?: string;
  /** Of the body; empty: there is none. */
  signature: string;
  body: readonly Value[];
}

/** Header fields by number. */
const FIELDS = [
  undefined,
  { name: 'path', type: 'o' },
  { name: 'interface', type: 's' },
  { name: 'member', type: 's' },
  { name: 'errorName', type: 's' },
  { name: 'replySerial', type: 'u' },
  { name: 'destination', type: 's' },
  { name: 'sender', type: 's' },
  { name: 'signature', type: 'g' },
] as const;

const LITTLE = 'l'.charCodeAt(0);
const BIG = 'B'.charCodeAt(0);
const VERSION = 1;
/** What comes before the header fields, and of these the length. */
const FIXED_BYTES = 16;
const MAX_BYTES = 128 * 1024 * 1024;

/** A message's bytes, little endian. */
export function encodeMessage(message: Message): Buffer {
  const out = new Writer();
  const flags = 0;
  out.values('yyyyuu', [LITTLE, TYPES.indexOf(message.type) + 1, flags, VERSION, 0, message.serial]);
  out.values('a(yv)', [headerFields(message)]);
  out.align(8);
  const bodyAt = out.length;
  out.values(message.signature, message.body);
  out.patchU32(out.length - bodyAt, 4);
  return Buffer.from(out.bytes());
}

function headerFields(message: Message): [number, Variant][] {
  return FIELDS.flatMap((field, code): [number, Variant][] => {
    const value = field && message[field.name];
    return field === undefined || value === undefined || value === '' ? [] : [[code, { signature: field.type, value }]];
  });
}

/**
 * The first message of what has come, and how many bytes it takes; undefined while more has to come. Throws a
 * `RangeError` for what is no message: nobody can tell then where the next one begins.
 */
export function decodeMessage(bytes: Buffer): { message: Message; length: number } | undefined {
  if (bytes.length < FIXED_BYTES) return undefined;
  const isLittle = bytes[0] === LITTLE;
  if ((!isLittle && bytes[0] !== BIG) || bytes[3] !== VERSION) throw new RangeError('this is no D-Bus message');
  const u32 = (at: number) => (isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const fieldsEnd = FIXED_BYTES + u32(12);
  const bodyAt = fieldsEnd + (-fieldsEnd & 7);
  const length = bodyAt + u32(4);
  if (length > MAX_BYTES) throw new RangeError(`a D-Bus message of ${length} bytes`);
  if (bytes.length < length) return undefined;
  const reader = new Reader(bytes, isLittle, length);
  reader.seek(FIXED_BYTES - 4);
  const message: Message = {
    type: typeOf(bytes[1]),
    serial: u32(8),
    signature: '',
    body: [],
    ...fieldsOf(reader.values('a(yv)')[0] as [number, Variant][]),
  };
  if (reader.position !== fieldsEnd) throw new RangeError('the header of a D-Bus message ends within a field');
  reader.seek(bodyAt);
  message.body = reader.values(message.signature);
  return { message, length };
}

function typeOf(code: number | undefined): MessageType {
  const type = TYPES[(code ?? 0) - 1];
  if (type === undefined) throw new RangeError(`a D-Bus message of type ${code}`);
  return type;
}

/** Fields that are not known are left out, as the specification asks. */
function fieldsOf(fields: readonly [number, Variant][]): Partial<Message> {
  const known = fields.flatMap(([code, { signature, value }]) => {
    const field = FIELDS[code];
    if (!field) return [];
    if (field.type !== signature)
      throw new RangeError(`the header field ${field.name} of a D-Bus message is no ${field.type}`);
    return [[field.name, value]];
  });
  return Object.fromEntries(known) as Partial<Message>;
}
