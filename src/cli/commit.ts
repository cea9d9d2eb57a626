import type { Command } from 'commander';
import { BuilderService } from '../cri/generated/berth/v1/build';
import type { Daemon } from './client';
import { print } from './output';
import { collect } from './parse/collect';

interface Flags {
  change: string[];
  message: string;
  author: string;
  pause: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER [NAME[:TAG]]')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .argument('[reference]', 'the name that the image gets')
    .option('-c, --change <instruction>', 'a line of a Dockerfile: CMD, ENV, USER, …', collect, [])
    .option('-m, --message <text>', "for the image's history", '')
    .option('-a, --author <text>', 'who made it', '')
    .option('--no-pause', 'let the processes of the container go on meanwhile')
    .addHelpText('after', '\nExample: berth commit -c \'CMD ["app"]\' web app:tried')
    .action(async (container: string, reference: string | undefined, flags: Flags) => {
      const { change, message, author, pause } = flags;
      const request = { container, reference: reference ?? '', changes: change, message, author, pause };
      const { imageId } = await daemon().ask(BuilderService.commit, request);
      await print(`${imageId}\n`);
    });
}
