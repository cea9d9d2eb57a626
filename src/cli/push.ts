import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import { RegistryService, type PushDone, type PushRequest } from '../cri/generated/berth/v1/registry';
import type { Daemon } from './client';
import { familiar } from './format/names';
import { pushDisplay } from './format/push-progress';
import { print, write } from './output';

interface Flags {
  allTags: boolean;
  quiet: boolean;
  platform: string;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] NAME[:TAG]')
    .argument('<name>', 'the name of an image, beginning with its registry; without a tag, latest')
    .option('-a, --all-tags', 'all tags that the repository has here', false)
    .option('-q, --quiet', 'no progress', false)
    .option('--platform <os/arch>', 'of several images with this name the one for this platform alone', '')
    .addHelpText('after', '\nExample: berth push registry.example:5000/app:1.2')
    .action(async (name: string, { allTags, quiet, platform }: Flags) => {
      const names = allTags ? await tagsOf(daemon(), name) : [name];
      for (const one of names) {
        const { reference, digest, sizeBytes, platforms, leftOut } = await push(
          daemon(),
          { image: one, platform },
          quiet,
        );
        const tag = reference.slice(reference.lastIndexOf(':') + 1);
        await print(quiet ? `${reference}\n` : `${tag}: digest: ${digest} size: ${sizeBytes}\n`);
        if (leftOut > 0) await write(process.stderr, leftOutNote(platforms, leftOut));
      }
    });
}

function leftOutNote(platforms: readonly string[], count: number): string {
  const others = count === 1 ? 'the image for another platform' : `the images for ${count} other platforms`;
  return `Only ${platforms.join(', ')} is pushed, and not ${others}: the rest of their index is not here\n`;
}

async function push(daemon: Daemon, request: PushRequest, quiet: boolean): Promise<PushDone> {
  const display = pushDisplay(process.stdout, quiet);
  let end: PushDone | undefined;
  for await (const { progress, done } of daemon.open(RegistryService.push, request)) {
    if (progress) display.update(progress);
    end = done;
  }
  if (end) return end;
  throw new BerthError('internal', 'the daemon ended the call without saying what it pushed');
}

async function tagsOf(daemon: Daemon, name: string): Promise<string[]> {
  const { images } = await daemon.ask(BerthService.listImages, { labels: [] });
  // Images for several platforms have the same one.
  const tags = [...new Set(images.flatMap(({ repoTags }) => repoTags).map(familiar))];
  const own = tags.filter(tag => tag.slice(0, tag.lastIndexOf(':')) === familiar(name));
  if (own.length > 0) return own;
  throw new BerthError('not_found', `no image here is called ${name}`, {
    hint: 'berth images lists those that are here',
  });
}
