import { resolve } from 'node:path';
import { BerthError } from '../../base/errors';
import type { Mount } from '../../cri/generated/berth/v1/berth';

/** The value of `-v`: SOURCE:TARGET[:ro|rw]. A source that is a relative path counts from the current directory. */
export function parseMount(text: string): Mount {
  const [source = '', target = '', access = 'rw', ...rest] = text.split(':');
  if (source === '' || target === '' || rest.length > 0) throw wrong(text, 'it is not SOURCE:TARGET[:ro]');
  if (!source.includes('/') && source !== '.' && source !== '..') {
    throw wrong(text, `"${source}" would be a named volume, which berth has not`, `for a directory write ./${source}`);
  }
  if (!target.startsWith('/')) throw wrong(text, `the path in the container, "${target}", is not absolute`);
  if (access !== 'ro' && access !== 'rw') throw wrong(text, `"${access}" is neither ro nor rw`);
  return { source: resolve(source), target, readonly: access === 'ro' };
}

function wrong(text: string, why: string, hint?: string): BerthError {
  return new BerthError('invalid_argument', `-v ${text}: ${why}`, hint === undefined ? {} : { hint });
}
