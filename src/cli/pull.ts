import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, type PullDone, type PullResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { familiar } from './format/names';
import { progressDisplay } from './format/progress';
import { print } from './output';
import { defaultPlatform } from './parse/default-platform';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE')
    .argument('<image>', 'a reference; without a tag, latest')
    .option('-q, --quiet', 'no progress', false)
    .option('--platform <os/arch>', "the image for this platform (default: the node's)", defaultPlatform())
    .addHelpText(
      'after',
      '\nExample: berth pull registry.example:5000/app:1.2\n         berth pull --platform linux/arm64 alpine',
    )
    .action(async (image: string, { quiet, platform }: { quiet: boolean; platform: string }) => {
      const replies = daemon().open(BerthService.pull, { image, platform });
      const { digest, reference, changed } = await showPull(replies, quiet);
      const status = changed ? 'Downloaded newer image for' : 'Image is up to date for';
      if (!quiet) await print(`Digest: ${digest}\nStatus: ${status} ${familiar(reference)}\n`);
      await print(`${reference}\n`);
    });
}

/** Shows the progress of a pull or an import, and returns how it ended. */
export async function showPull(
  replies: AsyncIterable<PullResponse>,
  quiet: boolean,
  screen: NodeJS.WriteStream = process.stdout,
): Promise<PullDone> {
  const display = progressDisplay(screen, quiet);
  let end: PullDone | undefined;
  for await (const { progress, done } of replies) {
    if (progress) display.update(progress);
    end = done;
  }
  if (end) return end;
  throw new BerthError('internal', 'the daemon ended the call without saying which image it has');
}
