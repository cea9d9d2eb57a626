import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ImageSpec, PullImageRequest, type ImageServiceClient, type RuntimeServiceClient } from '../src/cri';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { cpuSecondsIn, watchCost, type Cost } from './process-cost';
import { makeFileSystem, makeFreshDirectory } from './file-system';
import { makePullImage, type Compression, type PullImage } from './pull-image';
import { startBerth, startContainerd, type Daemon } from './runtimes';
import { findPeer, inScratch, roundsOr, versionOf, type Scratch } from './scratch';

/** Pulls into an empty store below `dir`, and adds what it took to `timings`. */
interface Candidate {
  name: string;
  pull(dir: string, image: string, timings: Timings): Promise<void>;
}

const compressions: readonly Compression[] = ['gzip', 'zstd'];

/** `node pull.js [rounds] [own|disk]`: each pull on a file system of its own, or on the disk that the scratch directory is on. */
inScratch(async scratch => {
  const rounds = roundsOr(5);
  const where = process.argv[3] ?? 'own';
  if (where !== 'own' && where !== 'disk') throw new Error(`${where} is not own or disk`);
  const image = makePullImage(join(scratch.dir, 'image'));
  const registry = await startFileRegistry(image);
  try {
    for (const compression of compressions) {
      const candidates = findCandidates(scratch, compression);
      const timings = new Map(candidates.map(candidate => [candidate, new Timings()]));
      let index = 0;
      await alternate(candidates, { warmUp: 1, measured: rounds }, async (candidate, isMeasured) => {
        scratch.throwIfInterrupted();
        const of = timings.get(candidate) ?? new Timings();
        of.isMeasuring = isMeasured;
        const name = `${compression}-${index++}`;
        const fresh =
          where === 'own'
            ? makeFileSystem(join(scratch.dir, name))
            : makeFreshDirectory(join(scratch.dir, 'spread'), name);
        try {
          execFileSync('sync'); // what the one before left to write is not this one's
          await candidate.pull(fresh.dir, `${registry.host}/bench/image:${compression}`, of);
        } finally {
          fresh.remove();
        }
      });
      report(compression, image, timings, rounds, where);
    }
  } finally {
    registry.stop();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

async function startFileRegistry(image: PullImage): Promise<{ host: string; stop(): void }> {
  const tags = compressions.map(compression => `${compression}=${image.manifests[compression].digest}`);
  const child = spawn(process.execPath, [join(__dirname, 'file-registry.js'), image.dir, ...tags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [port] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { host: `127.0.0.1:${port}`, stop: () => child.kill() };
}

function findCandidates(scratch: Scratch, compression: Compression): Candidate[] {
  const containerd = findPeer('containerd');
  const skopeo = findPeer('skopeo');
  const umoci = findPeer('umoci');
  return [
    daemonCandidate('berth', scratch, within => startBerth(within)),
    ...(containerd === undefined
      ? []
      : [
          daemonCandidate(`containerd ${versionOf(containerd)}`, scratch, within =>
            startContainerd(within, containerd, 'none', [{ name: 'runc', program: 'runc' }]),
          ),
        ]),
    // umoci knows no zstd.
    ...(skopeo === undefined || umoci === undefined || compression === 'zstd'
      ? []
      : [toolsCandidate(`skopeo ${versionOf(skopeo)} + umoci ${versionOf(umoci)}`, skopeo, umoci)]),
  ];
}

function daemonCandidate(name: string, scratch: Scratch, start: (scratch: Scratch) => Promise<Daemon>): Candidate {
  return {
    name,
    pull: async (dir, image, timings) => {
      const daemon = await start({ ...scratch, dir });
      try {
        const [runtime] = daemon.runtimes;
        if (runtime === undefined) throw new Error(`${name} has no runtime`);
        await ping(runtime.runtime); // the first call connects
        const stopPinging = pingThroughout(runtime.runtime, timings);
        const stopWatching = watchCost(daemon.pid);
        try {
          await timings.time('wall', () => pullImage(runtime.images, image));
        } finally {
          addCost(timings, stopWatching());
          await stopPinging();
        }
        await timings.time('RemoveImage', () => removeImage(runtime.images, image));
      } finally {
        await daemon.stop();
      }
    },
  };
}

function toolsCandidate(name: string, skopeo: string, umoci: string): Candidate {
  return {
    name,
    pull: async (dir, image, timings) => {
      // The shell has waited for both, so their CPU is in its own cutime and cstime.
      const script = `"$1" copy -q --src-tls-verify=false docker://"$3" oci:layout:1 >&2
        "$2" unpack --image layout:1 bundle >&2
        read -r stat < /proc/$$/stat; echo "$stat"`;
      const child = spawn('sh', ['-ec', script, 'sh', skopeo, umoci, image], {
        cwd: dir,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const stopWatching = watchCost(child.pid ?? 0);
      const stat = await timings.time('wall', async () => {
        const [output] = await Promise.all([text(child.stdout), once(child, 'exit')]);
        if (output === '') throw new Error(`${name} failed`);
        return output;
      });
      addCost(timings, { ...stopWatching(), cpuSeconds: cpuSecondsIn(stat) });
    },
  };
}

function addCost(timings: Timings, { cpuSeconds, peakBytes }: Cost): void {
  timings.add('CPU', cpuSeconds * 1000);
  timings.add('peak memory', peakBytes / 2 ** 20);
}

/** Asks for the version every few milliseconds, as the kubelet's calls come while an image is pulled. */
function pingThroughout(runtime: RuntimeServiceClient, timings: Timings): () => Promise<void> {
  let isOver = false;
  const pinging = (async () => {
    while (!isOver) {
      await timings.time('Version', () => ping(runtime));
      await sleep(5);
    }
  })();
  return async () => {
    isOver = true;
    await pinging;
  };
}

async function ping(runtime: RuntimeServiceClient): Promise<void> {
  await promisify(runtime.version.bind(runtime) as Unary)({ version: 'v1' });
}

async function pullImage(images: ImageServiceClient, image: string): Promise<void> {
  const request = PullImageRequest.create({ image: ImageSpec.create({ image }) });
  await promisify(images.pullImage.bind(images) as Unary)(request);
}

async function removeImage(images: ImageServiceClient, image: string): Promise<void> {
  await promisify(images.removeImage.bind(images) as Unary)({ image: ImageSpec.create({ image }) });
}

type Unary = (request: unknown, done: (error: Error | null, response: unknown) => void) => unknown;

function report(
  compression: Compression,
  image: PullImage,
  timings: ReadonlyMap<Candidate, Timings>,
  rounds: number,
  where: 'own' | 'disk',
): void {
  const all = [...timings].map(([{ name }, of]) => ({ name, of }));
  const own = all[0]?.of;
  if (own === undefined) return;
  const { compressedBytes } = image.manifests[compression];
  const rows = all.map(({ name, of }) => [
    name,
    seconds(median(of.of('wall'))),
    (median(own.of('wall')) / median(of.of('wall'))).toFixed(2),
    seconds(median(of.of('CPU'))),
    `${Math.round(median(of.of('peak memory')))}`,
    ...[0.5, 0.99, 1].map(share => cell(quantile(of.of('Version'), share))),
    cell(median(of.of('RemoveImage'))),
  ]);
  const megabytes = (bytes: number) => Math.round(bytes / 1e6);
  console.log(
    `\none image, ${compression}: ${image.entries} entries in 11 layers, ${megabytes(image.bytes)} MB, ` +
      `${megabytes(compressedBytes)} MB compressed, into an empty store on ${where === 'own' ? 'an ext4 of its own' : 'the machine’s disk'}; medians; ${rounds} rounds; ${machine()}\n`,
  );
  console.log(
    table(['', 'wall s', 'berth ÷', 'CPU s', 'peak MiB', 'Version p50 ms', 'p99', 'max', 'RemoveImage ms'], rows),
  );
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(2);
}

function cell(value: number): string {
  return Number.isNaN(value) ? '–' : ms(value);
}
