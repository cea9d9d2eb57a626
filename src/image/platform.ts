/** What an image runs on, in the words of the OCI image-spec (which are Go's). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

const architectures: Partial<Record<NodeJS.Architecture, Omit<Platform, 'os'>>> = {
  x64: { architecture: 'amd64' },
  arm64: { architecture: 'arm64', variant: 'v8' },
  arm: { architecture: 'arm', variant: 'v7' },
  ia32: { architecture: '386' },
};

/** This machine. */
export function nodePlatform(arch: NodeJS.Architecture = process.arch): Platform {
  return { os: 'linux', ...(architectures[arch] ?? { architecture: arch }) };
}

export function describePlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');
}

/**
 * The candidates that fit `node`, best first: the same variant, then none, then the highest lower one (arm v6 runs on v7).
 */
export function rankedPlatforms<T>(
  candidates: readonly T[],
  platformOf: (candidate: T) => Platform,
  node: Platform,
): T[] {
  return candidates
    .map(candidate => ({ candidate, rank: rankFor(platformOf(candidate), node) }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => b.rank - a.rank)
    .map(({ candidate }) => candidate);
}

function rankFor(platform: Platform, node: Platform): number {
  if (platform.os !== node.os || platform.architecture !== node.architecture) return 0;
  if (platform.variant === node.variant) return 1000;
  if (platform.variant === undefined) return 999;
  const has = numberOf(platform.variant);
  const can = numberOf(node.variant) ?? 1; // amd64 without a variant is v1
  return has !== undefined && has <= can ? has + 1 : 0;
}

function numberOf(variant: string | undefined): number | undefined {
  const match = /^v(\d+)$/.exec(variant ?? '');
  return match?.[1] === undefined ? undefined : Number(match[1]);
}
