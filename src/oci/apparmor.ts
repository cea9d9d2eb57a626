import { BerthError } from '../base/errors';
import type { LinuxContainerSecurityContext } from '../cri';
import { profileChoice } from './security-profile';

/** What a container's processes get when it asks for RuntimeDefault. */
export const APPARMOR_DEFAULT = 'berth-default';

/** What the text depends on beside ourselves. */
export interface ProfileFacts {
  /** The parser knows `abi <abi/3.0>`. */
  hasAbi: boolean;
  /** `attr/current` of the daemon, which signals what it has confined. */
  daemon: string | undefined;
}

/**
 * Its text for apparmor_parser, without includes, which may be broken on a node:
 * whatever capabilities, seccomp and masks already hold is held once more, for the
 * day when one of them has a hole. Files of the container are its own; the
 * kernel's are read, not written, and nothing is mounted.
 *
 * With the ABI it is about the same classes on each kernel and with each parser:
 * newer ones would refuse what it has no word for, UNIX sockets from Linux 6.17 on.
 */
export function defaultProfileText({ hasAbi, daemon }: ProfileFacts): string {
  const signallers = ['unconfined', 'runc', 'crun', ...profileOf(daemon)];
  return `${hasAbi ? 'abi <abi/3.0>,\n' : ''}
profile ${APPARMOR_DEFAULT} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  # From the daemon and its monitors, from people, and from OCI runtimes where these have a profile of their own.
${signallers.map(peer => `  signal (receive) peer=${peer},`).join('\n')}
  signal (send, receive) peer=${APPARMOR_DEFAULT},
  ptrace (trace, read, tracedby, readby) peer=${APPARMOR_DEFAULT},

  deny mount,
  # /proc: what belongs to processes is theirs, of the rest only the sysctls of namespaces are written.
  deny /proc/* w,
  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,mpt,scsi,tty,xen}/** w,
  deny /proc/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** w,
  deny /proc/sys/fs/[^m]** w,
  deny /proc/sys/kernel/{[^hmsd],s[^he],h[^o],m[^s],d[^o]}** w,
  deny /proc/sys/kernel/{hotplug,seccomp/**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/{kcore,kmem,mem,keys,timer_list,sched_debug} rwklx,
  # /sys: nothing but cgroups is written, and what tells of the machine's power or firmware is not read.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;
}

/** `name (mode)` without the mode, quoted as the parser has it; none where it is unconfined or none that can be named. */
function profileOf(label: string | undefined): string[] {
  const [, name] = /^(.+) \(\w+\)\n?$/.exec(label ?? '') ?? [];
  return name === undefined || !/^[\w./:+@-]+$/.test(name) ? [] : [`"${name}"`];
}

/** What there is of AppArmor on the host. */
export interface AppArmorHost {
  isEnabled: boolean;
  /** Why there is no default profile, though AppArmor is enabled. */
  missingDefault?: string;
  /** Undefined when the list of loaded profiles cannot be read. */
  loaded: ReadonlySet<string> | undefined;
}

/**
 * The profile for a container's processes; undefined: unconfined. Who asks for
 * nothing gets the default where the host can give it. What is asked for must be
 * there; but RuntimeDefault of a kernel without AppArmor is that there is none.
 * Privileged containers have only what they name.
 * Throws `failed_precondition`.
 */
export function apparmorProfile(
  security: LinuxContainerSecurityContext | undefined,
  host: AppArmorHost,
): string | undefined {
  const choice = profileChoice(security?.apparmor, security?.apparmorProfile ?? '', 'apparmor');
  if (choice?.type === 'localhost') return loadedProfile(choice.ref, host);
  const isUnconfined = choice?.type === 'unconfined' || security?.privileged;
  if (isUnconfined || !host.isEnabled) return undefined;
  // What an earlier daemon has loaded confines, whatever has become of the parser since.
  if (host.missingDefault === undefined || host.loaded?.has(APPARMOR_DEFAULT)) return APPARMOR_DEFAULT;
  if (choice === undefined) return undefined;
  throw new BerthError(
    'failed_precondition',
    `AppArmor profile RuntimeDefault: ${APPARMOR_DEFAULT} cannot be loaded: ${host.missingDefault}`,
    { hint: 'install the package apparmor, or ask for Unconfined' },
  );
}

function loadedProfile(name: string, { isEnabled, loaded }: AppArmorHost): string {
  if (!isEnabled) {
    throw new BerthError(
      'failed_precondition',
      `AppArmor profile ${name}: this node's kernel has no AppArmor enabled`,
      {
        hint: 'boot with apparmor=1 security=apparmor, or do not ask for a profile',
      },
    );
  }
  if (loaded && !loaded.has(name)) {
    throw new BerthError('failed_precondition', `AppArmor profile ${name} is not loaded on this node`, {
      hint: 'load it with apparmor_parser',
    });
  }
  return name;
}

/** `/sys/kernel/security/apparmor/profiles`: a line is `name (mode)`. */
export function profilesIn(text: string): Set<string> {
  return new Set([...text.matchAll(/^(.+) \(\w+\)$/gm)].map(([, name = '']) => name));
}
