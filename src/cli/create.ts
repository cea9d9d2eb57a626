import type { Command } from 'commander';
import type { Daemon } from './client';
import { addCreateFlags, createContainer, createRequest, type CreateFlags } from './create-container';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  addCreateFlags(command)
    .addHelpText('after', '\nExample: berth create --name web -v ./site:/site:ro nginx')
    .action(async (image: string, args: string[], flags: CreateFlags) => {
      const { id } = await createContainer(daemon(), createRequest(image, args, flags, true), flags);
      await print(`${id}\n`);
    });
}
