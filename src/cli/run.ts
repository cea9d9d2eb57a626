import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import { addAttachFlags, attach, type AttachFlags } from './attach';
import type { Daemon } from './client';
import { addCreateFlags, createContainer, createRequest, type CreateFlags } from './create-container';
import { startInForeground } from './foreground';
import { print } from './output';

interface Flags extends CreateFlags, AttachFlags {
  detach: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  addAttachFlags(addCreateFlags(command.option('-d, --detach', 'print the id and return while it runs', false)))
    .addHelpText('after', '\nExample: berth run --rm -v ./site:/site:ro -e LANG=C alpine ls /site')
    .action(async (image: string, args: string[], flags: Flags) => {
      await run(daemon(), image, args, flags);
    });
}

async function run(daemon: Daemon, image: string, args: string[], flags: Flags): Promise<void> {
  if (flags.tty && flags.interactive && !flags.detach && !process.stdin.isTTY) {
    throw new BerthError('failed_precondition', 'stdin is not a terminal', { hint: 'leave out -t' });
  }
  const { id } = await createContainer(daemon, createRequest(image, args, flags, !flags.detach), flags);
  if (!flags.detach) {
    const start = () => daemon.ask(BerthService.start, { container: id });
    const isAttached = flags.interactive || flags.tty;
    process.exitCode = isAttached
      ? await attach(daemon, id, flags.interactive, flags, start)
      : await startInForeground(daemon, id, flags.sigProxy);
    return;
  }
  await daemon.ask(BerthService.start, { container: id });
  await print(`${id}\n`);
}
