import { BerthError, errnoOf, messageOf } from '../../base/errors';
import { decode, encode, NLM_F_ACK, NLM_F_DUMP, type Reply, type Request } from './message';

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;

/** So often a list is asked for that changes meanwhile. */
const LISTED_AT_MOST = 20;

/** Sends one datagram from a socket of a namespace ("": the daemon's) and resolves with the answers; handed in. */
export type NetlinkCall = (protocol: number, namespacePath: string, request: Buffer) => Promise<Buffer>;

/** What the kernel refused: the message is a sentence, `code` for whoever decides. */
export class NetlinkError extends BerthError {
  constructor(
    what: string,
    readonly code: string,
    said: string,
    /** Place of the refused message in its list. */
    readonly index: number,
  ) {
    super(kindOf(code), `${what}: ${MEANING[code] ?? code}${said === '' ? '' : ` (the kernel says: ${said})`}`);
    this.name = 'NetlinkError';
  }
}

const MEANING: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'there is no such address',
  EAFNOSUPPORT: 'the kernel has no such address family',
  EBUSY: 'it is in use',
  EEXIST: 'it exists already',
  EINVAL: 'the kernel refuses the arguments',
  ENODEV: 'there is no such interface',
  ENOENT: 'it is not there',
  ENOTSUP: 'the kernel was built without it',
  EPERM: 'not permitted',
};

function kindOf(code: string) {
  return code === 'EPERM' ? 'permission_denied' : code === 'EBUSY' || code === 'EAGAIN' ? 'unavailable' : 'internal';
}

/** One conversation with the kernel after the other; nothing is kept between them. */
export class Netlink {
  constructor(private readonly call: NetlinkCall) {}

  /** Links, addresses, routes and queues. Each message stands for itself: those after a refused one are done all the same. */
  async route(requests: readonly Request[], namespacePath = ''): Promise<Reply[]> {
    const asked = requests.map(one => (isDump(one) ? one : { ...one, flags: one.flags | NLM_F_ACK }));
    return this.ask(NETLINK_ROUTE, asked, namespacePath);
  }

  /** nftables and conntrack; acknowledgements are asked for by the caller. */
  async netfilter(requests: readonly Request[]): Promise<Reply[]> {
    return this.ask(NETLINK_NETFILTER, requests, '');
  }

  private async ask(protocol: number, requests: readonly Request[], namespacePath: string): Promise<Reply[]> {
    const [first] = requests;
    if (!first) return [];
    for (let tried = 0; tried < LISTED_AT_MOST; tried++) {
      const replies = await this.askOnce(protocol, requests, first, namespacePath);
      // Of lists alone, which may be asked for again.
      if (!replies.some(({ isTorn }) => isTorn)) return replies;
    }
    throw new BerthError('unavailable', `${first.what}: what there is changes faster than it is listed`, {
      hint: 'try again',
    });
  }

  private async askOnce(
    protocol: number,
    requests: readonly Request[],
    first: Request,
    namespacePath: string,
  ): Promise<Reply[]> {
    const answer = await this.call(protocol, namespacePath, encode(requests)).catch((error: unknown) => {
      const code = errnoOf(error);
      if (code === 'EPROTONOSUPPORT') throw new NetlinkError(first.what, 'ENOTSUP', messageOf(error), 0);
      throw new BerthError('internal', `${first.what}: ${messageOf(error)}`, { cause: error });
    });
    const replies = decode(answer);
    for (const { sequence, failure } of replies) {
      const request = requests[sequence - 1];
      if (!failure || request?.tolerated?.includes(failure.code)) continue;
      throw new NetlinkError((request ?? first).what, failure.code, failure.said, sequence - 1);
    }
    return replies;
  }
}

function isDump({ flags }: Request): boolean {
  return (flags & NLM_F_DUMP) === NLM_F_DUMP;
}
