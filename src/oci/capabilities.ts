import { BerthError } from '../base/errors';
import type { CapabilitySets } from './spec';

/** In the order of their numbers; linux/capability.h. */
export const CAPABILITIES = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN ' +
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE ' +
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
).split(' ');

/** What a container has unless it asks otherwise: the list that Docker, containerd and Kubernetes users rely on. */
export const DEFAULT_CAPABILITIES =
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'.split(
    ' ',
  );

export interface CapabilityRequest {
  add: readonly string[];
  drop: readonly string[];
  ambient: readonly string[];
}

/**
 * The five sets. Names with or without `CAP_`, in any case; `ALL` adds or drops
 * all; a name in both lists is added, as Kubernetes has it. Inheritable stays
 * empty unless ambient ones are asked for (CVE-2022-24769).
 */
export function capabilitySets(request: CapabilityRequest, isPrivileged: boolean): CapabilitySets {
  const add = request.add.map(normalize);
  const drop = request.drop.map(normalize);
  const askedAmbient = request.ambient.map(normalize);
  const ambient = askedAmbient.includes('ALL') ? [...CAPABILITIES] : [...new Set(askedAmbient)];
  const kept = new Set(
    isPrivileged || add.includes('ALL') ? CAPABILITIES : drop.includes('ALL') ? [] : DEFAULT_CAPABILITIES,
  );
  if (!isPrivileged) {
    for (const name of drop) kept.delete(name);
    for (const name of add) if (name !== 'ALL') kept.add(name);
  }
  for (const name of ambient) kept.add(name);
  const list = CAPABILITIES.filter(name => kept.has(name));
  return { bounding: list, effective: list, permitted: list, inheritable: ambient, ambient };
}

/** Bit n is capability n. */
export function capabilityMask(names: readonly string[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(CAPABILITIES.indexOf(name))), 0n);
}

function normalize(name: string): string {
  const bare = name.toUpperCase().replace(/^CAP_/, '');
  if (bare === 'ALL' || CAPABILITIES.includes(bare)) return bare;
  throw new BerthError('invalid_argument', `unknown capability ${JSON.stringify(name)}`);
}
