import { readFile } from 'node:fs/promises';
import { BerthError } from '../base/errors';
import type { DNSConfig, PodSandboxConfig } from '../cri';

/** Container path to file name in the pod's directory. */
export const POD_FILES: Readonly<Record<string, string>> = {
  '/etc/hostname': 'hostname',
  '/etc/hosts': 'hosts',
  '/etc/resolv.conf': 'resolv.conf',
};

/**
 * What every container of the pod gets unless its own mounts bring another, by name in the pod's directory. In hosts are
 * the pod's addresses, or one of the loopback's where it has none.
 */
export async function podFiles(
  config: PodSandboxConfig,
  hostname: string,
  ips: readonly string[],
  extraHosts: readonly { name: string; address: string }[] = [],
): Promise<Record<string, string>> {
  const own = oneWord(hostname, 'hostname');
  const addresses = (ips.length > 0 ? ips : ['127.0.1.1']).map(ip => `${ip}\t${own}\n`);
  const extra = extraHosts.map(
    ({ name, address }) => `${oneWord(address, 'address')}\t${oneWord(name, 'host name')}\n`,
  );
  return {
    hostname: `${own}\n`,
    hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n${addresses.join('')}${extra.join('')}`,
    'resolv.conf': await resolvConf(config.dnsConfig),
  };
}

/** The request's servers, searches and options; without any, the node's own file. */
async function resolvConf(dns: DNSConfig | undefined): Promise<string> {
  if (!dns || dns.servers.length + dns.searches.length + dns.options.length === 0) {
    return readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  }
  const lines = dns.servers.map(server => `nameserver ${oneWord(server, 'DNS server')}`);
  if (dns.searches.length > 0)
    lines.push(`search ${dns.searches.map(word => oneWord(word, 'DNS search domain')).join(' ')}`);
  if (dns.options.length > 0) lines.push(`options ${dns.options.map(word => oneWord(word, 'DNS option')).join(' ')}`);
  return `${lines.join('\n')}\n`;
}

/** A value that cannot smuggle a second line or word into the file. */
function oneWord(value: string, what: string): string {
  if (/^[^\s\0-\x1f\x7f]+$/.test(value)) return value;
  throw new BerthError('invalid_argument', `${what} ${JSON.stringify(value)} holds spaces or control characters`);
}
