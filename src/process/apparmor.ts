import { existsSync } from 'node:fs';
import { messageOf } from '../base/errors';
import { runProgram } from '../native/run-program';

/** By absolute path: a PATH is nothing to trust. */
const PARSERS = ['/usr/sbin/apparmor_parser', '/sbin/apparmor_parser'];
const WITHIN_MS = 30_000;

/** Loads a profile into the kernel, or replaces it. Returns why not, as one clause; undefined when it is loaded. */
export async function loadAppArmorProfile(text: string): Promise<string | undefined> {
  const parser = PARSERS.find(path => existsSync(path));
  if (parser === undefined) return `this node has no apparmor_parser (looked for ${PARSERS.join(' and ')})`;
  const options = { input: text, env: {}, timeoutMs: WITHIN_MS, outputBytesMax: 64 * 1024 };
  try {
    const { status, stderr, timedOut } = await runProgram(parser, ['--replace', '--skip-cache'], options);
    if (status === 0) return undefined;
    const end = timedOut ? `has not ended within ${WITHIN_MS / 1000} s` : `refuses it with status ${status ?? 'none'}`;
    return `${parser} ${end}: ${complaint(stderr)}`;
  } catch (error) {
    return `${parser} cannot be started: ${messageOf(error)}`;
  }
}

/** Its first line that is about the profile, or the kernel: that it has no cache is none. */
function complaint(text: string): string {
  const lines = text.trim().split('\n');
  return lines.find(line => line !== '' && !line.startsWith('Cache ')) ?? 'it does not say why';
}
