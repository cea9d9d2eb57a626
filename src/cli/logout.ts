import type { Command } from 'commander';
import { RegistryService } from '../cri/generated/berth/v1/registry';
import type { Daemon } from './client';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[SERVER]')
    .argument('[server]', 'a registry; without one, Docker Hub', '')
    .addHelpText('after', '\nExample: berth logout registry.example:5000')
    .action(async (server: string) => {
      const { wasKept } = await daemon().ask(RegistryService.logout, { server });
      const name = server || 'docker.io';
      await print(wasKept ? `Removed the login to ${name}\n` : `Not logged in to ${name}\n`);
    });
}
