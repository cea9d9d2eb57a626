import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BerthError, messageOf } from '../base/errors';
import { addon } from '../native/addon';
import { deviceProgram } from './device-program';
import { WRITE_EXISTING } from './files';
import { homeOf, type Hierarchies } from './hierarchies';

/** Which devices may be opened (`r`, `w`) and made (`m`), in the OCI runtime spec's shape. */
export interface DeviceRule {
  allow: boolean;
  /** `a` is every device. */
  type: 'a' | 'b' | 'c';
  /** Absent: all numbers. */
  major?: number;
  minor?: number;
  access: string;
}

/** True when the kernel can hold a cgroup to rules about devices: v1's controller, or v2 with eBPF. */
export function hasDeviceControl(hierarchies: Hierarchies): boolean {
  return homeOf(hierarchies, 'devices') !== undefined || hierarchies.v2 !== undefined;
}

/**
 * Holds a new cgroup to rules, the last one that fits being the one that counts.
 * Rules that allow everything leave it what its parent may; so does a host without device control.
 */
export async function limitDevices(
  hierarchies: Hierarchies,
  path: string,
  rules: readonly DeviceRule[],
): Promise<void> {
  if (rules.every(({ allow, type }) => allow && type === 'a')) return;
  const v1 = homeOf(hierarchies, 'devices');
  if (v1) {
    writeRules(join(v1.mountpoint, path), rules);
  } else if (hierarchies.v2 !== undefined) {
    await attachRules(join(hierarchies.v2, path), rules);
  }
}

/**
 * v1 takes a rule a write. In place: these writes take one short lock of the
 * kernel's, a microsecond each, where the pool would take a turn for each.
 */
function writeRules(dir: string, rules: readonly DeviceRule[]): void {
  for (const group of byFile(rules)) {
    const path = join(dir, group.file);
    const fd = openSync(path, WRITE_EXISTING);
    try {
      for (const line of group.lines) writeRule(fd, path, line);
    } finally {
      closeSync(fd);
    }
  }
}

function writeRule(fd: number, path: string, line: string): void {
  try {
    writeSync(fd, line);
  } catch (error) {
    throw new BerthError('failed_precondition', `write "${line}" to ${path}: ${messageOf(error)}`, {
      cause: error,
      hint: 'the cgroup above may allow less',
    });
  }
}

/** Rules in order, neighbours of one file together. */
export function byFile(rules: readonly DeviceRule[]): { file: 'devices.allow' | 'devices.deny'; lines: string[] }[] {
  const groups: ReturnType<typeof byFile> = [];
  for (const rule of rules) {
    const file = rule.allow ? 'devices.allow' : 'devices.deny';
    const last = groups.at(-1);
    if (last?.file === file) last.lines.push(lineOf(rule));
    else groups.push({ file, lines: [lineOf(rule)] });
  }
  return groups;
}

function lineOf({ type, major, minor, access }: DeviceRule): string {
  // "a" alone turns the whole list over; with numbers the kernel ignores them.
  return type === 'a' ? 'a' : `${type} ${major ?? '*'}:${minor ?? '*'} ${access}`;
}

async function attachRules(dir: string, rules: readonly DeviceRule[]): Promise<void> {
  try {
    await addon().attachDeviceProgram(dir, deviceProgram(rules));
  } catch (error) {
    throw new BerthError('internal', `attach a device program to cgroup ${dir}: ${messageOf(error)}`, { cause: error });
  }
}
