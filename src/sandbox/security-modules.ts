import { readFile } from 'node:fs/promises';
import type { Logger } from '../base/log';
import { APPARMOR_DEFAULT, APPARMOR_DEFAULT_TEXT, profilesIn, type AppArmorHost } from '../oci/apparmor';
import { selinuxHostOf, type SelinuxHost } from '../oci/selinux';
import { loadAppArmorProfile } from '../process/apparmor';

/** What there is of security modules on this host; the modules come with the boot, profiles may come any time. */
export async function appArmorHost(log: Logger): Promise<AppArmorHost> {
  const isEnabled = (await textOf('/sys/module/apparmor/parameters/enabled'))?.startsWith('Y') ?? false;
  if (!isEnabled) return { isEnabled, hasDefault: false, loaded: undefined };
  const list = await textOf('/sys/kernel/security/apparmor/profiles');
  const loaded = list === undefined ? undefined : profilesIn(list);
  const hasDefault = (loaded?.has(APPARMOR_DEFAULT) ?? false) || (await loadDefault(log));
  return { isEnabled, hasDefault, loaded };
}

let loading: Promise<boolean> | undefined;

function loadDefault(log: Logger): Promise<boolean> {
  loading ??= loadAppArmorProfile(APPARMOR_DEFAULT_TEXT).then(isLoaded => {
    if (!isLoaded)
      log.warn('AppArmor is enabled, but its default profile cannot be loaded; is apparmor_parser installed?');
    return isLoaded;
  });
  return loading;
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
