import type { Command } from 'commander';
import type { Daemon } from './client';
import { inspectAll } from './inspect';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-f, --format <template>', 'a template instead of JSON: {{.State.Status}}', '')
    .option('-s, --size', 'also what they have written', false)
    .addHelpText('after', '\nExample: berth container inspect web')
    .action((containers: string[], { format, size }: { format: string; size: boolean }) =>
      inspectAll(daemon(), containers, 'container', format, size),
    );
}
