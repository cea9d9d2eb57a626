import { messageOf } from '../../base/errors';
import type { Logger } from '../../base/log';
import { attr, be16Bytes, nested, NLM_F_ACK, u32, u8, type Request } from '../netlink/message';
import type { Netlink } from '../netlink/netlink';

/* Connection tracking: include/uapi/linux/netfilter/nfnetlink_conntrack.h. */
const CT_DELETE = (1 << 8) | 2;
const CTA = { TUPLE_ORIG: 1, FILTER: 25 };
const TUPLE_PROTO = 2;
const PROTO = { NUM: 1, DST_PORT: 3 };
const FILTER_ORIG_FLAGS = 1;
const BY_PROTOCOL_AND_PORT = (1 << 3) | (1 << 5);
const FAMILIES = [2, 10];
const UDP = 17;

/**
 * Makes the kernel forget flows of UDP to these ports of the host's. A client that sends on and on, as DNS servers and
 * log shippers do, would else keep reaching what the port led to before. A kernel that cannot is no reason to refuse a pod.
 */
export async function forgetFlows(netlink: Netlink, ports: readonly number[], log: Logger): Promise<void> {
  for (const request of ports.flatMap(port => FAMILIES.map(family => forget(family, port)))) {
    try {
      await netlink.netfilter([request]);
    } catch (error) {
      log.warn(`flows of UDP may go where the port led before: ${messageOf(error)}`);
    }
  }
}

function forget(family: number, port: number): Request {
  const to = nested(TUPLE_PROTO, u8(PROTO.NUM, UDP), attr(PROTO.DST_PORT, be16Bytes(port)));
  return {
    type: CT_DELETE,
    flags: NLM_F_ACK,
    body: Buffer.concat([
      Buffer.of(family, 0, 0, 0),
      nested(CTA.TUPLE_ORIG, to),
      nested(CTA.FILTER, u32(FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT)),
    ]),
    what: `forget flows to port ${port}/udp`,
    tolerated: ['ENOENT'],
  };
}
