import { constants, existsSync, writeFileSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { errnoOf } from '../base/errors';
import type { Logger } from '../base/log';
import { APPARMOR_DEFAULT, defaultProfileText, profilesIn, type AppArmorHost } from '../oci/apparmor';
import { contextsIn, unconfinedLabel, type SelinuxHost } from '../oci/selinux';
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

const DEFAULT_CONTEXTS = { process: 'system_u:system_r:container_t:s0', file: 'system_u:object_r:container_file_t:s0' };
let hasToldOfPolicy = false;

/**
 * Undefined when SELinux is not enabled: without a policy, or where selinuxfs is read-only, as it is shown to containers,
 * for which there is no SELinux.
 */
export async function selinuxHost(log: Logger): Promise<SelinuxHost | undefined> {
  if (!existsSync('/sys/fs/selinux/enforce') || !(await isPolicyLoaded())) return undefined;
  const hasLevels = (await textOf('/sys/fs/selinux/mls'))?.trim() === '1';
  const { process, file } = (await policyContexts()) ?? DEFAULT_CONTEXTS;
  const labels = hasLevels ? { process, file } : { process: withoutLevel(process), file: withoutLevel(file) };
  const isKnown = isKnownLabel(labels.process) && isKnownLabel(labels.file);
  if (!isKnown && !hasToldOfPolicy) log.warn('the SELinux policy has no label for containers, which have none', labels);
  hasToldOfPolicy = !isKnown;
  const unconfined = unconfinedLabel(labels.process, hasLevels);
  return { ...labels, hasLevels, isKnown, ...(isKnownLabel(unconfined) ? { unconfined } : {}) };
}

/** The kernel's answer, by its policy; a write of what it does not know fails with EINVAL. */
export function isKnownLabel(label: string): boolean {
  try {
    writeFileSync('/sys/fs/selinux/context', `${label}\0`);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'EINVAL'; // who may not ask hears it when it is used
  }
}

/** Until a policy is loaded all processes have the initial label `kernel`. */
async function isPolicyLoaded(): Promise<boolean> {
  const own = await textOf('/proc/self/attr/current');
  if (own === undefined || own.replace(/\0$/, '') === 'kernel') return false;
  return await access('/sys/fs/selinux/context', constants.W_OK).then(
    () => true,
    () => false,
  );
}

async function policyContexts(): Promise<{ process: string; file: string } | undefined> {
  const [, name = 'targeted'] = /^SELINUXTYPE=(\S+)/m.exec((await textOf('/etc/selinux/config')) ?? '') ?? [];
  for (const path of ['/usr/share/containers/selinux/contexts', `/etc/selinux/${name}/contexts/lxc_contexts`]) {
    const contexts = contextsIn((await textOf(path)) ?? '');
    if (contexts) return contexts;
  }
  return undefined;
}

function withoutLevel(label: string): string {
  return label.split(':').slice(0, 3).join(':');
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return undefined; // not there: the module is not
  }
}
