import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, isAbsent, messageOf } from '../../base/errors';
import type { Logger } from '../../base/log';
import type { Family } from '../addresses';

const SETTINGS = '/proc/sys/net';

/** Lets the kernel hand packets on between interfaces, which pods need to reach anything but their host. */
export async function forwardPackets(families: ReadonlySet<Family>, log: Logger): Promise<void> {
  if (families.has(4)) await turnOn('ipv4/ip_forward', log);
  if (families.has(6) && (await read('ipv6/conf/all/forwarding')) !== '1') {
    await keepRouterAdvertisements(log);
    await turnOn('ipv6/conf/all/forwarding', log);
  }
}

/** A host that forwards takes no routes from routers any more, unless an interface says 2: those that took them go on. */
async function keepRouterAdvertisements(log: Logger): Promise<void> {
  for (const name of await readdir(join(SETTINGS, 'ipv6/conf'))) {
    if (['all', 'default', 'lo'].includes(name)) continue;
    const setting = `ipv6/conf/${name}/accept_ra`;
    if ((await read(setting)) === '1') await write(setting, '2', log);
  }
}

/** What pods send must not become the host's routes (CVE-2020-10749). A kernel without IPv6 has no such setting. */
export async function ignoreRouterAdvertisements(link: string): Promise<void> {
  await writeFile(join(SETTINGS, 'ipv6/conf', link, 'accept_ra'), '0').catch((error: unknown) => {
    if (!isAbsent(error)) throw failed(`net.ipv6.conf.${link}.accept_ra = 0`, error);
  });
}

async function turnOn(setting: string, log: Logger): Promise<void> {
  if ((await read(setting)) !== '1') await write(setting, '1', log);
}

async function read(setting: string): Promise<string | undefined> {
  return readFile(join(SETTINGS, setting), 'utf8').then(
    text => text.trim(),
    () => undefined,
  );
}

async function write(setting: string, value: string, log: Logger): Promise<void> {
  const name = `net.${setting.replaceAll('/', '.')} = ${value}`;
  await writeFile(join(SETTINGS, setting), value).catch((error: unknown) => {
    throw failed(name, error);
  });
  log.info(`set ${name}, which the network of pods needs`);
}

function failed(what: string, cause: unknown): BerthError {
  return new BerthError('failed_precondition', `set ${what}: ${messageOf(cause)}`, {
    cause,
    hint: 'set it by sysctl, and let /proc/sys be writable',
  });
}
