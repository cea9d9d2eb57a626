import { spawn, execFileSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** The namespace of a process, or of a pin that another process's mount namespace holds. */
export type Place = { readonly pid: number } | { readonly path: string };

function entering(place: Place): string[] {
  return [`--net=${'pid' in place ? `/proc/${place.pid}/ns/net` : place.path}`];
}

/** Runs a program of the machine's in a network namespace; what it said. Throws when it fails, with its words. */
export function runIn(place: Place, ...command: string[]): string {
  return execFileSync('nsenter', [...entering(place), ...command], { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
}

/** A network namespace of its own with a loopback that is up, as the rest of the world. */
export class Elsewhere {
  private constructor(private readonly holder: ChildProcess) {}

  static async make(): Promise<Elsewhere> {
    const script = 'ip link set lo up && echo made && exec sleep 100000';
    const holder = spawn('unshare', ['--net', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    return new Elsewhere(holder);
  }

  get place(): { pid: number } {
    return { pid: this.holder.pid ?? 0 };
  }

  async destroy(): Promise<void> {
    const ended = once(this.holder, 'close');
    this.holder.kill('SIGKILL');
    await ended;
  }
}

const SERVER = `
const [kind, address, port, word] = process.argv.slice(1);
const answer = peer => word + ' ' + peer.replace(/^::ffff:/, '');
if (kind === 'udp') {
  const socket = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (_, { address, port }) => socket.send(answer(address), port, address));
  socket.bind(Number(port), address, () => console.log('listening'));
} else {
  require('node:net').createServer(socket => socket.on('error', () => {}).end(answer(socket.remoteAddress)))
    .listen({ host: address, port: Number(port) }, () => console.log('listening'));
}`;

const CLIENT = `
const [kind, address, port, source] = process.argv.slice(1);
const said = text => { console.log(text); process.exit(0); };
const failed = error => { console.log('FAILED ' + (error.code ?? error)); process.exit(0); };
setTimeout(() => failed('nobody answers'), Number(process.env.WITHIN_MS));
if (kind === 'udp') {
  const socket = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', bytes => said(String(bytes))).on('error', failed);
  const ask = () => socket.send('?', Number(port), address);
  socket.bind(Number(source ?? 0), () => { ask(); setInterval(ask, 200); });
} else {
  const socket = require('node:net').connect({ host: address, port: Number(port) });
  let text = '';
  socket.on('data', bytes => (text += bytes)).on('end', () => said(text)).on('error', failed);
}`;

/** Answers whoever connects, or sends a datagram, with a word and the address that it sees. */
export class Server {
  private constructor(private readonly child: ChildProcess) {}

  static async start(place: Place, kind: 'tcp' | 'udp', address: string, port: number, word: string): Promise<Server> {
    const args = [...entering(place), process.execPath, '-e', SERVER, kind, address, String(port), word];
    const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    return new Server(child);
  }

  async stop(): Promise<void> {
    const ended = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await ended;
  }
}

/** What a server answers to someone in this place; `FAILED …` when it does not, after `withinMs`. */
export async function ask(
  place: Place,
  kind: 'tcp' | 'udp',
  address: string,
  port: number,
  { withinMs = 20_000, source }: { withinMs?: number; source?: number } = {},
): Promise<string> {
  const target = [kind, address, String(port), ...(source === undefined ? [] : [String(source)])];
  const child = spawn('nsenter', [...entering(place), process.execPath, '-e', CLIENT, ...target], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, WITHIN_MS: String(withinMs) },
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  await once(child, 'close');
  return said.trim();
}
