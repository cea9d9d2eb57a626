import type { Command } from 'commander';
import type { Daemon } from './client';
import { inspectAll } from './inspect';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] VOLUME…')
    .argument('<volume...>', 'their names')
    .option('-f, --format <template>', 'a template instead of JSON: {{.Mountpoint}}', '')
    .addHelpText('after', '\nExample: berth volume inspect sites')
    .action((volumes: string[], { format }: { format: string }) => inspectAll(daemon(), volumes, 'volume', format));
}
