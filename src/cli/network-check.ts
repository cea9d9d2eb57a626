import type { Command } from 'commander';
import { NetworksService, type CheckedMember } from '../cri/generated/berth/v1/network';
import type { Daemon } from './client';
import { jsonLines, parseFormat, type Format } from './format/json';
import { printable } from './format/printable';
import { print } from './output';

const SHOWN_ID = 12;

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [NETWORK…]')
    .argument('[network...]', 'names, as network ls has them; all when none is given')
    .option('--format <format>', 'table or json, a pod a line (default: table)', parseFormat, 'table')
    .addHelpText(
      'after',
      '\nAsks the plugins of each pod’s network (CNI CHECK). The exit code is 0 when all is as it was made, 1 when' +
        ' not, 2 when it could not be seen.\nExample: berth network check',
    )
    .action(async (networks: string[], { format }: { format: Format }) => {
      const problems = await check(daemon(), networks, format);
      if (problems > 0) process.exitCode = 1;
    });
}

async function check(daemon: Daemon, networks: string[], format: Format): Promise<number> {
  let [pods, problems] = [0, 0];
  for await (const checked of daemon.open(NetworksService.checkNetworks, { networks })) {
    pods++;
    if (checked.problem !== '') problems++;
    if (format === 'json') await print(jsonLines([checked]));
    else if (checked.problem !== '') await print(lineOf(checked));
  }
  if (format === 'table') await print(sentenceFor(pods, problems));
  return problems;
}

/** `web (0123456789ab) on berth: network interface bth0123456789ab is not there, or down` */
function lineOf({ network, member, problem }: CheckedMember): string {
  const { name = '', pod = '' } = member ?? {};
  return `${printable(`${name} (${pod.slice(0, SHOWN_ID)}) on ${network}: ${problem}`)}\n`;
}

function sentenceFor(pods: number, problems: number): string {
  const seen = pods === 1 ? '1 pod' : `${pods} pods`;
  if (problems === 0) return `${seen}: all is as it was made\n`;
  return `${seen}, ${problems} with a problem: a pod that is made again gets its network anew\n`;
}
