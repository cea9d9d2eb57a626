import { BerthError } from '../../base/errors';
import { humanSize } from '../format/size';
import type { ImageTree } from './image-tree';

/** What an image has to keep to. */
export interface Rules {
  /** From 0 to 1. */
  readonly lowestEfficiency?: number;
  readonly highestWastedBytes?: bigint;
}

/** The value of `--lowest-efficiency`. */
export function parseShare(flag: string, text: string): number {
  if (/^(0(\.\d+)?|1(\.0+)?)$/.test(text)) return Number(text);
  throw new BerthError('invalid_argument', `${flag} "${text}" is not a number from 0 to 1`, { hint: 'write 0.9' });
}

/** What the image does not keep to, a clause for each. */
export function brokenRules(
  { efficiency, wastedBytes }: ImageTree,
  { lowestEfficiency, highestWastedBytes }: Rules,
): string[] {
  const broken: string[] = [];
  if (lowestEfficiency !== undefined && efficiency < lowestEfficiency)
    broken.push(`its efficiency is ${efficiency.toFixed(4)}, below ${lowestEfficiency}`);
  if (highestWastedBytes !== undefined && wastedBytes > highestWastedBytes)
    broken.push(`${humanSize(wastedBytes)} are wasted, more than ${humanSize(highestWastedBytes)}`);
  return broken;
}
