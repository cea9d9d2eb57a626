import { cpus, release } from 'node:os';

/** Milliseconds of one thing that was done many times. */
export type Samples = number[];

/** Runs of every candidate in turn, each round beginning with another, so that what disturbs the machine disturbs all alike. */
export async function alternate<Candidate>(
  candidates: readonly Candidate[],
  rounds: { warmUp: number; measured: number },
  run: (candidate: Candidate, isMeasured: boolean) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds.warmUp + rounds.measured; round++) {
    for (let i = 0; i < candidates.length; i++) {
      const candidate = candidates[(round + i) % candidates.length];
      if (candidate !== undefined) await run(candidate, round >= rounds.warmUp);
    }
  }
}

/** By name, in the order of first use. */
export class Timings {
  private readonly byName = new Map<string, Samples>();

  constructor(public isMeasuring = true) {}

  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    const result = await work();
    this.add(name, performance.now() - begin);
    return result;
  }

  add(name: string, ms: number): void {
    if (!this.isMeasuring) return;
    const samples = this.byName.get(name) ?? [];
    samples.push(ms);
    this.byName.set(name, samples);
  }

  names(): string[] {
    return [...this.byName.keys()];
  }

  of(name: string): Samples {
    return this.byName.get(name) ?? [];
  }
}

/** The smallest sample that `share` of all do not exceed; NaN of none. */
export function quantile(samples: Samples, share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

export function median(samples: Samples): number {
  return quantile(samples, 0.5);
}

export function ms(value: number): string {
  return value.toFixed(value < 10 ? 2 : 1);
}

/** A Markdown table; numbers stand on the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(3, title.length, ...rows.map(row => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `|${widths.map((width, i) => (i === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

/** What the numbers depend on. */
export function machine(): string {
  const model = cpus()[0]?.model ?? 'unknown';
  return `${cpus().length} × ${model}, Linux ${release()}, Node ${process.version}`;
}
