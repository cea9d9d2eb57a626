import { Command } from 'commander';
import type { Daemon } from './client';
import { oneSentence } from './errors';
import { ownVersion } from './own-version';
import { verbs, type Group, type Verb } from './verbs';

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

  addVerbs(program, verbs, async (command, verb) => {
    help = `berth ${pathOf(command)} --help`;
    onVerb(verb);
    await complete(command, verb, () => program.opts<{ host: string }>().host);
  });
  return program;
}

/** The verbs of the program or of a group of it; `onVerb` completes the one that is asked for. */
function addVerbs(
  parent: Command,
  those: Readonly<Record<string, Verb | Group>>,
  onVerb: (command: Command, verb: Verb) => Promise<void>,
): void {
  for (const [name, verb] of Object.entries(those)) {
    const isHidden = 'isHidden' in verb;
    const command = parent.command(name, { hidden: isHidden }).summary(verb.summary).description(`${verb.summary}.`);
    if ('verbs' in verb) {
      command.usage('VERB …').helpCommand(false).addHelpText('after', `\nExample: ${verb.example}`);
      addVerbs(command, verb.verbs, onVerb);
    }
  }
  parent.hook('preSubcommand', async (_, command) => {
    const verb = those[command.name()];
    if (verb && 'load' in verb) await onVerb(command, verb);
  });
}

/** `image ls` */
function pathOf(command: Command): string {
  const above = command.parent?.parent ? `${command.parent.name()} ` : '';
  return above + command.name();
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
  return first === 'help' ? [...rest.slice(0, 2), '--help'] : [...args];
}
