import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../base/errors';
import type { DNSConfig, PodSandboxConfig } from '../cri';

/** Container path to file name in the pod's directory. */
export const POD_FILES: Readonly<Record<string, string>> = {
  '/etc/hostname': 'hostname',
  '/etc/hosts': 'hosts',
  '/etc/resolv.conf': 'resolv.conf',
};

/** Writes what every container of the pod gets unless its own mounts bring another: hostname, resolv.conf; see also `writeHosts`. */
export async function writePodFiles(dir: string, config: PodSandboxConfig, hostname: string): Promise<void> {
  const files = {
    hostname: `${oneWord(hostname, 'hostname')}\n`,
    'resolv.conf': await resolvConf(config.dnsConfig),
  };
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(dir, name), text, { mode: 0o644 })));
}

/** /etc/hosts, with the pod's own addresses, or one of the loopback's where it has none. */
export async function writeHosts(dir: string, hostname: string, ips: readonly string[]): Promise<void> {
  const own = (ips.length > 0 ? ips : ['127.0.1.1']).map(ip => `${ip}\t${oneWord(hostname, 'hostname')}\n`);
  const text = `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n${own.join('')}`;
  await writeFile(join(dir, 'hosts'), text, { mode: 0o644 });
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
