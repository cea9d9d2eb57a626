import type { Command } from 'commander';
import type { Daemon } from './client';
import { configChanges, type ConfigChange } from './explore/config-diff';
import { imageDifferences, type PathDifference } from './explore/image-diff';
import { ImageTree } from './explore/image-tree';
import { safeJson } from './explore/json';
import { Paths } from './explore/paths';
import { printAll } from './explore/print-all';
import { inspectImage, readLayers, type InspectedImage } from './explore/read-image';
import { LETTERS } from './explore/report';
import { printable } from './format/printable';
import { humanSize } from './format/size';

interface Flags {
  json: boolean;
  exitCode: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE IMAGE')
    .argument('<before>', 'a reference, an id, or the first digits of one')
    .argument('<after>', 'another')
    .option('--json', 'an object a line: of the configs, then of the files, then the sums', false)
    .option('--exit-code', 'exit code 1 when they differ', false)
    .addHelpText(
      'after',
      '\nA is what the second image has more, D what it lacks, C what is another: its content, target, mode, owner or type.' +
        '\nTimes and extended attributes are not compared.' +
        '\nExample: berth image diff app:1 app:2' +
        '\n         berth image diff --json --exit-code app:1 app:2',
    )
    .action(async (before: string, after: string, { json, exitCode }: Flags) => {
      const differs = await compare(daemon(), before, after, json);
      if (differs && exitCode) process.exitCode = 1;
    });
}

/** Says what differs; false when nothing does. */
async function compare(daemon: Daemon, first: string, second: string, json: boolean): Promise<boolean> {
  const [before, after] = await Promise.all([first, second].map(name => inspectImage(daemon, name)));
  if (!before || !after) return false;
  const configs = configChanges(before.config, after.config);
  const sums = new Sums();
  const files = await differences(daemon, before, after);
  await printAll(json ? jsonLines(configs, files, sums) : textLines(configs, files, sums));
  return configs.length > 0 || sums.files > 0;
}

function* textLines(configs: readonly ConfigChange[], files: Iterable<PathDifference>, sums: Sums): Generator<string> {
  for (const change of configs) yield configLine(change);
  for (const difference of files) {
    sums.add(difference);
    yield fileLine(difference);
  }
  yield sums.sentence(configs.length);
}

function* jsonLines(configs: readonly ConfigChange[], files: Iterable<PathDifference>, sums: Sums): Generator<string> {
  for (const config of configs) yield `${safeJson({ config })}\n`;
  for (const difference of files) {
    sums.add(difference);
    yield `${safeJson(difference)}\n`;
  }
  yield `${safeJson({ sums })}\n`;
}

/** The layers that both begin with are read once; when those are all, there is nothing to read. */
async function differences(
  daemon: Daemon,
  before: InspectedImage,
  after: InspectedImage,
): Promise<Iterable<PathDifference>> {
  const common = commonLayers(before, after);
  if (common === before.layers.length && common === after.layers.length) return [];
  const paths = new Paths();
  const [old, now] = [new ImageTree(paths), new ImageTree(paths)];
  const both = {
    begin: () => [old, now].forEach(tree => tree.begin()),
    enter: (...[entry]: Parameters<ImageTree['enter']>) => [old, now].forEach(tree => tree.enter(entry)),
    leave: () => [old, now].forEach(tree => tree.leave()),
    put: (...[entry]: Parameters<ImageTree['put']>) => [old, now].forEach(tree => tree.put(entry)),
  };
  await readLayers(daemon, before, range(0, before.layers.length), layer => (layer < common ? both : old));
  await readLayers(daemon, after, range(common, after.layers.length), () => now);
  return imageDifferences(old, now);
}

function commonLayers(before: InspectedImage, after: InspectedImage): number {
  const at = before.layers.findIndex(({ diffId }, i) => diffId !== after.layers[i]?.diffId);
  return at < 0 ? before.layers.length : at;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

class Sums {
  added = 0;
  changed = 0;
  removed = 0;
  addedBytes = 0;
  removedBytes = 0;

  get files(): number {
    return this.added + this.changed + this.removed;
  }

  add(difference: PathDifference): void {
    this[difference.kind]++;
    if (difference.kind !== 'removed') this.addedBytes += difference.sizeBytes;
    if (difference.kind === 'removed') this.removedBytes += difference.sizeBytes;
    if (difference.kind === 'changed') this.removedBytes += difference.sizeBytesBefore;
  }

  sentence(configs: number): string {
    if (this.files + configs === 0) return 'The images are the same\n';
    const { added, changed, removed, addedBytes, removedBytes } = this;
    const grown = addedBytes - removedBytes;
    const size = `${grown < 0 ? '-' : '+'}${humanSize(Math.abs(grown))}`;
    return `${added} added, ${changed} changed, ${removed} removed, ${size}; ${configs} of the config\n`;
  }
}

/** `C env PATH: /bin -> /usr/bin` */
function configLine({ what, before, after }: ConfigChange): string {
  const letter = before === undefined ? LETTERS.added : after === undefined ? LETTERS.removed : LETTERS.changed;
  const values = [before, after].filter(value => value !== undefined).join(' -> ');
  return `${letter} config ${printable(`${what}: ${values}`)}\n`;
}

/** `C 12kB -> 13kB /etc/passwd (content)` */
function fileLine(difference: PathDifference): string {
  const { kind, path, sizeBytes } = difference;
  const size = humanSize(sizeBytes);
  if (kind !== 'changed') return `${LETTERS[kind]} ${size} ${printable(path)}\n`;
  const before = humanSize(difference.sizeBytesBefore);
  const sizes = before === size ? size : `${before} -> ${size}`;
  return `${LETTERS[kind]} ${sizes} ${printable(path)} (${difference.differences.join(', ')})\n`;
}
