import type { Command } from 'commander';
import { BerthService, type RegistryEndpoint } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { jsonLines, parseFormat, type Format } from './format/json';
import { familiar } from './format/names';
import { printable } from './format/printable';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE')
    .argument('<image>', 'a reference; without a tag, latest')
    .option('--format <format>', 'table, or json: an endpoint a line (default: table)', parseFormat, 'table')
    .addHelpText(
      'after',
      '\nThe exit code is 0 when a pull would find the image, 1 when not. Nothing is pulled.' +
        '\nExample: berth registry explain registry.example/app:1',
    )
    .action(async (image: string, { format }: { format: Format }) => {
      const { reference, endpoints } = await daemon().ask(BerthService.explainPull, { image });
      if (!endpoints.some(({ used }) => used)) process.exitCode = 1;
      if (format === 'json') return await print(jsonLines(endpoints));
      await print(`${familiar(reference)} is asked for at, in this order:\n${endpoints.map(paragraphOf).join('')}`);
      await print(conclusionOf(endpoints));
    });
}

/** One endpoint, a fact a line. */
function paragraphOf(endpoint: RegistryEndpoint, index: number): string {
  const facts: [string, string][] = [
    ['from', endpoint.why],
    ['for', endpoint.capabilities.join(', ')],
    ['security', endpoint.security],
    ['files', endpoint.tlsFiles.join(', ')],
    ['headers', endpoint.headers.join(', ')],
    ['proxy', endpoint.proxy],
    ['login', loginOf(endpoint)],
    ['answer', answerOf(endpoint)],
  ];
  const lines = facts.flatMap(([name, value]) => (value === '' ? [] : [`   ${name.padEnd(9)} ${printable(value)}\n`]));
  return `\n${index + 1}. ${printable(endpoint.url)}\n${lines.join('')}`;
}

function loginOf({ credentials, username }: RegistryEndpoint): string {
  if (credentials === '') return 'none';
  return username === '' ? credentials : `${username}, ${credentials}`;
}

function answerOf({ asked, error, digest, mediaType, latencyMs }: RegistryEndpoint): string {
  if (!asked) return 'not asked: its capabilities leave this out';
  if (error !== '') return `${error} (${latencyMs} ms)`;
  return `${digest}${mediaType === '' ? '' : `, ${mediaType}`} (${latencyMs} ms)`;
}

function conclusionOf(endpoints: readonly RegistryEndpoint[]): string {
  const place = endpoints.findIndex(({ used }) => used);
  return place < 0 ? '\nA pull would fail: none has the image.\n' : `\nA pull would take it from ${place + 1}.\n`;
}
