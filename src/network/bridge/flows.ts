import { messageOf } from '../../base/errors';
import type { Logger } from '../../base/log';
import type { Family } from '../addresses';
import { attr, attributes, be16Bytes, nested, NLM_F_ACK, NLM_F_DUMP, u32, u8, type Request } from '../netlink/message';
import type { Netlink } from '../netlink/netlink';

/* Connection tracking: include/uapi/linux/netfilter/nfnetlink_conntrack.h. */
const CT = { NEW: 1 << 8, GET: (1 << 8) | 1, DELETE: (1 << 8) | 2 };
const CTA = { TUPLE_ORIG: 1, ID: 12, ZONE: 18, FILTER: 25 };
const TUPLE_PROTO = 2;
const PROTO = { NUM: 1, DST_PORT: 3 };
const FILTER_ORIG_FLAGS = 1;
const BY = { PROTOCOL: 1 << 3, PORT: 1 << 5 };
const AF = { 4: 2, 6: 10 } as const;
const UDP = 17;

/** Each is acknowledged, and there has to be room for the answers. */
const DELETIONS_AT_ONCE = 1000;

/**
 * Makes the kernel forget flows of UDP to these ports of the host's. A client that sends on and on, as DNS servers and
 * log shippers do, would else keep reaching what the port led to before. A kernel that cannot is no reason to refuse a pod.
 */
export async function forgetFlows(
  netlink: Netlink,
  ports: readonly number[],
  families: readonly Family[],
  log: Logger,
): Promise<void> {
  const wanted = new Set(ports);
  if (wanted.size === 0) return;
  try {
    for (const family of new Set(families)) {
      const found = await flowsTo(netlink, AF[family], wanted);
      for (let at = 0; at < found.length; at += DELETIONS_AT_ONCE)
        await netlink.netfilter(found.slice(at, at + DELETIONS_AT_ONCE).map(flow => forget(AF[family], flow)));
    }
  } catch (error) {
    log.warn(`flows of UDP may go where the port led before: ${messageOf(error)}`);
  }
}

/** What a flow is known by. */
type Flow = ReadonlyMap<number, Buffer>;

/** Of a kernel that does not know the filter (5.7 and before) all come, of a newer one those of one port or of all of UDP. */
async function flowsTo(netlink: Netlink, family: number, ports: ReadonlySet<number>): Promise<Flow[]> {
  const replies = await netlink.netfilter([list(family, ports)]);
  return replies
    .filter(({ type }) => type === CT.NEW)
    .map(({ body }) => attributes(body.subarray(4)))
    .filter(flow => {
      const tuple = attributes(flow.get(CTA.TUPLE_ORIG) ?? Buffer.alloc(0));
      const protocol = attributes(tuple.get(TUPLE_PROTO) ?? Buffer.alloc(0));
      const port = protocol.get(PROTO.DST_PORT)?.readUInt16BE(0);
      return protocol.get(PROTO.NUM)?.readUInt8(0) === UDP && port !== undefined && ports.has(port);
    });
}

/** One walk through the kernel's table, however many ports there are. */
function list(family: number, ports: ReadonlySet<number>): Request {
  const [port = 0] = ports.size === 1 ? ports : [];
  const byPort = port === 0 ? [] : [attr(PROTO.DST_PORT, be16Bytes(port))];
  return {
    type: CT.GET,
    flags: NLM_F_DUMP,
    body: Buffer.concat([
      Buffer.of(family, 0, 0, 0),
      nested(CTA.TUPLE_ORIG, nested(TUPLE_PROTO, u8(PROTO.NUM, UDP), ...byPort)),
      nested(CTA.FILTER, u32(FILTER_ORIG_FLAGS, BY.PROTOCOL | (port === 0 ? 0 : BY.PORT))),
    ]),
    what: 'list the flows of UDP',
  };
}

/** By what it is known by: Linux 6.8 to 6.11 delete nothing by a filter. The id keeps from deleting one that is new. */
function forget(family: number, flow: Flow): Request {
  const known = [CTA.TUPLE_ORIG, CTA.ZONE, CTA.ID].flatMap(type => {
    const value = flow.get(type);
    return value ? [type === CTA.TUPLE_ORIG ? nested(type, value) : attr(type, value)] : [];
  });
  return {
    type: CT.DELETE,
    flags: NLM_F_ACK,
    body: Buffer.concat([Buffer.of(family, 0, 0, 0), ...known]),
    what: 'forget a flow of UDP',
    tolerated: ['ENOENT'],
  };
}
