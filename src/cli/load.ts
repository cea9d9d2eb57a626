import type { Command } from 'commander';
import { BerthService, type LoadRequest, type LoadResponse } from '../cri/generated/berth/v1/berth';
import { archiveInput, sendArchive, type ArchiveInput } from './archive-input';
import type { Conversation, Daemon } from './client';
import { familiar } from './format/names';
import { printable } from './format/printable';
import { progressDisplay } from './format/progress';
import { print } from './output';

interface Flags {
  input?: string;
  quiet: boolean;
  name?: string;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [FILE|DIRECTORY|-]')
    .argument('[archive]', 'an OCI image layout or a docker archive: a tar, also with gzip or zstd, or a directory')
    .option('-i, --input <archive>', 'the same, as docker has it; without either, stdin')
    .option('-n, --name <name[:tag]>', 'for the only image in it, instead of the names that it has there')
    .option('-q, --quiet', 'no progress', false)
    .addHelpText('after', '\nExample: berth load -i app.tar\n         berth load --name app:1.2 ./app-image')
    .action(async (archive: string | undefined, { input, quiet, name }: Flags) => {
      await load(daemon(), archiveInput(archive ?? input, 'name one: berth load FILE'), name ?? '', quiet);
    });
}

/** Prints the names that the archive brings: they are the archive's choice, and the person should see them. */
async function load(daemon: Daemon, input: ArchiveInput, name: string, quiet: boolean): Promise<void> {
  const talk: Conversation<LoadRequest, LoadResponse> = daemon.converse(BerthService.load);
  const directory = 'directory' in input ? input.directory : '';
  const bytes = 'bytes' in input ? input.bytes : undefined;
  const sent = sendArchive(talk, { start: { directory, name, what: input.what } }, bytes, data => ({ data }));
  const broken = sent.then(() => new Promise<never>(() => undefined));
  const display = progressDisplay(process.stderr, quiet);
  await Promise.race([broken, show(talk, display.update.bind(display))]);
}

async function show(
  replies: AsyncIterable<LoadResponse>,
  update: (progress: NonNullable<LoadResponse['progress']>) => void,
): Promise<void> {
  for await (const { progress, loaded } of replies) {
    if (progress) update(progress);
    if (!loaded) continue;
    const { imageId, references, platform } = loaded;
    const end = platform === '' ? '\n' : ` (${printable(platform)})\n`;
    const lines = references.map(reference => `Loaded image: ${familiar(reference)}${end}`);
    await print(lines.length > 0 ? lines.join('') : `Loaded image ID: ${imageId}${end}`);
  }
}
