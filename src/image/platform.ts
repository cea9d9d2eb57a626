import { BerthError } from '../base/errors';

/** What an image runs on, in the words of the OCI image-spec (which are Go's). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** Of arm64 `v8` is what it is without one. */
  readonly variant?: string;
}

const architectures: Partial<Record<NodeJS.Architecture, Omit<Platform, 'os'>>> = {
  x64: { architecture: 'amd64' },
  arm64: { architecture: 'arm64' },
  arm: { architecture: 'arm', variant: 'v7' },
  ia32: { architecture: '386' },
};

/** This machine. */
export function nodePlatform(arch: NodeJS.Architecture = process.arch): Platform {
  return { os: 'linux', ...(architectures[arch] ?? { architecture: arch }) };
}

/** What people and kernels call architectures otherwise. */
const otherNames: Readonly<Record<string, string>> = {
  ...{ x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386', i686: '386', x86: '386' },
  ...{ armhf: 'arm/v7', armv7l: 'arm/v7', armel: 'arm/v6', armv6l: 'arm/v6' },
};

/** What an architecture is without a variant. */
const defaultVariants: Readonly<Record<string, number>> = { amd64: 1, arm64: 8, arm: 7 };

/** Reads `linux/arm64`, `linux/arm/v7`, or an architecture alone; `invalid_argument` for what is none. */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/');
  const [os = '', named = '', ...rest] = parts.length === 1 ? ['linux', ...parts] : parts;
  const [architecture = '', implied] = (otherNames[named] ?? named).split('/');
  const [variant = implied] = rest.map(each => each.replace(/^(?=\d)/, 'v'));
  const words = [os, architecture, ...(variant === undefined ? [] : [variant])];
  if (rest.length > 1 || !words.every(word => /^[a-z0-9][a-z0-9_.-]*$/.test(word)))
    throw new BerthError('invalid_argument', `${JSON.stringify(text)} is not a platform`, {
      hint: 'platforms look like linux/arm64 or linux/arm/v7',
    });
  if (architecture === 'arm') return { os, architecture, variant: variant ?? 'v7' };
  const isDefault = variant === undefined || numberOf(variant) === defaultVariants[architecture];
  return { os, architecture, ...(isDefault ? {} : { variant }) };
}

export function describePlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');
}

/** Whether an image for `platform` is one for `wanted`, too. */
export function fits(platform: Platform, wanted: Platform): boolean {
  return rankFor(platform, wanted) > 0;
}

/**
 * The candidates that fit `wanted`, best first: the same variant, then none, then the highest lower one (arm v6 runs on v7).
 */
export function rankedPlatforms<T>(
  candidates: readonly T[],
  platformOf: (candidate: T) => Platform,
  wanted: Platform,
): T[] {
  return candidates
    .map(candidate => ({ candidate, rank: rankFor(platformOf(candidate), wanted) }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => b.rank - a.rank)
    .map(({ candidate }) => candidate);
}

function rankFor(platform: Platform, wanted: Platform): number {
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return 0;
  if (platform.variant === wanted.variant) return 1000;
  if (platform.variant === undefined) return 999;
  const has = numberOf(platform.variant);
  const can = numberOf(wanted.variant) ?? defaultVariants[wanted.architecture] ?? 1;
  return has !== undefined && has <= can ? has + 1 : 0;
}

function numberOf(variant: string | undefined): number | undefined {
  const match = /^v(\d+)$/.exec(variant ?? '');
  return match?.[1] === undefined ? undefined : Number(match[1]);
}
