import { open } from 'node:fs/promises';
import { BerthError, messageOf } from '../../base/errors';
import { runVerify } from '../../native/verify-process';

/** One object of a layer that is not what it was when the layer was unpacked. */
export interface Finding {
  /** In one word: missing, foreign, type, size, mode, owner, mtime, device, links, link, xattrs, content, unreadable. */
  readonly word: string;
  /** Below the layer's directory; bytes that are no UTF-8 are replaced. */
  readonly path: string;
}

export interface LayerState {
  /** Objects that were looked at. */
  readonly checked: number;
  /** How many of them differ, and objects that do not belong there. */
  readonly damaged: number;
  /** The first of them. */
  readonly findings: readonly Finding[];
  /** The manifest itself is cut off or changed: what the layer should be is not known. */
  readonly manifestDamaged: boolean;
  readonly bytesRead: number;
}

/** A layer that is as it was unpacked. */
export function isSound(state: LayerState): boolean {
  return state.damaged === 0 && !state.manifestDamaged;
}

/**
 * Compares the layer in `dir` with its manifest (a path, or a descriptor that stays the caller's) and reads all of it,
 * in a process of its own. A manifest that is not there counts as damaged; a disk that cannot be read is a finding.
 */
export async function verifyLayer(dir: string, manifest: string | number, signal?: AbortSignal): Promise<LayerState> {
  if (typeof manifest === 'number') return stateIn(await lines(dir, manifest, signal));
  const file = await open(manifest).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return { checked: 0, damaged: 0, findings: [], manifestDamaged: true, bytesRead: 0 };
  try {
    return stateIn(await lines(dir, file.fd, signal));
  } finally {
    await file.close();
  }
}

async function lines(dir: string, manifest: number, signal: AbortSignal | undefined): Promise<string[]> {
  try {
    return await runVerify(dir, manifest, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw new BerthError('internal', `verify layer ${dir}: ${messageOf(error)}`, { cause: error });
  }
}

function stateIn(output: readonly string[]): LayerState {
  const numbers = new Map<string, number>();
  const findings: Finding[] = [];
  let manifestDamaged = false;
  for (const line of output) {
    const [key = '', first = '', second = ''] = line.split(' ');
    if (key === 'damage') findings.push({ word: first, path: unescapePath(second) });
    else if (key === 'manifest') manifestDamaged = true;
    else numbers.set(key, Number(first));
  }
  const number = (key: string) => numbers.get(key) ?? 0;
  return {
    checked: number('checked'),
    damaged: number('damaged'),
    findings,
    manifestDamaged,
    bytesRead: number('bytes'),
  };
}

function unescapePath(path: string): string {
  const bytes = path.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
