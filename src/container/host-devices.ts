import type { BigIntStats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, errnoOf } from '../base/errors';
import type { Device } from '../cri';
import type { CdiNode } from '../oci/cdi/edits';
import type { AskedDevice } from '../oci/host-facts';
import type { DeviceSpec } from '../oci/spec';

/** In a container these are its own, or no devices of hardware. */
const NOT_FROM_HOST = new Set(['/dev/console', '/dev/fd', '/dev/mqueue', '/dev/ptmx', '/dev/pts', '/dev/shm']);

/**
 * What the request's devices are on the host: each a device, or a directory whose devices are all meant. Links are the
 * host's. Throws `invalid_argument`.
 */
export async function askedDevices(devices: readonly Device[]): Promise<AskedDevice[]> {
  return (await Promise.all(devices.map(askedDevice))).flat();
}

async function askedDevice({ hostPath, containerPath, permissions }: Device): Promise<AskedDevice[]> {
  const what = `device ${JSON.stringify(hostPath)}`;
  const refuse = (why: string) => new BerthError('invalid_argument', `${what}: ${why}`);
  if (!isPath(hostPath)) throw refuse('the host path is not absolute');
  if (!isPath(containerPath)) throw refuse(`the container path ${JSON.stringify(containerPath)} is not absolute`);
  const access = accessOf(permissions);
  if (access === undefined) {
    throw refuse(`the permissions ${JSON.stringify(permissions)} are not some of r (read), w (write) and m (mknod)`);
  }
  let found: DeviceSpec[];
  try {
    found = await devicesAt(hostPath, containerPath);
  } catch (error) {
    throw refuse(`it cannot be looked up on the host: ${errnoOf(error) ?? String(error)}`);
  }
  if (found.length === 0) throw refuse('it is no device, and no directory with devices');
  return found.map(device => ({ ...device, access }));
}

function isPath(path: string): boolean {
  return path.startsWith('/') && !path.includes('\0');
}

/** In one order, each once; undefined for anything else. */
function accessOf(permissions: string): string | undefined {
  if (!/^[rwm]{1,3}$/.test(permissions)) return undefined;
  return ['r', 'w', 'm'].filter(letter => permissions.includes(letter)).join('');
}

/** The owner of a node that a CDI spec leaves open: the container's user, where the request has it as a number. */
export interface NodeOwner {
  uid: number;
  gid: number;
}

/** What a CDI spec's nodes are: by its word, and by the host's where it is silent. Throws `invalid_argument`. */
export async function cdiDevices(nodes: readonly CdiNode[], owner: NodeOwner): Promise<AskedDevice[]> {
  return Promise.all(nodes.map(node => cdiDevice(node, owner)));
}

async function cdiDevice(node: CdiNode, owner: NodeOwner): Promise<AskedDevice> {
  const hostPath = node.hostPath ?? node.path;
  const refuse = (why: string) => new BerthError('invalid_argument', `CDI device node ${node.path}: ${why}`);
  if (node.type === 'p') throw refuse('it is a FIFO, and only devices can be made');
  const access = accessOf(node.permissions === '' ? 'rwm' : node.permissions);
  if (access === undefined) throw refuse(`its permissions ${JSON.stringify(node.permissions)} are not some of rwm`);
  const isComplete = node.type !== '' && node.major !== undefined && node.minor !== undefined;
  const [found] = await devicesAt(hostPath, node.path).catch((error: unknown) => {
    if (isComplete) return [];
    throw refuse(`${hostPath} cannot be looked up on the host: ${errnoOf(error) ?? String(error)}`);
  });
  if (!found && !isComplete) throw refuse(`${hostPath} is no device`);
  return {
    path: node.path,
    type: node.type === '' ? (found?.type ?? 'c') : node.type === 'b' ? 'b' : 'c',
    major: node.major ?? found?.major ?? 0,
    minor: node.minor ?? found?.minor ?? 0,
    mode: node.fileMode ?? found?.mode ?? 0o660,
    uid: node.uid ?? (owner.uid || (found?.uid ?? 0)),
    gid: node.gid ?? (owner.gid || (found?.gid ?? 0)),
    access,
  };
}

/** Every device node of the host, for a privileged container. */
export async function everyDevice(): Promise<DeviceSpec[]> {
  return devicesBelow('/dev', '/dev');
}

async function devicesAt(hostPath: string, containerPath: string): Promise<DeviceSpec[]> {
  const found = await stat(hostPath, { bigint: true });
  if (found.isDirectory()) return devicesBelow(hostPath, containerPath);
  return found.isCharacterDevice() || found.isBlockDevice() ? [deviceOf(found, containerPath)] : [];
}

/** Links are passed over: where they lead is listed itself. What goes meanwhile was not there. */
async function devicesBelow(dir: string, containerDir: string): Promise<DeviceSpec[]> {
  const entries = await readdir(dir, { withFileTypes: true });
  const found = entries
    .filter(({ name }) => !NOT_FROM_HOST.has(join(dir, name)))
    .map(async (entry): Promise<DeviceSpec[]> => {
      const [path, place] = [join(dir, entry.name), join(containerDir, entry.name)];
      if (entry.isDirectory()) return devicesBelow(path, place).catch(() => []);
      if (!entry.isCharacterDevice() && !entry.isBlockDevice()) return [];
      return devicesAt(path, place).catch(() => []);
    });
  return (await Promise.all(found)).flat();
}

function deviceOf(found: BigIntStats, path: string): DeviceSpec {
  return {
    path,
    type: found.isCharacterDevice() ? 'c' : 'b',
    ...numbersOf(found.rdev),
    mode: Number(found.mode & 0o777n),
    uid: Number(found.uid),
    gid: Number(found.gid),
  };
}

/** makedev(3) backwards. */
function numbersOf(rdev: bigint): { major: number; minor: number } {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
  };
}
