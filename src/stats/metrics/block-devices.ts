import { readFileSync, statSync } from 'node:fs';

/** Names of block devices as people know them. */
export class BlockDevices {
  private readonly names = new Map<string, string>();

  /** `/dev/sda` for `8:0`; what has no such name keeps its numbers. */
  nameOf(device: string): string {
    const known = this.names.get(device);
    if (known !== undefined) return known;
    const name = nameInSysfs(device);
    this.names.set(device, name);
    return name;
  }

  /** Of the file system that a directory is on. */
  ofDirectory(directory: string): string {
    const { dev } = statSync(directory, { bigint: true });
    return this.nameOf(`${major(dev)}:${minor(dev)}`);
  }
}

function nameInSysfs(device: string): string {
  try {
    const uevent = readFileSync(`/sys/dev/block/${device}/uevent`, 'utf8');
    const name = /^DEVNAME=(.+)$/m.exec(uevent)?.[1];
    return name === undefined ? device : `/dev/${name}`;
  } catch {
    return device; // btrfs and overlay have numbers of their own, which no device has
  }
}

/** As glibc's gnu_dev_major and gnu_dev_minor take them out of a dev_t. */
function major(dev: bigint): bigint {
  return ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
}

function minor(dev: bigint): bigint {
  return (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
}
