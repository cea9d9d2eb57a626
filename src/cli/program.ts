import { Command } from 'commander';
import type { Daemon } from './client';
import { oneSentence } from './errors';
import { ownVersion } from './own-version';
import { verbs, type Verb } from './verbs';

const defaultHost = 'unix:///run/berth/berth.sock';

/**
 * The whole command line, of which only the verb that is asked for gets its options: `onVerb` learns which it is, and
 * its module is loaded then.
 */
export function makeProgram(onVerb: (verb: Verb) => void): Command {
  let help = 'berth --help';
  const program = new Command('berth')
    .usage('[--host SOCKET] VERB …')
    .description('Images and containers of this node, shared with its kubelet.')
    .option(
      '--host <socket>',
      `the daemon to talk to; BERTH_HOST does the same (default: ${defaultHost})`,
      process.env['BERTH_HOST'] || defaultHost,
    )
    .version(`berth version ${ownVersion}`, '--version', 'show the version of berth')
    .helpCommand(false)
    .enablePositionalOptions()
    .exitOverride()
    .helpOption('-h, --help', 'show this help')
    .configureHelp({ optionDescription: option => option.description })
    .configureOutput({ outputError: (text, write) => write(oneSentence(text, help)) })
    .addHelpText('after', '\nA verb has help of its own: berth run --help\nExample: berth run --rm alpine echo hello');

  for (const [name, verb] of Object.entries(verbs)) {
    program.command(name).summary(verb.summary).description(`${verb.summary}.`);
  }
  program.hook('preSubcommand', async (_, command) => {
    const verb = verbs[command.name()];
    if (!verb) return;
    help = `berth ${command.name()} --help`;
    onVerb(verb);
    await complete(command, verb, () => program.opts<{ host: string }>().host);
  });
  return program;
}

/** Gives the command its options and its action. */
async function complete(command: Command, verb: Verb, host: () => string): Promise<void> {
  const [module, { Daemon, socketOf }] = await Promise.all([verb.load(), import('./client.js')]);
  let daemon: Daemon | undefined;
  module.define(command, () => (daemon ??= new Daemon(socketOf(host()))));
}

/** `berth help run` is `berth run --help`, and `berth help` is `berth --help`. */
export function withoutHelpVerb(args: readonly string[]): string[] {
  const [first, ...rest] = args;
  return first === 'help' ? [...rest.slice(0, 1), '--help'] : [...args];
}
