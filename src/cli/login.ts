import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { Writable } from 'node:stream';
import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { RegistryService } from '../cri/generated/berth/v1/registry';
import type { Daemon } from './client';
import { print } from './output';

interface Options {
  username?: string;
  password?: string;
  passwordStdin: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [SERVER]')
    .argument('[server]', 'a registry; without one, Docker Hub', '')
    .option('-u, --username <name>', 'who to log in as; asked for without it')
    .option('-p, --password <password>', 'better not: others see it in the list of processes')
    .option('--password-stdin', 'take the password from stdin', false)
    .addHelpText('after', '\nExample: berth login -u me --password-stdin registry.example:5000 < password')
    .action(async (server: string, options: Options) => {
      const { username, password } = await loginOf(options);
      const { keptIn } = await daemon().ask(RegistryService.login, { server, username, password });
      await print(`Login Succeeded\nIt is kept in ${keptIn}\n`);
    });
}

async function loginOf({
  username,
  password,
  passwordStdin,
}: Options): Promise<{ username: string; password: string }> {
  if (passwordStdin && password !== undefined)
    throw new BerthError('invalid_argument', '--password and --password-stdin exclude each other');
  if (passwordStdin) {
    if (username === undefined) throw new BerthError('invalid_argument', '--password-stdin needs --username');
    return { username, password: (await text(process.stdin)).replace(/\r?\n$/, '') };
  }
  if ((username === undefined || password === undefined) && !process.stdin.isTTY)
    throw new BerthError('invalid_argument', 'stdin is no terminal to ask for the login on', {
      hint: 'give --username and --password-stdin',
    });
  const name = username ?? (await ask('Username: ', true));
  return { username: name, password: password ?? (await ask('Password: ', false)) };
}

/** Asks on the terminal; `isShown` false leaves what is typed unseen. */
async function ask(question: string, isShown: boolean): Promise<string> {
  const output = isShown ? process.stderr : new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  if (!isShown) process.stderr.write(question);
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('SIGINT', () => reject(new BerthError('cancelled', 'the login was broken off')));
      lines.once('close', () => reject(new BerthError('cancelled', 'the login was broken off')));
      lines.question(isShown ? question : '', resolve);
    });
  } finally {
    lines.close();
    if (!isShown) process.stderr.write('\n');
  }
}
