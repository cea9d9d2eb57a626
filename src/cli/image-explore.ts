import type { Command } from 'commander';
import type { Daemon } from './client';
import { sentenceOf } from './errors';
import { Explorer } from './explore/explorer';
import { showFullScreen } from './explore/full-screen';
import { ImageTree } from './explore/image-tree';
import { printAll } from './explore/print-all';
import { inspectImage, readLayers } from './explore/read-image';
import { jsonReport, textReport, type ExploredImage } from './explore/report';
import { brokenRules, parseShare, type Rules } from './explore/rules';
import { styles } from './explore/styles';
import { write } from './output';
import { parseInteger } from './parse/numbers';
import { parseSize } from './parse/size';

interface Flags extends Rules {
  tty: boolean;
  json: boolean;
  changes: boolean;
  top: number;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE')
    .argument('<image>', 'a reference, an id, or the first digits of one')
    .option('--no-tty', 'lines, at a terminal, too')
    .option('--json', 'one JSON object', false)
    .option('--changes', 'also every path that a layer added, changed (C) or removed (D)', false)
    .option('--top <count>', 'how many of the paths that waste most (default: 10)', parseTop, 10)
    .option(
      '--lowest-efficiency <share>',
      'exit code 1 when less of what layers bring is still there in the end: 0.9',
      text => parseShare('--lowest-efficiency', text),
    )
    .option('--highest-wasted-bytes <size>', 'exit code 1 when more than that is not: 20m', text =>
      parseSize('--highest-wasted-bytes', text),
    )
    .addHelpText(
      'after',
      '\nAt a terminal it shows layers and files to walk through: Tab goes from one to the other, the last line has the keys.' +
        '\nWasted is what a later layer replaces or removes; a file with several names counts once.' +
        '\nThe exit code is 0 when all is as it should be, 1 when not, 2 when it could not be seen.' +
        '\nExample: berth image explore app:1' +
        '\n         berth image explore --lowest-efficiency 0.95 --highest-wasted-bytes 20m app:1',
    )
    .action(async (name: string, flags: Flags) => {
      if (isForPerson(flags)) return walkThrough(daemon(), name);
      const explored = await readImage(daemon(), name);
      await printAll((flags.json ? jsonReport : textReport)(explored, flags));
      const broken = brokenRules(explored.tree, flags);
      if (broken.length === 0) return;
      await write(process.stderr, sentenceOf(`image ${name}: ${broken.join(', and ')}`));
      process.exitCode = 1;
    });
}

/** What was asked for in flags is for a script, or to be kept. */
function isForPerson({ tty, json, changes, lowestEfficiency, highestWastedBytes }: Flags): boolean {
  const isAsked = json || changes || lowestEfficiency !== undefined || highestWastedBytes !== undefined;
  return tty && !isAsked && process.stdin.isTTY && process.stdout.isTTY;
}

async function walkThrough(daemon: Daemon, name: string): Promise<void> {
  const explored = await readImage(daemon, name, tellLayer).finally(() => process.stdout.write('\r\x1b[K'));
  const signal = await showFullScreen(new Explorer(explored, styles(!process.env['NO_COLOR'])));
  if (signal > 0) process.exitCode = 128 + signal;
}

/** @param onLayer hears of each layer that begins, counted from 1, and of how many there are */
async function readImage(
  daemon: Daemon,
  name: string,
  onLayer: (layer: number, layers: number) => void = () => undefined,
): Promise<ExploredImage> {
  const image = await inspectImage(daemon, name);
  const tree = new ImageTree();
  await readLayers(daemon, image, [...image.layers.keys()], layer => {
    onLayer(layer + 1, image.layers.length);
    return tree;
  });
  return { image, tree };
}

/** On a line that is written over. */
function tellLayer(layer: number, layers: number): void {
  process.stdout.write(`\r\x1b[Kreading layer ${layer} of ${layers}`);
}

function parseTop(text: string): number {
  return Math.max(0, Number(parseInteger('--top', text)));
}
