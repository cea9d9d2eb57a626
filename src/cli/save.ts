import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, type SaveRequest, type SaveResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { progressDisplay, type ProgressDisplay } from './format/progress';
import { NewFile } from './new-file';
import { write } from './output';

interface Flags {
  output?: string;
  quiet: boolean;
  platform: string;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE…')
    .argument('<image...>', 'references, ids, or the first digits of ids')
    .option('-o, --output <file>', 'where to: a file, or a directory that ends in / (default: stdout)')
    .option('-q, --quiet', 'no progress', false)
    .option('--platform <os/arch>', 'the images for this platform (default: all that their index has)', '')
    .addHelpText('after', '\nExample: berth save -o app.tar app:1.2\n         berth save app:1.2 | ssh node berth load')
    .action(async (images: string[], { output, quiet, platform }: Flags) => {
      const display = progressDisplay(process.stderr, quiet || !process.stderr.isTTY);
      const to = await destination(output);
      const request = (directory: string): SaveRequest => ({ images, directory, platform });
      if ('directory' in to) return await drain(daemon().open(BerthService.save, request(to.directory)), display);
      const replies = daemon().open(BerthService.save, request(''));
      if ('file' in to) return await saveToFile(replies, to.file, display);
      await drain(replies, display, data => write(process.stdout, data));
    });
}

type Destination = { readonly file: string } | { readonly directory: string } | { readonly stdout: true };

async function destination(output: string | undefined): Promise<Destination> {
  if (output === undefined || output === '-') {
    if (!process.stdout.isTTY) return { stdout: true };
    throw new BerthError('invalid_argument', 'an archive is not for a terminal', { hint: 'name a file with -o' });
  }
  if (output.endsWith('/') || (await isDirectory(output))) return { directory: resolve(output) };
  return { file: resolve(output) };
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    found => found.isDirectory(),
    () => false,
  );
}

async function saveToFile(replies: AsyncIterable<SaveResponse>, path: string, display: ProgressDisplay): Promise<void> {
  await using file = await NewFile.open(path);
  await drain(replies, display, data => file.write(data));
  await file.end();
}

async function drain(
  replies: AsyncIterable<SaveResponse>,
  display: ProgressDisplay,
  take: (data: Buffer) => Promise<void> = async () => undefined,
): Promise<void> {
  for await (const { progress, data } of replies) {
    if (progress) display.update(progress);
    if (data) await take(data);
  }
}
