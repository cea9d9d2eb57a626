import type { Command } from 'commander';
import type { Daemon } from './client';
import { inspectAll } from './inspect';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('IMAGE…')
    .argument('<image...>', 'references, ids, or the first digits of ids')
    .addHelpText('after', '\nExample: berth image inspect alpine')
    .action((images: string[]) => inspectAll(daemon(), images, 'image'));
}
