import { BerthError } from '../../base/errors';

/** What a unit's name may be made of (systemd.unit(5)); a dash says which slice it is in. */
const SLICE = /^[A-Za-z0-9:_.\\]+(?:-[A-Za-z0-9:_.\\]+)*\.slice$/;
const MAX_UNIT_NAME = 255;

/** The container's processes, in a cgroup of berth's own below the scope, which systemd leaves alone. */
const CONTAINER = 'container';
/** Beside it: what keeps the scope from ending with the container's last process. */
const HOLD = 'hold';

/**
 * A slice's cgroup: `a-b.slice` is in `a.slice`. Throws `invalid_argument` for what is no slice's name, and for the root.
 *
 * @param asked a slice's name, or its whole path
 */
export function slicePath(asked: string): string {
  const name = asked.slice(asked.lastIndexOf('/') + 1);
  const what = `cgroup_parent ${JSON.stringify(asked)}`;
  if (name === '-.slice') throw new BerthError('invalid_argument', `${what} is no cgroup of a pod`);
  if (!SLICE.test(name) || name.length > MAX_UNIT_NAME) {
    throw new BerthError(
      'invalid_argument',
      `${what} is no slice of systemd's, and berth makes cgroups through systemd`,
      {
        hint: 'set cgroupDriver: systemd in the kubelet’s configuration, or runtime.cgroup_driver = "cgroupfs" in berth’s',
      },
    );
  }
  const path = expanded(name);
  const wanted = asked.startsWith('/') ? asked : `/${asked}`;
  if (asked.includes('/') && wanted !== path) {
    throw new BerthError('invalid_argument', `${what}: the slice ${name} lies at ${path}`);
  }
  return path;
}

function expanded(name: string): string {
  const parts = name.slice(0, -'.slice'.length).split('-');
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join('-')}.slice`).join('');
}

/** Where the processes of a container of a pod are. */
export function containerPath(parent: string, id: string): string {
  return `${parent}/berth-${id}.scope/${CONTAINER}`;
}

/** The parts of a container's cgroup that was made through systemd; undefined for another one. */
export interface ScopeParts {
  /** The unit's name. */
  scope: string;
  slice: string;
  /** The cgroup that is systemd's. */
  path: string;
  hold: string;
}

export function scopeOf(path: string): ScopeParts | undefined {
  const [, above = '', scope = ''] = new RegExp(`^(.*)/([^/]+\\.scope)/${CONTAINER}$`).exec(path) ?? [];
  if (scope === '') return undefined;
  const own = `${above}/${scope}`;
  return { scope, slice: sliceOf(above) ?? '-.slice', path: own, hold: `${own}/${HOLD}` };
}

/** The unit of a cgroup that is a slice's. */
export function sliceOf(path: string): string | undefined {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return name.endsWith('.slice') ? name : undefined;
}

/** A unit's object: what is no letter or digit is written as `_` and its hexadecimal code. */
export function unitObject(unit: string): string {
  const escaped = unit.replace(/[^A-Za-z0-9]/g, char => `_${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return `/org/freedesktop/systemd1/unit/${escaped}`;
}
