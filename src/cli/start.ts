import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import { addAttachFlags, attach, type AttachFlags } from './attach';
import type { Daemon } from './client';
import { each } from './each';
import { startInForeground } from './foreground';

interface Flags extends AttachFlags {
  attach: boolean;
  interactive: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  addAttachFlags(command)
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-a, --attach', 'show what it writes, and end with its exit code', false)
    .option('-i, --interactive', 'hand on stdin, too', false)
    .addHelpText(
      'after',
      '\nA container that has exited starts again over the files that it has written.' +
        '\nExample: berth start web\n         berth start -ai shell',
    )
    .action(async (containers: string[], flags: Flags) => {
      if (flags.attach || flags.interactive) {
        process.exitCode = await startAttached(daemon(), containers, flags);
        return;
      }
      await each(containers, async container => {
        await daemon().ask(BerthService.start, { container });
        return `${container}\n`;
      });
    });
}

async function startAttached(daemon: Daemon, containers: readonly string[], flags: Flags): Promise<number> {
  const [container = '', ...more] = containers;
  if (more.length > 0) {
    throw new BerthError('invalid_argument', 'several containers cannot be attached to at once', {
      hint: 'start them without -a and -i, or one by one',
    });
  }
  // Attaching needs something that is there; starting comes once nothing of it can be missed.
  await daemon.ask(ContainersService.prepare, { container });
  if (!flags.interactive) return await startInForeground(daemon, container, flags.sigProxy, 0n);
  return await attach(daemon, container, true, flags, () => daemon.ask(BerthService.start, { container }));
}
