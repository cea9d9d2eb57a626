import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Logger } from '../base/log';
import { APPARMOR_DEFAULT, defaultProfileText, profilesIn, type AppArmorHost } from '../oci/apparmor';
import { selinuxHostOf, type SelinuxHost } from '../oci/selinux';
import { loadAppArmorProfile } from '../process/apparmor';

/** What there is of security modules on this host; the modules come with the boot, profiles may come and go any time. */
export async function appArmorHost(log: Logger): Promise<AppArmorHost> {
  const isEnabled = (await textOf('/sys/module/apparmor/parameters/enabled'))?.startsWith('Y') ?? false;
  if (!isEnabled) return { isEnabled, loaded: undefined };
  const wasLoaded = own?.isLoaded ?? false;
  const list = await textOf('/sys/kernel/security/apparmor/profiles');
  const loaded = list === undefined ? undefined : profilesIn(list);
  // aa-remove-unknown unloads what has no file in /etc/apparmor.d.
  if (wasLoaded && loaded && !loaded.has(APPARMOR_DEFAULT)) own = undefined;
  const missingDefault = await loadDefault(log);
  return { isEnabled, loaded, ...(missingDefault === undefined ? {} : { missingDefault }) };
}

/** The default profile as this daemon has loaded it: one of the same name may be another version's. */
let own: { loading: Promise<string | undefined>; isLoaded: boolean } | undefined;
let toldOf: string | undefined;

/** Returns why it cannot be loaded; a failure is tried again by who comes next. */
async function loadDefault(log: Logger): Promise<string | undefined> {
  const mine = (own ??= { loading: loadOwn(), isLoaded: false });
  const missing = await mine.loading;
  mine.isLoaded = missing === undefined;
  if (missing === undefined) return undefined;
  if (own === mine) own = undefined;
  if (toldOf !== missing) log.warn("AppArmor's default profile cannot be loaded", { why: missing });
  toldOf = missing;
  return missing;
}

async function loadOwn(): Promise<string | undefined> {
  const hasAbi = existsSync('/etc/apparmor.d/abi/3.0');
  return loadAppArmorProfile(defaultProfileText({ hasAbi, daemon: await textOf('/proc/self/attr/apparmor/current') }));
}

const DEFAULT_CONTEXTS: SelinuxHost = {
  process: 'system_u:system_r:container_t:s0',
  file: 'system_u:object_r:container_file_t:s0',
};

/** Undefined when SELinux is not enabled. */
export async function selinuxHost(): Promise<SelinuxHost | undefined> {
  if ((await textOf('/sys/fs/selinux/enforce')) === undefined) return undefined;
  for (const path of ['/usr/share/containers/selinux/contexts', '/etc/selinux/targeted/contexts/lxc_contexts']) {
    const host = selinuxHostOf((await textOf(path)) ?? '');
    if (host) return host;
  }
  return DEFAULT_CONTEXTS;
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return undefined; // not there: the module is not
  }
}
