import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { onInterrupt } from './on-interrupt';

const knownHostsBytesMax = 4 * 1024 * 1024;

/** Agents of ssh that a build may use: those that run, and for keys some that end with this. */
export class SshAgents implements Disposable {
  private readonly own: KeyAgent[] = [];
  private readonly found = new Map<string, string>();

  /** `asked` has for each id one socket, or the files of keys. Throws for what is neither. */
  static async open(asked: ReadonlyMap<string, readonly string[]>): Promise<SshAgents> {
    const agents = new SshAgents();
    try {
      for (const [id, paths] of asked) await agents.add(id, paths);
      return agents;
    } catch (error) {
      agents[Symbol.dispose]();
      throw error;
    }
  }

  /** By id. */
  get sockets(): Record<string, string> {
    return Object.fromEntries(this.found);
  }

  [Symbol.dispose](): void {
    for (const agent of this.own) agent[Symbol.dispose]();
  }

  private async add(id: string, paths: readonly string[]): Promise<void> {
    const kinds = paths.map(path => kindOf(path, id));
    const [first = ''] = paths;
    if (kinds.length === 1 && kinds[0] === 'socket') return void this.found.set(id, first);
    if (kinds.includes('socket'))
      throw new BerthError('invalid_argument', `--ssh ${id}=${paths.join(',')}: an agent's socket comes alone`);
    const agent = await KeyAgent.start();
    this.own.push(agent);
    for (const path of paths) await agent.add(path);
    this.found.set(id, agent.socket);
  }
}

/** The keys of the hosts that whoever asks knows, as ssh has them. */
export function knownHosts(): Buffer {
  const home = join(homedir(), '.ssh');
  const files = [join(home, 'known_hosts'), join(home, 'known_hosts2'), '/etc/ssh/ssh_known_hosts'];
  const all = Buffer.concat(files.flatMap(file => [readIfThere(file), Buffer.from('\n')]));
  if (all.length <= knownHostsBytesMax) return all;
  throw new BerthError('invalid_argument', `${files.join(', ')} are longer than 4 MiB`);
}

function readIfThere(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    if (isAbsent(error)) return Buffer.alloc(0);
    throw new BerthError('failed_precondition', `read ${file}: ${errnoOf(error) ?? 'it cannot be read'}`, {
      cause: error,
    });
  }
}

function kindOf(path: string, id: string): 'socket' | 'file' {
  let why: string;
  try {
    const stats = statSync(path);
    if (stats.isSocket()) return 'socket';
    if (stats.isFile()) return 'file';
    why = 'it is neither the socket of an agent nor the file of a key';
  } catch (error) {
    why = isAbsent(error) ? 'there is no such file' : (errnoOf(error) ?? 'it cannot be looked at');
  }
  throw new BerthError('invalid_argument', `--ssh ${id}=${path}: ${why}`);
}

/** An agent of our own. It ends with this process at the latest: it looks whether its command is there, which reads a pipe from here. */
class KeyAgent implements Disposable {
  readonly socket: string;
  private readonly release: () => void;
  private pid: number | undefined;

  private constructor(
    private readonly dir: string,
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
  ) {
    this.socket = join(dir, 'agent');
    this.release = onInterrupt(() => this.end());
  }

  static async start(): Promise<KeyAgent> {
    const dir = mkdtempSync(join(tmpdir(), 'berth-agent-'));
    const command = ['sh', '-c', 'echo "$SSH_AGENT_PID"; exec cat'];
    const child = spawn('ssh-agent', ['-a', join(dir, 'agent'), ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
    const agent = new KeyAgent(dir, child);
    try {
      await once(child, 'spawn');
      for await (const line of createInterface(child.stdout)) {
        agent.pid = Number(line);
        return agent;
      }
      throw new BerthError('failed_precondition', '--ssh: ssh-agent has not started');
    } catch (error) {
      agent[Symbol.dispose]();
      if (!isAbsent(error)) throw error;
      throw new BerthError('failed_precondition', '--ssh: ssh-agent is not installed here, and a key needs one', {
        cause: error,
      });
    }
  }

  /** A key with a passphrase is asked for at the terminal. */
  async add(key: string): Promise<void> {
    const env = { ...process.env, SSH_AUTH_SOCK: this.socket };
    const child = spawn('ssh-add', ['-q', '--', key], { stdio: ['ignore', 'ignore', 'inherit'], env });
    const [code] = (await once(child, 'exit').catch((error: unknown) => [messageOf(error)])) as unknown[];
    if (code !== 0)
      throw new BerthError('invalid_argument', `--ssh: the key ${key} cannot be used; ssh-add says above why`);
  }

  [Symbol.dispose](): void {
    this.release();
    this.end();
  }

  private end(): void {
    if (this.pid) killIfThere(this.pid);
    this.child.stdin.destroy();
    this.child.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}
