import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import { attachToContainer } from '../container/attach';
import type { Container, Containers } from '../container/containers';
import { execInContainer } from '../container/exec';
import { tell, tellExec } from '../container/tell';
import type { AttachRequest, ExecRequest, RuntimeServiceServer } from '../cri';
import { assertReady, dialPod } from '../sandbox/dial';
import type { Sandboxes } from '../sandbox/sandboxes';
import type { CommandTarget } from '../streaming/backend';
import type { StreamingServer } from '../streaming/server';
import { getContainer, getSandbox } from './find';
import { unary } from './handler';

interface Parts {
  log: Logger;
  sandboxes: Sandboxes;
  containers: Containers;
  streaming: StreamingServer;
}

/** Exec, Attach, PortForward: each answers with a URL that stands for the request. */
export function streamingRpcs({ log, sandboxes, containers, streaming }: Parts) {
  return {
    exec: unary(log, 'Exec', request => {
      assertStreams(request);
      if (request.cmd.length === 0) throw new BerthError('invalid_argument', 'Exec needs a command');
      const container = getContainer(containers, request.containerId);
      assertRunning(container);
      return { url: streaming.command('exec', execTarget(containers, container, request)) };
    }),
    attach: unary(log, 'Attach', request => {
      assertStreams(request);
      const container = getContainer(containers, request.containerId);
      assertRunning(container);
      return { url: streaming.command('attach', attachTarget(containers, container, request)) };
    }),
    portForward: unary(log, 'PortForward', ({ podSandboxId, port }) => {
      const sandbox = getSandbox(sandboxes, podSandboxId);
      assertReady(sandbox.record);
      return { url: streaming.forward({ ports: port, connect: number => dialPod(sandboxes, sandbox, number) }) };
    }),
  } satisfies Partial<RuntimeServiceServer>;
}

function assertStreams({ stdin, stdout, stderr, tty }: ExecRequest | AttachRequest): void {
  if (tty && stderr) {
    throw new BerthError('invalid_argument', 'tty and stderr exclude each other: a terminal has one output', {
      hint: 'ask for stdout',
    });
  }
  if (!stdin && !stdout && !stderr) {
    throw new BerthError('invalid_argument', 'none of stdin, stdout and stderr is asked for');
  }
}

function assertRunning({ record }: Container): void {
  if (record.state === 'running') return;
  throw new BerthError('failed_precondition', `container ${record.id} is ${record.state}: it has to run for this`);
}

function execTarget(containers: Containers, container: Container, request: ExecRequest): CommandTarget {
  const { stdin, stdout, stderr, tty, cmd } = request;
  return {
    ...{ stdin, stdout, stderr, tty },
    open: async (sink, signal) => {
      const exec = await execInContainer(containers, container, {
        command: cmd,
        stdin,
        ...(tty ? { terminal: { columns: 0, rows: 0 } } : {}),
        onOutput: sink,
        signal,
      });
      tellExec(containers, container, exec);
      return { ...exec, ended: exec.exited.then(({ exitCode }) => exitCode) };
    },
  };
}

function attachTarget(containers: Containers, container: Container, request: AttachRequest): CommandTarget {
  const { stdin, stdout, stderr, tty } = request;
  return {
    ...{ stdin, stdout, stderr, tty },
    open: async (sink, signal) => {
      const streams = { stdin, stdout, stderr };
      const attached = await attachToContainer(containers, container, { ...streams, onOutput: sink, signal });
      tell(containers, container, 'attach');
      return { ...attached, ended: attached.ended.then(() => undefined) };
    },
  };
}
