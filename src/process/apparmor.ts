import { existsSync } from 'node:fs';
import { runProgram } from '../native/run-program';

/** By absolute path: a PATH is nothing to trust. */
const PARSERS = ['/usr/sbin/apparmor_parser', '/sbin/apparmor_parser'];
const WITHIN_MS = 10_000;

/** Loads a profile into the kernel, or replaces it; false when the host has no parser or the parser refuses it. */
export async function loadAppArmorProfile(text: string): Promise<boolean> {
  const parser = PARSERS.find(path => existsSync(path));
  if (parser === undefined) return false;
  const options = { input: text, env: {}, timeoutMs: WITHIN_MS, outputBytesMax: 64 * 1024 };
  const { status } = await runProgram(parser, ['--replace', '--skip-cache'], options);
  return status === 0;
}
