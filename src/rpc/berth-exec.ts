import type { Socket } from 'node:net';
import { BerthError } from '../base/errors';
import { execInContainer } from '../container/exec';
import { containerByName } from '../container/find';
import type { BerthServer, ExecRequest, ExecResponse, ExecStart } from '../cri/generated/berth/v1/berth';
import { parseUser } from '../oci/user';
import type { RunningExec } from '../process/exec';
import { signalOf } from './berth-containers';
import type { BerthParts } from './berth-service';
import { bidiStream, type Requests } from './handler';

const SIGKILL = 9;

/** So much stdin is taken before the command reads it; signals behind it still come through. */
const STDIN_BUFFER_BYTES = 1024 * 1024;

export function execRpc({ log, containers }: BerthParts) {
  return {
    exec: bidiStream<ExecRequest, ExecResponse>(log, 'Exec', async (requests, ctx, send) => {
      const start = await firstOf(requests);
      ctx.stage(`start ${JSON.stringify(start.command[0] ?? '')}`);
      const exec = await execInContainer(containers, containerByName(containers, start.container), {
        command: start.command,
        env: start.env,
        workingDir: start.workingDir,
        ...(start.user === '' ? {} : { user: userOf(start.user) }),
        stdin: start.stdin,
        ...(start.tty ? { terminal: start.size ?? { columns: 0, rows: 0 } } : {}),
        signal: ctx.signal,
        onOutput: (stream, chunk) => send(stream === 'stdout' ? { stdout: chunk } : { stderr: chunk }),
      });
      const kill = () => exec.kill(SIGKILL);
      ctx.signal.addEventListener('abort', kill, { once: true });
      try {
        if (ctx.signal.aborted) kill();
        ctx.stage(`run ${JSON.stringify(start.command[0] ?? '')}`);
        const { exitCode } = await Promise.race([exec.exited, failureOfInput(requests, exec)]);
        await send({ exitCode });
      } catch (error) {
        kill();
        throw error;
      } finally {
        ctx.signal.removeEventListener('abort', kill);
      }
    }),
  } satisfies Partial<BerthServer>;
}

async function firstOf(requests: Requests<ExecRequest>): Promise<ExecStart> {
  const { value } = await requests.next();
  const start = value?.start;
  if (!start) throw new BerthError('invalid_argument', 'the first message of an exec is its start');
  return start;
}

function userOf(text: string) {
  return { ...parseUser(text), supplementalGroups: [], mergeImageGroups: true };
}

/** Hands on what the client says. Settles only when that went wrong: the end of the input is not the end of the command. */
async function failureOfInput(requests: Requests<ExecRequest>, exec: RunningExec): Promise<never> {
  for (;;) {
    const { value: request, done } = await requests.next();
    if (done) break;
    if (request.start) throw new BerthError('invalid_argument', 'an exec is started once');
    if (request.signal !== undefined) exec.kill(signalOf(request.signal));
    if (request.resize) exec.resize(request.resize);
    if (request.stdin && exec.stdin) await write(exec.stdin, request.stdin);
    if (request.stdinClose) exec.stdin?.end();
  }
  exec.stdin?.end();
  return new Promise<never>(() => undefined);
}

async function write(stdin: Socket, data: Buffer): Promise<void> {
  if (stdin.destroyed || stdin.writableEnded) return;
  stdin.write(data);
  if (stdin.writableLength <= STDIN_BUFFER_BYTES) return;
  await new Promise<void>(resolve => {
    const done = () => {
      stdin.off('drain', done).off('close', done);
      resolve();
    };
    stdin.on('drain', done).on('close', done);
  });
}
