/**
 * Makes what is shipped: dist/bundle/<program>.cjs, V8's code cache of it beside it, and the launcher bin/<program>.
 */
import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const scripts = file => join(root, 'scripts', file);
// `warmUp` makes a program do what all of its starts have in common: for the CLI a call, which finds no daemon.
const programs = {
  berthd: { source: 'src/main.ts', warmUp: ['--version'] },
  berth: { source: 'src/cli/main.ts', warmUp: ['--host', 'unix:///dev/null/none', '__complete', 'rmi', ''] },
};

const httpThread = 'src/image/registry/http-worker.ts';

/** Empty when this is no checkout. */
function gitCommit() {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return '';
  }
}

/** With a deadline: a program that does not know what it is asked might go on to run. */
function writeCodeCache(bundle, warmUp) {
  execFileSync(process.execPath, [scripts('code-cache.cjs'), bundle, ...warmUp], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 20_000,
  });
}

mkdirSync(join(root, 'bin'), { recursive: true });
mkdirSync(join(root, 'dist/bundle'), { recursive: true });
copyFileSync(scripts('load.cjs'), join(root, 'dist/bundle/load.cjs'));

/**
 * V8 keeps a source with a letter beyond Latin-1 in it at two bytes a letter, and all of it as long as the process lives.
 * esbuild escapes such letters in strings; what is left is in regular expressions, where the same escapes are good.
 */
function makeAscii(bundle) {
  const escape = letter => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;
  writeFileSync(bundle, readFileSync(bundle, 'utf8').replace(/[^\0-\x7f]/g, escape));
}

/** undici's own way of doing without HTTP/2, which is never spoken (Agent's `allowH2`). */
const undiciHttp1 = {
  name: 'undici-http1',
  setup(build) {
    build.onResolve({ filter: /^undici$/ }, () => ({ path: scripts('undici-http1.cjs') }));
    build.onResolve({ filter: /^node:http2$/ }, () => ({ path: 'none', namespace: 'no-http2' }));
    build.onLoad({ filter: /.*/, namespace: 'no-http2' }, () => ({
      contents: 'exports.constants = {};',
      loader: 'js',
    }));
  },
};

const bundleOf = async (source, outfile, plugins = []) => {
  await build({
    absWorkingDir: root,
    entryPoints: [source],
    outfile,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20',
    external: ['lmdb', '*.node'],
    plugins,
    sourcemap: true,
    define: { BERTH_GIT_COMMIT: JSON.stringify(gitCommit()) },
    // import() becomes require(): code that comes from a cache has lost Node's hook for import().
    supported: { 'dynamic-import': false },
    // The source stays in memory; names stay as they are, and lines short enough to be found by a stack's numbers.
    minifyWhitespace: true,
    lineLimit: 160,
    // What Node's loader would put around it, so that load.cjs does not need to: that would be one more copy of it all.
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
    logLevel: 'warning',
  });
  makeAscii(outfile);
};

// The daemon's HTTP thread: a program of its own, which the daemon starts at its first pull.
if (existsSync(join(root, httpThread))) {
  const bundle = join(root, 'dist/bundle/http-thread.cjs');
  await bundleOf(httpThread, bundle, [undiciHttp1]);
  writeCodeCache(bundle, ['--version']);
  copyFileSync(scripts('http-thread-start.cjs'), join(root, 'dist/bundle/http-thread-start.cjs'));
}
for (const [name, { source, warmUp }] of Object.entries(programs)) {
  if (!existsSync(join(root, source))) continue;
  const bundle = join(root, `dist/bundle/${name}.cjs`);
  await bundleOf(source, bundle);
  writeCodeCache(bundle, warmUp);
  const launcher = join(root, 'bin', name);
  copyFileSync(scripts('launcher.cjs'), launcher);
  chmodSync(launcher, 0o755);
}
