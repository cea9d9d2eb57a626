import { BerthError } from '../../base/errors';
import type { CdiName } from './names';
import type { CdiEdits, CdiSpec } from './spec';

/** The specs of one directory, and what is wrong with those that could not be read. */
export interface CdiDirectory {
  specs: readonly CdiSpec[];
  problems: readonly string[];
}

/**
 * The edits of the named devices, in order, each spec's common ones before its first device's. Of directories the later
 * ones win, as /var/run/cdi, which is made anew at each boot, does over /etc/cdi; two specs in one directory with the same
 * device are an error. Throws `not_found` for a device that no spec has, with the problems of the specs, one of which may
 * have been the one.
 */
export function cdiEdits(directories: readonly CdiDirectory[], names: readonly CdiName[]): CdiEdits[] {
  const seen = new Set<CdiSpec>();
  return names.flatMap(name => {
    const { spec, edits } = find(directories, name);
    const isFirst = !seen.has(spec);
    seen.add(spec);
    return isFirst ? [spec.common, edits] : [edits];
  });
}

function find(directories: readonly CdiDirectory[], name: CdiName): { spec: CdiSpec; edits: CdiEdits } {
  for (const { specs } of directories.toReversed()) {
    const found = specs.flatMap(spec => {
      const edits = spec.kind === name.kind ? spec.devices.get(name.device) : undefined;
      return edits ? [{ spec, edits }] : [];
    });
    const [first, second] = found;
    if (first && second) {
      const files = `${first.spec.file} and ${second.spec.file}`;
      throw new BerthError('failed_precondition', `CDI device ${name.text}: it is in two specs, ${files}`, {
        hint: 'remove one of the two',
      });
    }
    if (first) return first;
  }
  throw notFound(directories, name);
}

function notFound(directories: readonly CdiDirectory[], name: CdiName): BerthError {
  const specs = directories.flatMap(dir => dir.specs);
  const ofKind = specs.filter(spec => spec.kind === name.kind).flatMap(spec => [...spec.devices.keys()]);
  const known = ofKind.length > 0 ? `; of ${name.kind} there are ${ofKind.join(', ')}` : '';
  const problems = directories.flatMap(dir => dir.problems).map(problem => `; ${problem}`);
  return new BerthError('not_found', `CDI device ${name.text}: no spec has it${known}${problems.join('')}`);
}
