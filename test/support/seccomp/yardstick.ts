import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SeccompSpec } from '../../../src/oci/spec';
import { repoRoot } from '../repo';
import { actionNumber } from './naive';

const OPS = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'];

/** libseccomp, fed as runc feeds it. */
export class Yardstick {
  private readonly dir = mkdtempSync(join(tmpdir(), 'berth-yardstick-'));
  private readonly binary = join(this.dir, 'yardstick');

  constructor() {
    const source = join(repoRoot, 'test/support/seccomp/yardstick.c');
    execFileSync('gcc', ['-Wall', '-Wextra', '-Werror', '-o', this.binary, source, '-lseccomp']);
  }

  /** The program, or undefined when libseccomp refuses the rules. */
  compile(spec: SeccompSpec): Buffer | undefined {
    const { status, stdout, stderr } = spawnSync(this.binary, { input: this.input(spec) });
    if (status === 0) return stdout;
    if (status === 2) return undefined;
    throw new Error(`yardstick: ${String(stderr)}`);
  }

  remove(): void {
    rmSync(this.dir, { recursive: true });
  }

  private input(spec: SeccompSpec): string {
    const fallback = actionNumber(spec.defaultAction, spec.defaultErrnoRet);
    const lines = [`default ${fallback}`];
    for (const arch of spec.architectures) lines.push(`arch ${arch.replace('SCMP_ARCH_', '').toLowerCase()}`);
    for (const { names, action, errnoRet, args = [] } of spec.syscalls) {
      const value = actionNumber(action, errnoRet);
      if (value === fallback) continue;
      const isRepeated = new Set(args.map(({ index }) => index)).size < args.length;
      const words = args.map(
        ({ index, op, value: a, valueTwo: b = 0n }) =>
          `${index} ${OPS.indexOf(op.replace('SCMP_CMP_', '')) + 1} ${a} ${b}`,
      );
      for (const name of names) {
        for (const line of isRepeated ? words : [words.join(' ')]) lines.push(`rule ${value} ${name} ${line}`.trim());
      }
    }
    return `${lines.join('\n')}\n`;
  }
}
