import type { Command } from 'commander';
import { ContainersService, FileChange_Kind as Kind } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { printable } from './format/printable';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('CONTAINER')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .addHelpText('after', '\nA is what was added, C changed, D deleted.\nExample: berth diff web')
    .action(async (container: string) => {
      const { changes } = await daemon().ask(ContainersService.diff, { container });
      await print(changes.map(({ kind, path }) => `${letters[kind]} ${printable(path)}\n`).join(''));
    });
}

const letters: Readonly<Record<Kind, string>> = { [Kind.CHANGED]: 'C', [Kind.ADDED]: 'A', [Kind.DELETED]: 'D' };
