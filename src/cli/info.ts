import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { parseGoTemplate } from './format/go-template';
import { printable } from './format/printable';
import { humanSize } from './format/size';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-f, --format <format>', 'json, or a template: {{.KernelVersion}}', '')
    .addHelpText('after', "\nExample: berth info -f '{{.KernelVersion}}'")
    .action(async ({ format }: { format: string }) => {
      const template = format === '' || format === 'json' ? undefined : parseGoTemplate(format, printable);
      const { json } = await daemon().ask(ContainersService.info, {});
      if (format === 'json') return await print(`${json}\n`);
      const info = JSON.parse(json) as Record<string, unknown>;
      await print(template ? `${template(info)}\n` : text(info));
    });
}

const TITLES: readonly (readonly [string, string])[] = [
  ['Containers', 'Containers'],
  [' Running', 'ContainersRunning'],
  [' Paused', 'ContainersPaused'],
  [' Stopped', 'ContainersStopped'],
  ['Pods', 'Pods'],
  ['Images', 'Images'],
  ['Server Version', 'ServerVersion'],
  ['Storage Driver', 'Driver'],
  ['Runtimes', 'Runtimes'],
  ['Cgroup Driver', 'CgroupDriver'],
  ['Cgroup Version', 'CgroupVersion'],
  ['Security Options', 'SecurityOptions'],
  ['Kernel Version', 'KernelVersion'],
  ['Operating System', 'OperatingSystem'],
  ['OSType', 'OSType'],
  ['Architecture', 'Architecture'],
  ['CPUs', 'NCPU'],
  ['Total Memory', 'MemTotal'],
  ['Name', 'Name'],
  ['Root Dir', 'RootDir'],
  ['State Dir', 'StateDir'],
];

function text(info: Record<string, unknown>): string {
  return TITLES.map(([title, key]) => `${title}: ${printable(valueOf(key, info[key]))}\n`).join('');
}

function valueOf(key: string, value: unknown): string {
  if (key === 'MemTotal') return humanSize(Number(value));
  return Array.isArray(value) ? value.join(' ') : String(value);
}
