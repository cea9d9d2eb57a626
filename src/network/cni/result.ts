import { isIP } from 'node:net';
import { z } from 'zod';

/** What a plugin answered to ADD, as it came: it is handed on whole. */
export type CniResult = Readonly<Record<string, unknown>>;

const ip = z.looseObject({ address: z.string(), interface: z.number().int().optional() });
const shape = z.looseObject({
  ips: z.array(ip).optional(),
  interfaces: z.array(z.looseObject({ name: z.string(), sandbox: z.string().optional() })).optional(),
  // Versions 0.1.0 and 0.2.0.
  ip4: z.looseObject({ ip: z.string() }).optional(),
  ip6: z.looseObject({ ip: z.string() }).optional(),
});

/** The answer as an object, or undefined when it is none. */
export function parseResult(text: string): CniResult | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? { ...parsed } : undefined;
  } catch {
    return undefined;
  }
}

/** The addresses of the pod's interface `ifname`, without prefix lengths, in the order of the result; no duplicates. */
export function addressesIn(result: CniResult, ifname: string): string[] {
  const parsed = shape.safeParse(result);
  if (!parsed.success) return [];
  const { ips = [], interfaces = [], ip4, ip6 } = parsed.data;
  const isPods = (index: number | undefined) => {
    const of = index === undefined ? undefined : interfaces[index];
    return of === undefined || (of.name === ifname && of.sandbox !== undefined && of.sandbox !== '');
  };
  const found = [
    ...ips.filter(one => isPods(one.interface)).map(one => one.address),
    ...[ip4, ip6].flatMap(one => (one ? [one.ip] : [])),
  ].map(address => address.replace(/\/\d+$/, ''));
  return [...new Set(found.filter(address => isIP(address) !== 0))];
}
