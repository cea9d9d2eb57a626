import type { Logger } from '../../base/log';
import type { Netlink } from '../netlink/netlink';
import {
  addRule,
  chainIn,
  commentsIn,
  compare,
  counter,
  getChain,
  getRules,
  interfaceName,
  meta,
  transaction,
  verdict,
  type Table,
} from '../netlink/nftables';

/** Where iptables keeps what is forwarded, and where Docker asks others to put their rules. */
const FORWARD = 'FORWARD';
const DOCKER_USER = 'DOCKER-USER';

/**
 * A packet must be accepted by every table that looks at it: on a host whose iptables drop what is forwarded, as Docker
 * and ufw set them up, no rule in a table of berth's own lets it through. There, and only there, two rules for the
 * bridge go into iptables' own chain, in the words that iptables has, so that it can show and remove them.
 */
export async function allowForwarding(netlink: Netlink, bridge: string, log: Logger): Promise<void> {
  const tables: readonly Table[] = [
    { family: 'ip', name: 'filter' },
    { family: 'ip6', name: 'filter' },
  ];
  const found = await netlink.netfilter(tables.map(table => getChain(table, FORWARD)));
  for (const [nth, table] of tables.entries()) {
    if (chainIn(found, nth)?.policy !== 'drop') continue;
    const isDockers = chainIn(await netlink.netfilter([getChain(table, DOCKER_USER)])) !== undefined;
    const chain = isDockers ? DOCKER_USER : FORWARD;
    const comment = `berth: pods of ${bridge}`;
    if (commentsIn(await netlink.netfilter([getRules(table, chain)])).includes(comment)) continue;
    const rules = (['iifname', 'oifname'] as const).map(key => {
      const expressions = [meta(key), compare(interfaceName(bridge)), counter(), verdict('accept')];
      return addRule(table, chain, expressions, { comment, atBeginning: true });
    });
    await netlink.netfilter(transaction(rules));
    log.info(
      `this host drops what it forwards: ${chain} of ${table.family === 'ip' ? 'iptables' : 'ip6tables'} has rules for ${bridge} now`,
    );
  }
}
