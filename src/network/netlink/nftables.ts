import {
  attr,
  attributes,
  be16Bytes,
  be32,
  nested,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_DUMP,
} from './message';
import { text, textOf, type Reply, type Request } from './message';

/*
 * Messages of nftables: include/uapi/linux/netfilter/nf_tables.h. Numbers are big endian here. A transaction is a list of
 * changes between two marks: all of it happens at once, or nothing does.
 */

const SUBSYSTEM = 10;
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const MSG = {
  NEWTABLE: 0,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  NEWSETELEM: 12,
  GETGEN: 16,
  DESTROYTABLE: 26,
  DESTROYSETELEM: 30,
};
const NAME_TABLE = 1;
const CHAIN = { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 };
const HOOK = { NUM: 1, PRIORITY: 2 };
const RULE = { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, USERDATA: 7 };
const SET = { TABLE: 1, NAME: 2, FLAGS: 3, KEY_TYPE: 4, KEY_LEN: 5, DATA_TYPE: 6, DATA_LEN: 7, ID: 10 };
const SET_MAP = 0x8;
const ELEMENTS = { TABLE: 1, SET: 2, ELEMENTS: 3 };
const ELEMENT = { KEY: 1, DATA: 2 };
const LIST_ELEM = 1;
const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const UDATA_COMMENT = 0;

const FAMILY = { inet: 1, ip: 2, ip6: 10 } as const;
type NftFamily = keyof typeof FAMILY;

export const HOOKS = { prerouting: 0, forward: 2, output: 3, postrouting: 4 } as const;

/** A table of one family. */
export interface Table {
  readonly family: NftFamily;
  readonly name: string;
}

function change(table: Table, type: number, flags: number, what: string, ...parts: readonly Buffer[]): Request {
  return { type: (SUBSYSTEM << 8) | type, flags, body: Buffer.concat([header(FAMILY[table.family]), ...parts]), what };
}

/** The changes as one transaction, of which the last one is acknowledged. */
export function transaction(changes: readonly Request[]): Request[] {
  const mark = (type: number): Request => ({
    type,
    flags: 0,
    body: header(0, SUBSYSTEM),
    what: 'change the rules of nftables',
  });
  const [last] = changes.slice(-1);
  if (!last) return [];
  const acknowledged = { ...last, flags: last.flags | NLM_F_ACK };
  return [mark(BATCH_BEGIN), ...changes.slice(0, -1), acknowledged, mark(BATCH_END)];
}

/** Whether there is nftables at all. */
export function probe(): Request {
  return { type: (SUBSYSTEM << 8) | MSG.GETGEN, flags: NLM_F_ACK, body: header(0), what: 'nftables' };
}

export function addTable(table: Table): Request {
  return change(
    table,
    MSG.NEWTABLE,
    NLM_F_CREATE,
    `make the table ${table.name} of nftables`,
    text(NAME_TABLE, table.name),
  );
}

/** With all that is in it; one that is not there is fine. */
export function destroyTable(table: Table): Request {
  return change(table, MSG.DESTROYTABLE, 0, `remove the table ${table.name} of nftables`, text(NAME_TABLE, table.name));
}

/** A chain that the kernel comes to by itself, or one that others jump to. */
export function addChain(
  table: Table,
  name: string,
  base?: { type: 'filter' | 'nat'; hook: keyof typeof HOOKS; priority: number },
): Request {
  const hook = base && [
    nested(CHAIN.HOOK, be32(HOOK.NUM, HOOKS[base.hook]), be32(HOOK.PRIORITY, base.priority)),
    text(CHAIN.TYPE, base.type),
  ];
  const parts = [text(CHAIN.TABLE, table.name), text(CHAIN.NAME, name), ...(hook ?? [])];
  return change(table, MSG.NEWCHAIN, NLM_F_CREATE, `make the chain ${name} of table ${table.name}`, ...parts);
}

/** A rule at the end of its chain, or at the beginning. */
export function addRule(
  table: Table,
  chain: string,
  expressions: readonly Buffer[],
  options: { comment?: string; atBeginning?: boolean } = {},
): Request {
  const { comment, atBeginning = false } = options;
  const parts = [
    text(RULE.TABLE, table.name),
    text(RULE.CHAIN, chain),
    nested(RULE.EXPRESSIONS, ...expressions),
    ...(comment === undefined ? [] : [attr(RULE.USERDATA, userComment(comment))]),
  ];
  const flags = NLM_F_CREATE | (atBeginning ? 0 : NLM_F_APPEND);
  return change(table, MSG.NEWRULE, flags, `add a rule to chain ${chain} of table ${table.name}`, ...parts);
}

/** Kinds of what is in sets, for those who list them: `nft list ruleset`. */
const KIND = { ipv4: 7, ipv6: 8, protocol: 12, port: 13 } as const;

/** A set of keys, or a map from keys to data; both are made of kinds that stand one after the other. */
export interface SetShape {
  readonly name: string;
  readonly key: readonly (keyof typeof KIND)[];
  readonly data?: readonly (keyof typeof KIND)[];
}

const BYTES = { ipv4: 4, ipv6: 16, protocol: 4, port: 4 } as const;

export function addSet(table: Table, { name, key, data }: SetShape, id: number): Request {
  const kind = (kinds: SetShape['key']) => kinds.reduce((sum, one) => (sum << 6) | KIND[one], 0);
  const length = (kinds: SetShape['key']) => kinds.reduce((sum, one) => sum + BYTES[one], 0);
  const parts = [
    text(SET.TABLE, table.name),
    text(SET.NAME, name),
    be32(SET.FLAGS, data ? SET_MAP : 0),
    be32(SET.KEY_TYPE, kind(key)),
    be32(SET.KEY_LEN, length(key)),
    ...(data ? [be32(SET.DATA_TYPE, kind(data)), be32(SET.DATA_LEN, length(data))] : []),
    be32(SET.ID, id),
  ];
  return change(table, MSG.NEWSET, NLM_F_CREATE, `make the set ${name} of table ${table.name}`, ...parts);
}

/** An element's key and data, laid out as the set's kinds say. */
export interface Element {
  readonly key: Buffer;
  readonly data?: Buffer | undefined;
}

/** A message takes attributes of 64 KiB, and an element less than 100 bytes. */
const ELEMENTS_A_MESSAGE = 400;

export function addElements(table: Table, set: string, elements: readonly Element[]): Request[] {
  return ofElements(table, set, elements, MSG.NEWSETELEM, NLM_F_CREATE, 'add to');
}

/** By their keys; those that are not there are fine. */
export function destroyElements(table: Table, set: string, elements: readonly Element[]): Request[] {
  const keys = elements.map(({ key }) => ({ key }));
  return ofElements(table, set, keys, MSG.DESTROYSETELEM, 0, 'take from');
}

function ofElements(table: Table, set: string, all: readonly Element[], type: number, flags: number, verb: string) {
  const requests: Request[] = [];
  for (let at = 0; at < all.length; at += ELEMENTS_A_MESSAGE) {
    const list = all
      .slice(at, at + ELEMENTS_A_MESSAGE)
      .map(({ key, data }) =>
        nested(
          LIST_ELEM,
          nested(ELEMENT.KEY, attr(DATA_VALUE, key)),
          ...(data ? [nested(ELEMENT.DATA, attr(DATA_VALUE, data))] : []),
        ),
      );
    const parts = [text(ELEMENTS.TABLE, table.name), text(ELEMENTS.SET, set), nested(ELEMENTS.ELEMENTS, ...list)];
    requests.push(change(table, type, flags, `${verb} the set ${set} of table ${table.name}`, ...parts));
  }
  return requests;
}

/** Asks for a chain; one that is not there, or whose table is not, is no error. */
export function getChain(table: Table, name: string): Request {
  const parts = [text(CHAIN.TABLE, table.name), text(CHAIN.NAME, name)];
  const asked = change(table, MSG.GETCHAIN, NLM_F_ACK, `look at the chain ${name} of table ${table.name}`, ...parts);
  return { ...asked, tolerated: ['ENOENT'] };
}

/**
 * Whether the chain that the nth request asked for is there, and what becomes of packets that no rule of it decides:
 * undefined for a chain without a hook.
 */
export function chainIn(replies: readonly Reply[], nth = 0): { policy: 'accept' | 'drop' | undefined } | undefined {
  const isIt = ({ type, sequence }: Reply) => type === ((SUBSYSTEM << 8) | MSG.NEWCHAIN) && sequence === nth + 1;
  const found = replies.find(isIt);
  if (!found) return undefined;
  const policy = attributes(found.body.subarray(4)).get(CHAIN.POLICY);
  return { policy: policy && (policy.readUInt32BE(0) === 0 ? 'drop' : 'accept') };
}

export function getRules(table: Table, chain: string): Request {
  const parts = [text(RULE.TABLE, table.name), text(RULE.CHAIN, chain)];
  const asked = change(
    table,
    MSG.GETRULE,
    NLM_F_DUMP,
    `list the rules of chain ${chain} of table ${table.name}`,
    ...parts,
  );
  return { ...asked, tolerated: ['ENOENT'] };
}

/** A rule that is there. */
export interface Rule {
  /** By which the kernel knows it, in its chain. */
  readonly handle: Buffer;
  /** Empty for none. */
  readonly comment: string;
}

export function rulesIn(replies: readonly Reply[]): Rule[] {
  return replies
    .filter(({ type }) => type === ((SUBSYSTEM << 8) | MSG.NEWRULE))
    .flatMap(({ body }) => {
      const found = attributes(body.subarray(4));
      const handle = found.get(RULE.HANDLE);
      return handle ? [{ handle, comment: commentOf(found.get(RULE.USERDATA) ?? Buffer.alloc(0)) }] : [];
    });
}

/** One that is not there is fine. */
export function deleteRule(table: Table, chain: string, handle: Buffer): Request {
  const parts = [text(RULE.TABLE, table.name), text(RULE.CHAIN, chain), attr(RULE.HANDLE, handle)];
  const what = `remove a rule of chain ${chain} of table ${table.name}`;
  return { ...change(table, MSG.DELRULE, 0, what, ...parts), tolerated: ['ENOENT'] };
}

/* ---- expressions: a rule is a list of them, and what they hand on is in registers of four bytes, 8 and up ---- */

const REGISTER = 8;
const VERDICT_REGISTER = 0;
const META = { oifname: 7, iifname: 6, nfproto: 15, l4proto: 16 } as const;
const CT_ORIGINAL_PORT = 12;
const VERDICT = { drop: 0, accept: 1, jump: -3 } as const;

/** Registers are counted from 0 here. */
export function meta(key: keyof typeof META, register = 0): Buffer {
  return expression('meta', be32(1, REGISTER + register), be32(2, META[key]));
}

/** Bytes of a packet's network or transport header. */
export function payload(base: 'network' | 'transport', offset: number, length: number, register = 0): Buffer {
  const from = be32(2, base === 'network' ? 1 : 2);
  return expression('payload', be32(1, REGISTER + register), from, be32(3, offset), be32(4, length));
}

/** The port that a connection was first sent to, before any translation. */
export function originalPort(register = 0): Buffer {
  return expression('ct', be32(1, REGISTER + register), be32(2, CT_ORIGINAL_PORT), attr(3, Buffer.of(0)));
}

/** Goes on only when the first register holds this, or, with `not`, when it does not. */
export function compare(bytes: Buffer, relation: 'is' | 'not' = 'is'): Buffer {
  return expression('cmp', be32(1, REGISTER), be32(2, relation === 'is' ? 0 : 1), nested(3, attr(DATA_VALUE, bytes)));
}

/** Leaves only the bits of a mask in the first register. */
export function mask(bits: Buffer): Buffer {
  return expression(
    'bitwise',
    be32(1, REGISTER),
    be32(2, REGISTER),
    be32(3, bits.length),
    nested(4, attr(DATA_VALUE, bits)),
    nested(5, attr(DATA_VALUE, Buffer.alloc(bits.length))),
  );
}

/** Goes on only when a set has the key in the registers; a map's data goes to the registers from `into` on. */
export function lookup(set: string, id: number, into?: number): Buffer {
  const destination = into === undefined ? [] : [be32(3, REGISTER + into)];
  return expression('lookup', text(1, set), be32(2, REGISTER), ...destination, be32(4, id));
}

/** Goes on only when the packet is for an address of this machine's. */
export function isForThisHost(): Buffer[] {
  const local = Buffer.alloc(4);
  local.writeUInt32LE(2); // RTN_LOCAL
  return [expression('fib', be32(1, REGISTER), be32(2, 3), be32(3, 2)), compare(local)];
}

/** Sends on to the address in one register and the port in another. */
export function destinationNat(family: 'ip' | 'ip6', address: number, port: number): Buffer {
  return expression('nat', be32(1, 1), be32(2, FAMILY[family]), be32(3, REGISTER + address), be32(5, REGISTER + port));
}

/** The sender becomes this machine, by a port at random: two that choose at once rarely choose the same. */
export function masquerade(): Buffer {
  return expression('masq', be32(1, 0x10));
}

export function counter(): Buffer {
  return expression('counter');
}

export function verdict(code: keyof typeof VERDICT, chain?: string): Buffer {
  const parts = [be32(1, VERDICT[code]), ...(chain === undefined ? [] : [text(2, chain)])];
  return expression('immediate', be32(1, VERDICT_REGISTER), nested(2, nested(DATA_VERDICT, ...parts)));
}

/** An interface's name as registers hold it. */
export function interfaceName(name: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.write(name);
  return bytes;
}

function expression(name: string, ...data: readonly Buffer[]): Buffer {
  return nested(LIST_ELEM, text(1, name), nested(2, ...data));
}

function header(family: number, resource = 0): Buffer {
  return Buffer.concat([Buffer.of(family, 0), be16Bytes(resource)]);
}

/** As nft and iptables write and show them: type, length, bytes. */
function userComment(comment: string): Buffer {
  const bytes = Buffer.from(`${comment}\0`);
  return Buffer.concat([Buffer.of(UDATA_COMMENT, bytes.length), bytes]);
}

function commentOf(userData: Buffer): string {
  for (let at = 0; at + 2 <= userData.length;) {
    const [type, length] = [userData.readUInt8(at), userData.readUInt8(at + 1)];
    if (type === UDATA_COMMENT) return textOf(userData.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return '';
}
