import { isIP } from 'node:net';
import { BerthError } from '../base/errors';

/** The kubelet's pod CIDR, or two of them for both families, with a comma between; empty for none. */
export function podCidrs(text: string): string[] {
  const cidrs = text
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '');
  for (const cidr of cidrs) {
    const [, address = '', bits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(cidr) ?? [];
    const family = isIP(address);
    if (family === 0 || Number(bits) > (family === 4 ? 32 : 128))
      throw new BerthError(
        'invalid_argument',
        `pod CIDR ${JSON.stringify(cidr)} is not an address with a prefix length`,
      );
  }
  return cidrs;
}
