import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { release } from 'node:os';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import type { Logger } from '../base/log';
import type { LinuxContainerSecurityContext } from '../cri';
import { compileSeccomp, type SeccompFilter } from '../oci/seccomp/compile';
import { DEFAULT_PROFILE } from '../oci/seccomp/default-profile';
import { parseProfile, resolveProfile, type Profile, type ProfileFacts } from '../oci/seccomp/profile';
import { profileChoice, profileName, type ProfileChoice } from '../oci/security-profile';
import type { SeccompSpec } from '../oci/spec';

/** The filter of a container, kept in its record: every process that joins it gets the same. */
export interface ContainerSeccomp extends SeccompFilter {
  /** `runtime/default` or `localhost/<path>`. */
  profile: string;
}

/**
 * The seccomp filter that a container asks for; undefined: unconfined, as
 * privileged containers always are. A profile of the node is read now and not
 * looked at again. Throws `invalid_argument` and `failed_precondition`.
 */
export async function seccompOf(
  security: LinuxContainerSecurityContext | undefined,
  capabilities: readonly string[],
  log: Logger,
): Promise<{ spec: SeccompSpec; filter: ContainerSeccomp } | undefined> {
  const choice = profileChoice(security?.seccomp, security?.seccompProfilePath ?? '', 'seccomp');
  if (!choice || choice.type === 'unconfined' || security?.privileged) return undefined;
  const spec = await specOf(choice, facts(capabilities));
  const profile = profileName(choice);
  const { program, flags, unknownNames } = compileSeccomp(spec, profile);
  if (unknownNames.length > 0) {
    log.info('the seccomp profile names system calls that are not known here; rules for them have no effect', {
      profile,
      names: unknownNames.join(' '),
    });
  }
  return { spec, filter: { profile, program, flags } };
}

async function specOf(choice: ProfileChoice, of: ProfileFacts): Promise<SeccompSpec> {
  return choice.type === 'localhost' ? resolveProfile(await readProfile(choice.ref), of) : defaultSpec(of);
}

/** One a set of capabilities, so that a container with the usual ones costs nothing. */
const defaults = new Map<string, SeccompSpec>();
const DEFAULTS_MAX = 32;

function defaultSpec(of: ProfileFacts): SeccompSpec {
  const key = of.capabilities.join(' ');
  const known = defaults.get(key);
  if (known) return known;
  if (defaults.size >= DEFAULTS_MAX) defaults.clear();
  const spec = resolveProfile(DEFAULT_PROFILE, of);
  defaults.set(key, spec);
  return spec;
}

function facts(capabilities: readonly string[]): ProfileFacts {
  const { arch } = process;
  if (arch !== 'x64' && arch !== 'arm64') {
    throw new BerthError('unimplemented', `seccomp profiles on ${arch} are not in this version of berth`, {
      hint: 'ask for no confinement',
    });
  }
  return { capabilities, arch, kernelRelease: release() };
}

/** Docker's own has 12 kB. */
const PROFILE_MAX_BYTES = 1024 * 1024;

async function readProfile(path: string): Promise<Profile> {
  if (!path.startsWith('/')) {
    throw new BerthError('invalid_argument', `seccomp profile ${JSON.stringify(path)}: the path is not absolute`);
  }
  return parseProfile(await textOf(path), path);
}

async function textOf(path: string): Promise<string> {
  let file: FileHandle;
  try {
    // A FIFO must not hold the container up.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const why = isAbsent(error) ? 'there is no such file on this node' : `open: ${errnoOf(error) ?? 'failed'}`;
    throw unusable(path, why, error);
  }
  try {
    const { size } = await regularFile(file, path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size + 1), 0, size + 1, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

async function regularFile(file: FileHandle, path: string): Promise<{ size: number }> {
  const stat = await file.stat();
  if (!stat.isFile()) throw unusable(path, 'it is no regular file');
  if (stat.size > PROFILE_MAX_BYTES) {
    throw unusable(path, `it has ${stat.size} bytes, and ${PROFILE_MAX_BYTES} are the most`);
  }
  return stat;
}

function unusable(path: string, why: string, cause?: unknown): BerthError {
  return new BerthError('failed_precondition', `seccomp profile ${path}: ${why}`, {
    cause,
    hint: 'put the profile there on every node that the pod may run on',
  });
}
