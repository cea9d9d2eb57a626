import { constants } from 'node:os';
import { z } from 'zod';
import { BerthError } from '../../base/errors';
import type { SeccompArgument, SeccompSpec, SeccompSyscall } from '../spec';

/**
 * A seccomp profile as files have it: the OCI form, and Docker's with `archMap`,
 * `includes` and `excludes`. Already checked; `resolveProfile` makes the OCI form of it.
 */
export interface Profile {
  defaultAction: string;
  defaultErrnoRet: number | undefined;
  architectures: string[];
  archMap: { architecture: string; subArchitectures: string[] }[];
  /** Absent: nothing is said of them. */
  flags: string[] | undefined;
  syscalls: ProfileRule[];
}

export interface ProfileRule {
  names: string[];
  action: string;
  errnoRet?: number | undefined;
  args?: SeccompArgument[] | undefined;
  includes?: Conditions | undefined;
  excludes?: Conditions | undefined;
}

interface Conditions {
  caps?: string[] | undefined;
  arches?: string[] | undefined;
  minKernel?: string | undefined;
}

/** What a profile's conditions are about. */
export interface ProfileFacts {
  /** The bounding set, without `CAP_`. */
  capabilities: readonly string[];
  arch: 'x64' | 'arm64';
  /** `6.8.0-…`, as uname(2) has it. */
  kernelRelease: string;
}

const NATIVE = { x64: 'SCMP_ARCH_X86_64', arm64: 'SCMP_ARCH_AARCH64' } as const;
/** As profiles call a node's architecture in `includes`. */
const CONDITION_NAME = { x64: 'amd64', arm64: 'arm64' } as const;

/** Profile text → profile. `where` names the file in errors, which are `invalid_argument` with line or field. */
export function parseProfile(text: string, where: string): Profile {
  const json = withExactIntegers(text, where);
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new BerthError(
    'invalid_argument',
    `seccomp profile ${where}: ${fieldName(issue?.path ?? [])}: ${issue?.message ?? 'is malformed'}`,
  );
}

/** Conditions met or not, sub-architectures named: what is left is the OCI form. */
export function resolveProfile(profile: Profile, facts: ProfileFacts): SeccompSpec {
  const native = NATIVE[facts.arch];
  const mapped = profile.archMap.find(({ architecture }) => architecture === native);
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: [...new Set([native, ...profile.architectures, ...(mapped?.subArchitectures ?? [])])],
    flags: profile.flags ?? ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'],
    syscalls: profile.syscalls.filter(rule => applies(rule, facts)).map(ociRule),
  };
}

function ociRule({ names, action, errnoRet, args }: ProfileRule): SeccompSyscall {
  return {
    names,
    action,
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(args && args.length > 0 ? { args } : {}),
  };
}

/** All that is included must hold, and nothing that is excluded. */
function applies({ includes = {}, excludes = {} }: ProfileRule, facts: ProfileFacts): boolean {
  const has = (name: string) => facts.capabilities.includes(name.toUpperCase().replace(/^CAP_/, ''));
  const isArch = (name: string) => name === CONDITION_NAME[facts.arch];
  return (
    (includes.caps ?? []).every(has) &&
    (includes.arches === undefined || includes.arches.length === 0 || includes.arches.some(isArch)) &&
    (includes.minKernel === undefined || isKernelAtLeast(includes.minKernel, facts.kernelRelease)) &&
    !(excludes.caps ?? []).some(has) &&
    !(excludes.arches ?? []).some(isArch) &&
    !(excludes.minKernel !== undefined && isKernelAtLeast(excludes.minKernel, facts.kernelRelease))
  );
}

function isKernelAtLeast(wanted: string, release: string): boolean {
  const [major = 0, minor = 0] = wanted.split('.').map(Number);
  const [ownMajor = 0, ownMinor = 0] = release.split(/[.-]/).map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

/* ---- the form of the file ---- */

/** Integers come as text: a 64-bit mask does not fit a JavaScript number. */
const unsigned = (bits: 32 | 64) =>
  z
    .string({ error: 'must be a whole number' })
    .regex(/^\d{1,20}$/, { error: 'must be a whole number, not negative' })
    .transform(BigInt)
    .refine(value => value < 2n ** BigInt(bits), { error: `does not fit ${bits} bits` });

const texts = z.array(z.string({ error: 'must be text' }), { error: 'must be a list of text' });

/** Lists and texts that are not there may be null, as Go writes them. */
function optional<T extends z.ZodType>(type: T) {
  return z.nullish(type).transform(value => value ?? undefined);
}

/** An errno: its number, at most 4095, or its name. */
const errnoNumber = unsigned(32)
  .transform(Number)
  .refine(value => value <= 4095, { error: 'is no errno' });
const errnoName = z
  .string()
  .refine(name => name === '' || name in constants.errno, { error: 'is no errno' })
  .transform(name => (name === '' ? undefined : constants.errno[name as keyof typeof constants.errno]));

const conditions = z.object({
  caps: optional(texts),
  arches: optional(texts),
  minKernel: optional(z.string().regex(/^\d+\.\d+$/, { error: 'must be major.minor' })),
});

const argument = z.object({
  index: unsigned(32)
    .transform(Number)
    .refine(index => index < 6, { error: 'is not one of a system call’s arguments, 0 to 5' }),
  value: unsigned(64),
  valueTwo: unsigned(64).optional(),
  op: z.string({ error: 'must be a comparison, such as SCMP_CMP_EQ' }),
});

const rule = z
  .object({
    name: optional(z.string()),
    names: optional(texts),
    action: z.string({ error: 'must be an action, such as SCMP_ACT_ALLOW' }),
    errnoRet: optional(errnoNumber),
    errno: optional(errnoName),
    args: optional(z.array(argument)),
    includes: optional(conditions),
    excludes: optional(conditions),
  })
  .refine(({ name, names }) => !name || !names || names.length === 0, { error: 'has both "name" and "names"' })
  .transform(({ name, names, errno, ...more }): ProfileRule => ({
    ...more,
    names: name ? [name] : (names ?? []),
    errnoRet: more.errnoRet ?? errno,
  }));

const schema = z
  .object(
    {
      defaultAction: z.string({ error: 'must be an action, such as SCMP_ACT_ERRNO' }),
      defaultErrnoRet: optional(errnoNumber),
      defaultErrno: optional(errnoName),
      architectures: optional(texts),
      archMap: optional(
        z.array(
          z.object({ architecture: z.string(), subArchitectures: optional(texts) }).transform(entry => ({
            architecture: entry.architecture,
            subArchitectures: entry.subArchitectures ?? [],
          })),
        ),
      ),
      flags: optional(texts),
      listenerPath: optional(z.string()),
      syscalls: optional(z.array(rule)),
    },
    { error: 'must be an object' },
  )
  .refine(({ architectures, archMap }) => !architectures?.length || !archMap?.length, {
    error: 'has both "architectures" and "archMap"',
  })
  .refine(({ listenerPath }) => !listenerPath, {
    path: ['listenerPath'],
    error: 'asks for an agent that answers for system calls, which berth has not',
  })
  .transform((parsed): Profile => ({
    defaultAction: parsed.defaultAction,
    defaultErrnoRet: parsed.defaultErrnoRet ?? parsed.defaultErrno,
    architectures: parsed.architectures ?? [],
    archMap: parsed.archMap ?? [],
    flags: parsed.flags,
    syscalls: parsed.syscalls ?? [],
  }));

/** JSON with each integer as the text of its digits; `invalid_argument` with the line of the first mistake. */
function withExactIntegers(text: string, where: string): unknown {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new BerthError('invalid_argument', `seccomp profile ${where}: ${lineOf(text, error)}no JSON`, {
      cause: error,
    });
  }
  return JSON.parse(
    text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, token => (token.startsWith('"') ? token : `"${token}"`)),
  );
}

/** V8 says where it stopped, in characters; at the end of the text it does not. */
function lineOf(text: string, error: unknown): string {
  const message = error instanceof Error ? error.message : '';
  const position = /position (\d+)/.exec(message)?.[1];
  const upTo = position === undefined ? text : text.slice(0, Number(position));
  return `line ${upTo.split('\n').length}: `;
}

function fieldName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the profile';
  return path.reduce<string>((name, part) => {
    if (typeof part === 'number') return `${name}[${part}]`;
    return name === '' ? String(part) : `${name}.${String(part)}`;
  }, '');
}
