import {
  isRlimitName,
  parseRlimit,
  RLIMIT_NAMES,
  RLIMITS,
  rlimitText,
  type Rlimit,
  type RlimitName,
} from '../base/rlimits';
import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import type { Ulimit } from '../cri/generated/berth/v1/run';
import type { RlimitSpec } from '../oci/spec';
import type { RlimitCeilings } from '../process/rlimits';

/** Limits as the configuration has them. */
export type RlimitTexts = { readonly [Name in RlimitName]?: string | undefined };

/**
 * The limits of containers' processes: all that there are, always, so that none is what the daemon happens to have. By the
 * configuration, by the runtime handler of the pod, by what a person asks for; never more than the daemon itself may give.
 */
export class Rlimits {
  private readonly ofHandler: ReadonlyMap<string, ReadonlyMap<RlimitName, Rlimit>>;

  /** Says in the log once, here, which of the configured limits cannot be had. */
  constructor(
    defaults: RlimitTexts,
    handlers: Readonly<Record<string, { rlimits: RlimitTexts }>>,
    private readonly ceilings: RlimitCeilings,
    log: Logger,
  ) {
    const own = limitsOf(defaults);
    const others = Object.entries(handlers).map(([name, { rlimits }]) => [name, limitsOf(rlimits)] as const);
    for (const [where, limits] of [
      ['runtime', own] as const,
      ...others.map(([name, its]) => [`runtimes.${name}`, its] as const),
    ])
      this.warnOf(where, limits, log);
    this.ofHandler = new Map([
      ['', own] as const,
      ...others.map(([name, its]) => [name, new Map([...own, ...its])] as const),
    ]);
  }

  /** For a container of a pod with this runtime handler; a person's limits over it. Throws `invalid_argument`. */
  for(handler: string, ulimits: readonly Ulimit[]): RlimitSpec[] {
    const limits = new Map([
      ...(this.ofHandler.get(handler) ?? this.ofHandler.get('') ?? []),
      ...ulimits.map(askedLimit),
    ]);
    return [...limits].map(([name, limit]) => specOf(name, this.possible(name, limit)));
  }

  /** One sentence for each limit that a person asks for and gets less of. */
  shortfalls(ulimits: readonly Ulimit[]): string[] {
    return ulimits.map(askedLimit).flatMap(([name, limit]) => this.shortfall(name, limit) ?? []);
  }

  private warnOf(where: string, limits: ReadonlyMap<RlimitName, Rlimit>, log: Logger): void {
    for (const [name, limit] of limits) {
      const shortfall = this.shortfall(name, limit);
      if (shortfall !== undefined) log.warn(`${where}.rlimits: ${shortfall}`);
    }
  }

  private shortfall(name: RlimitName, limit: Rlimit): string | undefined {
    const possible = this.possible(name, limit);
    if (possible.hard === limit.hard) return undefined;
    return `${name} is ${rlimitText(possible)} instead of ${rlimitText(limit)}: the daemon's own hard limit, which it may not raise`;
  }

  private possible(name: RlimitName, { soft, hard }: Rlimit): Rlimit {
    const most = this.ceilings[name];
    return { soft: Math.min(soft, most), hard: Math.min(hard, most) };
  }
}

function limitsOf(texts: RlimitTexts): Map<RlimitName, Rlimit> {
  return new Map(
    RLIMIT_NAMES.flatMap(name => {
      const limit = parseRlimit(texts[name] ?? '');
      return limit ? [[name, limit] as const] : [];
    }),
  );
}

/** The kernel's number for none on the wire is -1. */
function askedLimit({ name, soft, hard }: Ulimit): readonly [RlimitName, Rlimit] {
  if (!isRlimitName(name)) {
    throw new BerthError('invalid_argument', `ulimit ${JSON.stringify(name)} is not known`, {
      hint: `there are ${RLIMIT_NAMES.join(', ')}`,
    });
  }
  const value = (limit: bigint) => (limit === -1n ? Infinity : Number(limit));
  const limit = { soft: value(soft), hard: value(hard) };
  if (limit.soft > limit.hard || limit.soft < 0 || limit.hard < 0) {
    throw new BerthError(
      'invalid_argument',
      `ulimit ${name}: the soft limit is above the hard one, or one is negative`,
    );
  }
  return [name, limit];
}

function specOf(name: RlimitName, { soft, hard }: Rlimit): RlimitSpec {
  const value = (limit: number) => (limit === Infinity ? -1 : limit);
  return { type: `RLIMIT_${name.toUpperCase()}`, resource: RLIMITS[name], soft: value(soft), hard: value(hard) };
}
