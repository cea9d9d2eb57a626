import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';

/** An sshd on loopback that lets whoever runs this in with one key. */
export interface SshServer {
  /** `ssh://USER@127.0.0.1:PORT` */
  readonly url: string;
  /** The file of the key. */
  readonly key: string;
  /** The server's own key, as a line of a known_hosts. */
  readonly knownHost: string;
  stop(): Promise<void>;
}

/** Where sshd wants a directory, which a service manager would have made. */
const needed = '/run/sshd';

/** An sshd for each connection, which has it as its stdio; `dir` is new. */
export async function startSshServer(dir: string): Promise<SshServer> {
  mkdirSync(dir);
  const [hostKey, key, config] = ['host', 'user', 'config'].map(name => join(dir, name)) as [string, string, string];
  for (const path of [hostKey, key]) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
  copyFileSync(`${key}.pub`, join(dir, 'authorized'));
  const settings = {
    ...{ HostKey: hostKey, AuthorizedKeysFile: join(dir, 'authorized'), StrictModes: 'no', UsePAM: 'no' },
    ...{ PasswordAuthentication: 'no', PermitRootLogin: 'yes', PidFile: 'none', LogLevel: 'ERROR' },
  };
  writeFileSync(
    config,
    Object.entries(settings)
      .map(([name, value]) => `${name} ${value}\n`)
      .join(''),
  );
  const isMade = !existsSync(needed);
  mkdirSync(needed, { recursive: true, mode: 0o755 });
  const running = new Set<ChildProcess>();
  const server = createServer({ pauseOnConnect: true }, socket => {
    const child = spawn('/usr/sbin/sshd', ['-i', '-f', config], { stdio: [socket, socket, 'ignore'] });
    running.add(child);
    child.once('exit', () => {
      running.delete(child);
      socket.destroy();
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...{ url: `ssh://${userInfo().username}@127.0.0.1:${port}`, key },
    knownHost: `[127.0.0.1]:${port} ${readFileSync(`${hostKey}.pub`, 'utf8')}`,
    stop: async () => {
      server.close();
      for (const child of running) {
        const exited = once(child, 'exit');
        child.kill();
        await exited;
      }
      if (isMade) rmdirSync(needed);
    },
  };
}
