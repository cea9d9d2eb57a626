import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { printInspected } from './inspect';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] POD…')
    .argument('<pod...>', 'names, namespace/name, ids, or the first digits of ids')
    .option('-f, --format <template>', 'a template instead of JSON: {{.state}}', '')
    .addHelpText('after', '\nExample: berth inspectp kube-system/coredns-x')
    .action(async (pods: string[], { format }: { format: string }) => {
      await printInspected(pods, format, async pod => (await daemon().ask(ContainersService.inspectPod, { pod })).json);
    });
}
