import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { installDir } from '../src/native/paths';
import { busyboxImage, descriptor, type BuiltImage } from '../test/support/image-builder';
import { makeFileSystem } from './file-system';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { startBerth } from './runtimes';
import { findPeer, inScratch, roundsOr, versionOf, type Scratch } from './scratch';

/** Builds the context, and returns when the image has its name. */
interface Candidate {
  name: string;
  build(isCold: boolean): Promise<void>;
}

const base = 'localhost/bench/base:1';
/** buildah wants an entry a layer. */
const history = ['files', 'users'].map(what => ({ created: '2026-01-01T00:00:00Z', created_by: what }));

inScratch(async at => {
  const rounds = roundsOr(5);
  const fileSystem = makeFileSystem(join(at.dir, 'disk'));
  const scratch = { ...at, dir: fileSystem.dir };
  const context = join(scratch.dir, 'context');
  writeContext(context);
  const layout = writeLayout(join(scratch.dir, 'layout'), busyboxImage({ configDocument: { history } }));
  const daemon = await startBerth(scratch);
  try {
    const candidates = [berthCandidate(scratch, context, layout), ...buildahCandidates(scratch, context, layout)];
    const timings = new Timings(false);
    await alternate(candidates, { warmUp: 1, measured: rounds }, async (candidate, isMeasured) => {
      scratch.throwIfInterrupted();
      timings.isMeasuring = isMeasured;
      execFileSync('sync'); // what the one before left to write is not this one's
      await timings.time(`${candidate.name}, cold`, () => candidate.build(true));
      await timings.time(`${candidate.name}, cached`, () => candidate.build(false));
    });
    report(timings, candidates, rounds);
  } finally {
    await daemon.stop();
    fileSystem.remove();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

/** Ten steps, as an application's are: a base, dependencies, sources, a compilation, what it says of itself. */
function writeContext(dir: string): void {
  const files: Record<string, string> = {
    Dockerfile: [
      `FROM ${base}`,
      'WORKDIR /app',
      'COPY packages.txt ./',
      'RUN mkdir -p node_modules && for i in $(cat packages.txt); do mkdir node_modules/$i && echo "$i" > node_modules/$i/index.js; done',
      'COPY src ./src',
      'RUN mkdir dist && cp -r src/* dist/ && find dist -type f | wc -l > dist/count',
      'ENV NODE_ENV=production PORT=8080',
      'RUN rm -rf src && busybox chown -R 1234:1234 dist',
      'USER 1234',
      'CMD ["sh", "-c", "cat dist/count"]',
    ].join('\n'),
    'packages.txt': Array.from({ length: 200 }, (_, i) => `package-${i}\n`).join(''),
  };
  for (let i = 0; i < 500; i++) files[`src/part-${i % 20}/file-${i}.js`] = `// ${i}\n`.repeat(500);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
}

function writeLayout(dir: string, image: BuiltImage): string {
  for (const blob of [image.config, image.manifest, ...image.layers]) {
    const path = join(dir, 'blobs', ...blob.digest.split(':'));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, blob.bytes);
  }
  const entry = { ...descriptor(image.manifest), annotations: { 'org.opencontainers.image.ref.name': 'base' } };
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  return dir;
}

const run = promisify(execFile);

function berthCandidate({ dir }: Scratch, context: string, layout: string): Candidate {
  const program = join(installDir(), 'bin/berth');
  const berth = async (...args: string[]) => {
    const env = { ...process.env, BERTH_HOST: `unix://${join(dir, 'berth/state/berth.sock')}` };
    await run(process.execPath, [program, ...args], { env });
  };
  const imported = berth('import', layout, base);
  imported.catch(() => undefined); // heard by the first build
  return {
    name: 'berth',
    build: async isCold => {
      await imported;
      await berth('build', '-q', '-t', 'bench', ...(isCold ? ['--no-cache'] : []), context);
    },
  };
}

/** With a cache by step, as berth has it, and the host's network, as berth has it here. */
function buildahCandidates({ dir }: Scratch, context: string, layout: string): Candidate[] {
  const program = findPeer('buildah');
  if (program === undefined) return [];
  const home = join(dir, 'buildah');
  const global = ['--root', join(home, 'root'), '--runroot', join(home, 'run'), '--storage-driver', 'overlay'];
  // By a relative path, which buildah makes a name of.
  const pulled = run(program, [...global, 'pull', '-q', `oci:${basename(layout)}:base`], { cwd: dirname(layout) });
  const imported = pulled.then(({ stdout }) => run(program, [...global, 'tag', stdout.trim(), base]));
  const cold = ['--no-cache'];
  imported.catch(() => undefined); // heard by the first build
  return [
    {
      name: `buildah ${versionOf(program)}`,
      build: async isCold => {
        await imported;
        const own = [
          'build',
          '--layers',
          '--network',
          'host',
          '--pull-never',
          '-q',
          '-t',
          'bench',
          ...(isCold ? cold : []),
        ];
        await run(program, [...global, ...own, context], { maxBuffer: 1 << 26 });
      },
    },
  ];
}

function report(timings: Timings, candidates: readonly Candidate[], rounds: number): void {
  console.log(`Ten steps; ${machine()}; ${rounds} rounds, ms\n`);
  const rows = ['cold', 'cached'].flatMap(kind => {
    const own = median(timings.of(`berth, ${kind}`));
    return candidates.map(({ name }) => {
      const samples = timings.of(`${name}, ${kind}`);
      const ratio = name === 'berth' ? '' : (own / median(samples)).toFixed(2);
      return [`${kind}, ${name}`, ms(median(samples)), ms(quantile(samples, 0.95)), ratio];
    });
  });
  console.log(table(['', 'median', 'p95', 'berth ÷ it'], rows));
}
