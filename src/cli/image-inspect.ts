import type { Command } from 'commander';
import type { Daemon } from './client';
import { inspectAll } from './inspect';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE…')
    .argument('<image...>', 'references, ids, or the first digits of ids')
    .addHelpText('after', '\nExample: berth image inspect alpine')
    .option('-f, --format <template>', 'a template instead of JSON: {{.Config.Cmd}}', '')
    .action((images: string[], { format }: { format: string }) => inspectAll(daemon(), images, 'image', format));
}
