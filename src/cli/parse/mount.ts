import { resolve } from 'node:path';
import { BerthError } from '../../base/errors';
import type { Mount } from '../../cri/generated/berth/v1/berth';
import type { Tmpfs } from '../../cri/generated/berth/v1/run';

const PROPAGATION = /^r?(private|slave|shared)$/;

/** The value of `-v`: SOURCE:TARGET[:OPTIONS]. A source that is a relative path counts from the current directory; a bare name is a volume. */
export function parseMount(text: string): Mount {
  const [source = '', target = '', options = '', ...rest] = text.split(':');
  if (source === '' || target === '' || rest.length > 0) throw wrong(text, 'it is not SOURCE:TARGET[:ro]');
  if (!target.startsWith('/')) throw wrong(text, `the path in the container, "${target}", is not absolute`);
  const mount = { ...sourceOf(source), target, readonly: false, propagation: '', relabel: false, noCopy: false };
  for (const option of options === '' ? [] : options.split(',')) {
    if (option === 'ro' || option === 'readonly') mount.readonly = true;
    else if (PROPAGATION.test(option)) mount.propagation = option;
    else if (option === 'z' || option === 'Z') mount.relabel = true;
    else if (option === 'nocopy' && mount.volume !== '') mount.noCopy = true;
    // Docker's words for how late a virtual machine may see a file: here it sees it at once.
    else if (!['rw', 'cached', 'delegated', 'consistent'].includes(option)) throw wrong(text, ...whyNot(option));
  }
  return mount;
}

/** The places of the mounts whose files are for all containers, by `:z`, and not for this one alone, by `:Z`. */
export function sharedLabels(texts: readonly string[]): string[] {
  return texts
    .map(text => text.split(':'))
    .filter(([, , options = '']) => options.split(',').includes('z'))
    .map(([, target = '']) => target);
}

function whyNot(option: string): [string, string] {
  if (option === 'nocopy') return ['"nocopy" is for volumes', 'only an empty volume takes what the image has'];
  return [`"${option}" is not known`, 'it is ro, rw or a propagation such as rslave'];
}

function sourceOf(source: string): Pick<Mount, 'source' | 'volume'> {
  const isPath = source.includes('/') || source === '.' || source === '..';
  return isPath ? { source: resolve(source), volume: '' } : { source: '', volume: source };
}

/** The value of `--mount`: `type=bind,source=…,target=…,readonly`, of type bind, volume or tmpfs. */
export function parseMountFlag(text: string): { mount: Mount } | { tmpfs: Tmpfs } {
  const fields = new Map(text.split(',').map(part => keyAndValue(part)));
  const take = (...names: string[]) => {
    const name = names.find(one => fields.has(one));
    const value = name === undefined ? undefined : fields.get(name);
    for (const one of names) fields.delete(one);
    return value;
  };
  const type = take('type') ?? 'volume';
  const target = take('target', 'destination', 'dst') ?? '';
  if (!target.startsWith('/')) throw wrongMount(text, 'it has no absolute target=');
  const source = take('source', 'src') ?? '';
  const readonly = isYes(text, 'readonly', take('readonly', 'ro'));
  if (type === 'tmpfs') return { tmpfs: tmpfsOf(text, target, take, fields, readonly) };
  const propagation = take('bind-propagation') ?? '';
  if (propagation !== '' && !PROPAGATION.test(propagation))
    throw wrongMount(text, `"${propagation}" is no propagation`);
  if (source === '') throw wrongMount(text, 'it has no source=', 'an anonymous volume comes with the image’s VOLUME');
  const noCopy = type === 'volume' && isYes(text, 'volume-nocopy', take('volume-nocopy'));
  refuseRest(text, fields);
  const mount = { target, readonly, propagation, relabel: false, noCopy };
  if (type === 'bind') return { mount: { ...mount, source: resolve(source), volume: '' } };
  if (type === 'volume') return { mount: { ...mount, source: '', volume: source } };
  throw wrongMount(text, `type "${type}" is not known`, 'it is bind, volume or tmpfs');
}

function tmpfsOf(
  text: string,
  target: string,
  take: (...names: string[]) => string | undefined,
  fields: ReadonlyMap<string, string>,
  readonly: boolean,
): Tmpfs {
  const [size, mode] = [take('tmpfs-size'), take('tmpfs-mode')];
  refuseRest(text, fields);
  const options = [
    ...(size === undefined ? [] : [`size=${size}`]),
    ...(mode === undefined ? [] : [`mode=${mode}`]),
    ...(readonly ? ['ro'] : []),
  ];
  return { target, options };
}

function refuseRest(text: string, fields: ReadonlyMap<string, string>): void {
  const [unknown] = fields.keys();
  if (unknown !== undefined) throw wrongMount(text, `"${unknown}" is not known`);
}

function keyAndValue(part: string): [string, string] {
  const equals = part.indexOf('=');
  return equals < 0 ? [part, 'true'] : [part.slice(0, equals), part.slice(equals + 1)];
}

function isYes(text: string, name: string, value: string | undefined): boolean {
  if (value === undefined || value === 'false' || value === '0') return false;
  if (value === 'true' || value === '1') return true;
  throw wrongMount(text, `${name} is true or false, not "${value}"`);
}

function wrong(text: string, why: string, hint?: string): BerthError {
  return new BerthError('invalid_argument', `-v ${text}: ${why}`, hint === undefined ? {} : { hint });
}

function wrongMount(
  text: string,
  why: string,
  hint = 'write type=bind,source=/path,target=/path,readonly',
): BerthError {
  return new BerthError('invalid_argument', `--mount ${text}: ${why}`, { hint });
}
