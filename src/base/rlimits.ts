/** Limits of a process, getrlimit(2): names as people write them, with the kernel's numbers (asm-generic/resource.h). */
export const RLIMITS = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
} as const;

export type RlimitName = keyof typeof RLIMITS;

export const RLIMIT_NAMES = Object.keys(RLIMITS) as RlimitName[];

/** In the kernel's unit for the limit; Infinity is none. */
export interface Rlimit {
  readonly soft: number;
  readonly hard: number;
}

/** What a limit is written as, for messages. */
export const RLIMIT_FORM =
  '"soft:hard" or one number for both, each a whole number or "unlimited", soft not above hard';

/** `1024:4096`, `1024`, `unlimited`; -1 is unlimited, too. Undefined for what is none, and for a soft limit above its hard one. */
export function parseRlimit(text: string): Rlimit | undefined {
  const [, first, second = first] = /^(-1|\d{1,15}|unlimited)(?::(-1|\d{1,15}|unlimited))?$/.exec(text) ?? [];
  if (first === undefined || second === undefined) return undefined;
  const [soft, hard] = [valueOf(first), valueOf(second)];
  return soft > hard ? undefined : { soft, hard };
}

function valueOf(text: string): number {
  return text === '-1' || text === 'unlimited' ? Infinity : Number(text);
}

/** As {@link parseRlimit} reads it. */
export function rlimitText({ soft, hard }: Rlimit): string {
  const text = (value: number) => (value === Infinity ? 'unlimited' : String(value));
  return soft === hard ? text(soft) : `${text(soft)}:${text(hard)}`;
}

export function isRlimitName(name: string): name is RlimitName {
  return Object.hasOwn(RLIMITS, name);
}
