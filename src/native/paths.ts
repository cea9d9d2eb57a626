import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder with package.json above this file, whether this runs from dist/src or from a bundle. */
export function installDir(from: string = __dirname): string {
  for (let dir = from; dir !== dirname(dir); dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir;
  }
  throw new Error(`no package.json above ${from}: berth is not where it was installed; reinstall it`);
}

/** The path of a native program or of the addon. */
export function nativePath(name: 'berth.node' | 'berth-helper' | 'berth-unpack'): string {
  return join(installDir(), 'build', 'native', name);
}
