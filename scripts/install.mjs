/**
 * `make install`: what was built, to PREFIX/lib/berth, with links in PREFIX/bin and a systemd unit.
 *
 *   install.mjs PREFIX [DESTDIR]      DESTDIR is put before all paths, for packages
 *
 * A daemon that runs keeps what it has loaded; it is the new one after its restart.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const repo = join(dirname(fileURLToPath(import.meta.url)), '..');
const [prefix = '/usr/local', destdir = ''] = process.argv.slice(2);
const at = (...path) => join(destdir || '/', prefix, ...path);
const home = at('lib/berth');

/** What the bundles load by name: scripts/bundle.mjs leaves it out. */
const external = 'lmdb';

const fresh = `${home}.new`;
rmSync(fresh, { recursive: true, force: true });
for (const path of ['package.json', 'LICENSE', 'bin', 'dist/bundle', 'build/native']) {
  copy(join(repo, path), join(fresh, path));
}
for (const [name, dir] of packages(external, repo)) copy(dir, join(fresh, 'node_modules', name));
const old = `${home}.old`;
rmSync(old, { recursive: true, force: true });
if (existsSync(home)) renameSync(home, old);
renameSync(fresh, home);
rmSync(old, { recursive: true, force: true });

mkdirSync(at('bin'), { recursive: true });
for (const name of ['berthd', 'berth']) {
  rmSync(at('bin', name), { force: true });
  symlinkSync(`../lib/berth/bin/${name}`, at('bin', name));
  chmodSync(join(home, 'bin', name), 0o755);
}
const unit = readFileSync(join(repo, 'scripts/berthd.service'), 'utf8').replaceAll('@BINDIR@', join(prefix, 'bin'));
mkdirSync(at('lib/systemd/system'), { recursive: true });
writeFileSync(at('lib/systemd/system/berthd.service'), unit);
console.log(`installed in ${home}; systemctl daemon-reload && systemctl enable --now berthd`);

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}

/** A package and all that it needs, each once, by name; those for other platforms are not there. */
function packages(name, from, found = new Map()) {
  const dir = directoryOf(name, from);
  if (dir === undefined || found.has(name)) return found;
  found.set(name, dir);
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'));
  for (const needed of Object.keys({ ...dependencies, ...optionalDependencies })) packages(needed, dir, found);
  return found;
}

function directoryOf(name, from) {
  const paths = createRequire(join(from, 'package.json')).resolve.paths(name) ?? [];
  return paths.map(path => join(path, name)).find(path => existsSync(join(path, 'package.json')));
}
