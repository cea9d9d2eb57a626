import type { Command } from 'commander';
import { BerthService, type VersionResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { timestamp } from './format/age';
import { parseGoTemplate, type GoTemplate } from './format/go-template';
import { jsonLines, parseFormat, type Format } from './format/json';
import { printable } from './format/printable';
import { print } from './output';
import { ownVersion } from './own-version';

// Both sides in the words that images use.
const arch = process.arch === 'x64' ? 'amd64' : process.arch;
const client = { version: ownVersion, nodeVersion: process.version, os: process.platform, arch };

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-f, --format <format>', 'table, json or a template: {{.Server.Version}}', parseVersionFormat, 'table')
    .addHelpText('after', '\nExample: berth version --format json')
    .action(async ({ format }: { format: Format | GoTemplate }) => {
      if (format === 'table') await print(clientText());
      const server = await daemon().ask(BerthService.version, {});
      if (typeof format === 'function') return await print(`${format(dockerView(server))}\n`);
      await print(format === 'json' ? json(server) : serverText(server));
    });
}

function parseVersionFormat(text: string): Format | GoTemplate {
  return text.includes('{{') ? parseGoTemplate(text, printable) : parseFormat(text);
}

/** Under docker's keys. */
function dockerView({ version, gitCommit, kernelVersion, os, arch: serverArch }: VersionResponse): object {
  return {
    Client: { Version: client.version, Os: client.os, Arch: client.arch },
    Server: { Version: version, GitCommit: gitCommit, KernelVersion: kernelVersion, Os: os, Arch: serverArch },
  };
}

/** Printed before the daemon is asked, since it is true without one. */
function clientText(): string {
  return section('Client', [
    ['Version', client.version],
    ['Node', client.nodeVersion],
    ['OS/Arch', `${client.os}/${client.arch}`],
  ]);
}

function serverText(server: VersionResponse): string {
  return `\n${section('Server', [
    ['Version', server.version],
    ['Git commit', server.gitCommit],
    ['Node', server.nodeVersion],
    ['Kernel', server.kernelVersion],
    ['OS/Arch', `${server.os}/${server.arch}`],
    ['Started', timestamp(server.startedAtNs)],
  ])}`;
}

function section(title: string, rows: readonly (readonly [string, string])[]): string {
  const lines = rows.filter(([, value]) => value !== '').map(([key, value]) => ` ${`${key}:`.padEnd(13)}${value}\n`);
  return `${title}:\n${lines.join('')}`;
}

function json({ startedAtNs, ...server }: VersionResponse): string {
  return jsonLines([{ client, server: { ...server, startedAt: timestamp(startedAtNs) } }]);
}
