import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { messageOf } from './base/errors';
import { createLogger } from './base/log';
import { loadConfig } from './config';
import { startDaemon } from './daemon';
import { installDir } from './native/paths';
import { tellReady } from './process/service-manager';

interface Flags {
  config?: string;
  root?: string;
  state?: string;
}

function ownVersion(): string {
  const manifest = JSON.parse(readFileSync(join(installDir(), 'package.json'), 'utf8')) as { version: string };
  return manifest.version;
}

async function main(): Promise<void> {
  const version = ownVersion();
  const program = new Command('berthd')
    .description('The berth daemon: runs containers for the kubelet (cri.sock) and for people (berth.sock).')
    .version(version)
    .option('--config <file>', 'configuration file (default: /etc/berth/config.toml)')
    .option('--root <dir>', 'images, writable layers and records (default: /var/lib/berth)')
    .option('--state <dir>', 'sockets and what a reboot may lose (default: /run/berth)')
    .allowExcessArguments(false)
    .parse();
  const { config: file, root, state } = program.opts<Flags>();
  const config = loadConfig({
    ...(file === undefined ? {} : { file }),
    ...(root === undefined ? {} : { root }),
    ...(state === undefined ? {} : { state }),
  });
  const log = createLogger(config.log.level, config.log.format);
  if (process.getuid?.() !== 0) throw new Error('it runs containers, and needs root for that: run it as root');

  // What is private says so itself; cgroups, log directories and pods' files are for others to read.
  process.umask(0o022);
  // Signals are heard from here on: one that comes while the daemon starts ends it once it has.
  const starting = startDaemon(config, version, log);
  // What state things are in is unknown then; containers do not care, and the next daemon asks the kernel.
  process.on('uncaughtException', error => {
    log.error(`not caught, ending: ${messageOf(error)}`, { stack: error.stack });
    process.exit(1);
  });
  const stop = (signal: string) => {
    log.info(`${signal}: shutting down; containers run on`);
    starting
      .then(daemon => daemon.close())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log.error(`shutdown: ${messageOf(error)}`);
          process.exit(1);
        },
      );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stop);

  await starting;
  log.info('berthd is ready', { version, pid: process.pid });
  await tellReady().catch((error: unknown) => log.warn(`could not tell systemd: ${messageOf(error)}`));
}

main().catch((error: unknown) => {
  process.stderr.write(`berthd: ${messageOf(error)}\n`);
  process.exit(1);
});
