import type { Logger } from '../../base/log';
import { SingleFlight } from '../../base/single-flight';
import type { Netlink } from '../netlink/netlink';
import {
  addRule,
  chainIn,
  compare,
  counter,
  deleteRule,
  getChain,
  getRules,
  interfaceName,
  meta,
  rulesIn,
  transaction,
  verdict,
  type Rule,
  type Table,
} from '../netlink/nftables';
import { tableName } from './table';

/** Where iptables keeps what is forwarded, and where Docker asks others to put their rules. */
const FORWARD = 'FORWARD';
const DOCKER_USER = 'DOCKER-USER';

const TABLES: readonly Table[] = [
  { family: 'ip', name: 'filter' },
  { family: 'ip6', name: 'filter' },
];

/**
 * A packet must be accepted by every table that looks at it: on a host whose iptables drop what is forwarded, as Docker
 * and ufw set them up, no rule in a table of berth's own lets it through. There, and only there, two rules for the
 * bridge go into iptables' own chain, in the words that iptables has, so that it can show and remove them.
 */
export class HostFirewall {
  /** Two pods that come at once would each find no rule, and add one. */
  private readonly looks = new SingleFlight<void>();

  constructor(
    private readonly netlink: Netlink,
    /** Which daemon's rules they are, among those of the host. */
    private readonly owner: string,
    private readonly log: Logger,
  ) {}

  /** Lets packets from and to a bridge through, where that takes rules. Idempotent. */
  async allow(bridge: string): Promise<void> {
    await this.looks.run(bridge, () => this.allowNow(bridge));
  }

  /** Takes the rules for a bridge away again, wherever they are. */
  async withdraw(bridge: string): Promise<void> {
    for (const table of TABLES)
      for (const chain of [FORWARD, DOCKER_USER])
        for (const { handle } of await this.rules(table, chain, bridge))
          await this.netlink.netfilter(transaction([deleteRule(table, chain, handle)]));
  }

  private async allowNow(bridge: string): Promise<void> {
    const found = await this.netlink.netfilter(TABLES.map(table => getChain(table, FORWARD)));
    for (const [nth, table] of TABLES.entries()) {
      if (chainIn(found, nth)?.policy !== 'drop') continue;
      const isDockers = chainIn(await this.netlink.netfilter([getChain(table, DOCKER_USER)])) !== undefined;
      const chain = isDockers ? DOCKER_USER : FORWARD;
      if ((await this.rules(table, chain, bridge)).length > 0) continue;
      const rules = (['iifname', 'oifname'] as const).map(key => {
        const expressions = [meta(key), compare(interfaceName(bridge)), counter(), verdict('accept')];
        return addRule(table, chain, expressions, { comment: this.comment(bridge), atBeginning: true });
      });
      await this.netlink.netfilter(transaction(rules));
      this.log.info(
        `this host drops what it forwards: ${chain} of ${table.family === 'ip' ? 'iptables' : 'ip6tables'} has rules for ${bridge} now`,
      );
    }
  }

  /** Those of a chain that this daemon has added. */
  private async rules(table: Table, chain: string, bridge: string): Promise<Rule[]> {
    const all = rulesIn(await this.netlink.netfilter([getRules(table, chain)]));
    return all.filter(({ comment }) => comment === this.comment(bridge));
  }

  private comment(bridge: string): string {
    return `berth: pods of ${bridge}, whose table is ${tableName(this.owner, bridge)}`;
  }
}
