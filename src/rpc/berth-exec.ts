import { BerthError } from '../base/errors';
import { execInContainer } from '../container/exec';
import { containerByName } from '../container/find';
import { isPaused } from '../container/pause';
import { tellExec } from '../container/tell';
import type { BerthServer, ExecRequest, ExecResponse, ExecStart } from '../cri/generated/berth/v1/berth';
import { parseUser } from '../oci/user';
import { failureOfInput } from './berth-input';
import type { BerthParts } from './berth-service';
import { bidiStream, type Requests } from './handler';

const SIGKILL = 9;

export function execRpc({ log, containers }: BerthParts) {
  return {
    exec: bidiStream<ExecRequest, ExecResponse>(log, 'Exec', async (requests, ctx, send) => {
      const start = await firstOf(requests);
      ctx.stage(`start ${JSON.stringify(start.command[0] ?? '')}`);
      const container = containerByName(containers, start.container);
      if (isPaused(containers, container)) {
        throw new BerthError('failed_precondition', `container ${start.container} is paused`, {
          hint: `let it go on first: berth unpause ${start.container}`,
        });
      }
      const exec = await execInContainer(containers, container, {
        command: start.command,
        env: start.env,
        workingDir: start.workingDir,
        ...(start.user === '' ? {} : { user: userOf(start.user) }),
        stdin: start.stdin,
        ...(start.tty ? { terminal: start.size ?? { columns: 0, rows: 0 } } : {}),
        signal: ctx.signal,
        onOutput: (stream, chunk) => {
          const bytes = Buffer.from(chunk); // a call that is busy encodes it later
          return send(stream === 'stdout' ? { stdout: bytes } : { stderr: bytes });
        },
      });
      tellExec(containers, container, exec);
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
