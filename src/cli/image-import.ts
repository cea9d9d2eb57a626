import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import { archiveInput, sendArchive } from './archive-input';
import type { Daemon } from './client';
import { print } from './output';
import { collect } from './parse/collect';
import { showPull } from './pull';

interface Flags {
  change: string[];
  message: string;
  quiet: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] FILE|- [NAME[:TAG]]')
    .argument('<file>', 'the files of the image: a tar, also with gzip or zstd')
    .argument('[name]', 'the name that the image gets')
    .option('-c, --change <line>', 'a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, …', collect, [])
    .option('-m, --message <text>', 'for the history of the image', '')
    .option('-q, --quiet', 'no progress', false)
    .addHelpText('after', `\nExample: berth image import -c 'CMD ["/app"]' rootfs.tar app:1`)
    .action(async (file: string, name: string | undefined, { change, message, quiet }: Flags) => {
      const input = archiveInput(file, 'name a file');
      if ('directory' in input) {
        throw new BerthError('invalid_argument', `${file} is a directory, and a tar is needed`, {
          hint: `try: tar -C ${file} -c . | berth image import - ${name ?? ''}`.trimEnd(),
        });
      }
      const talk = daemon().converse(BerthService.importFileSystem);
      const start = { reference: name ?? '', changes: change, message, what: input.what };
      const broken = sendArchive(talk, { start }, input.bytes, data => ({ data })).then(
        () => new Promise<never>(() => undefined),
      );
      const { imageId } = await Promise.race([broken, showPull(talk, quiet, process.stderr)]);
      await print(`${imageId}\n`);
    });
}
