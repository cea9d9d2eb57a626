import { runProgram } from '../native/run-program';

/** Of systemd, for a Type=notify unit; Node has no datagram sockets for paths. */
const NOTIFY = '/usr/bin/systemd-notify';

const WITHIN_MS = 10_000;

/** Tells systemd, when it started this process and waits for that, that the daemon is ready. Throws when it cannot be told. */
export async function tellReady(): Promise<void> {
  const socket = process.env['NOTIFY_SOCKET'];
  if (socket === undefined) return;
  const { status, stderr } = await runProgram(NOTIFY, ['--ready'], {
    input: '',
    env: { NOTIFY_SOCKET: socket },
    timeoutMs: WITHIN_MS,
    outputBytesMax: 4096,
  });
  if (status !== 0) throw new Error(`${NOTIFY} --ready: status ${status ?? 'none'}: ${stderr.trim()}`);
}
