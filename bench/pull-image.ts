import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tar, type TarEntry } from '../test/support/image-builder';

export type Compression = 'gzip' | 'zstd';

/** An image as files: `<dir>/<sha256 hex>` a blob, and what the manifest of each compression is called. */
export interface PullImage {
  readonly dir: string;
  readonly manifests: Readonly<Record<Compression, { digest: string; compressedBytes: number }>>;
  readonly entries: number;
  readonly bytes: number;
}

const layerCount = 11;
const entryCount = 28_000;
const targetBytes = 350e6;

/**
 * Makes an image like those of language runtimes: one large layer, some middling, some small; most files of a few
 * kilobytes and a few of megabytes; contents that gzip brings to about two fifths. The same at every run.
 */
export function makePullImage(dir: string): PullImage {
  mkdirSync(dir);
  const random = randomNumbers(20_261_124);
  const words = Array.from({ length: 4000 }, () => word(random));
  const noise = Buffer.from(Array.from({ length: 1 << 20 }, () => Math.floor(random() * 256)));
  const shares = [0.36, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.005].slice(0, layerCount);
  const layers = shares.map((share, i) => {
    const entries = layerEntries(`usr/lib/layer-${i}`, share, random, words, noise);
    return { entries: entries.length, plain: tar(entries) };
  });
  const diffIds = layers.map(({ plain }) => `sha256:${sha256(plain)}`);
  const config = keep(dir, Buffer.from(JSON.stringify(configDocument(diffIds))));
  const manifest = (compression: Compression) => {
    const blobs = layers.map(({ plain }) => keep(dir, compress(plain, compression)));
    const document = manifestDocument(compression, config, blobs);
    const { digest } = keep(dir, Buffer.from(JSON.stringify(document)));
    return { digest, compressedBytes: blobs.reduce((sum, blob) => sum + blob.size, 0) };
  };
  return {
    dir,
    manifests: { gzip: manifest('gzip'), zstd: manifest('zstd') },
    entries: layers.reduce((sum, layer) => sum + layer.entries, 0),
    bytes: layers.reduce((sum, { plain }) => sum + plain.length, 0),
  };
}

function layerEntries(root: string, share: number, random: () => number, words: string[], noise: Buffer): TarEntry[] {
  const count = Math.round(entryCount * share);
  const entries: TarEntry[] = root.split('/').map((_, i, parts) => directory(parts.slice(0, i + 1).join('/')));
  const files = Math.max(1, Math.round(count * 0.85));
  // Log-normal sizes, scaled to the layer's share of all bytes.
  const weights = Array.from({ length: files }, () => Math.exp(2.2 * normal(random)));
  const scale = (targetBytes * share) / weights.reduce((sum, weight) => sum + weight, 0);
  let current = root;
  for (const [i, weight] of weights.entries()) {
    if (i % 8 === 0) {
      current = `${root}/${words[Math.floor(random() * words.length)] ?? ''}-${i}`;
      entries.push(directory(current));
    }
    const path = `${current}/${words[Math.floor(random() * words.length)] ?? ''}-${i}.js`;
    entries.push({ path, data: contents(Math.round(weight * scale), random, words, noise), mode: 0o644 });
    if (i % 30 === 0)
      entries.push({ path: `${current}/link-${i}`, type: 'symlink', link: path.split('/').at(-1) ?? '' });
  }
  return entries;
}

function directory(path: string): TarEntry {
  return { path: `${path}/`, type: 'dir', mode: 0o755 };
}

/** Words, with stretches of noise between them. */
function contents(size: number, random: () => number, words: string[], noise: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size;) {
    if (random() < 0.004) {
      const from = Math.floor(random() * (noise.length - 300));
      at += noise.copy(bytes, at, from, Math.min(from + 300, from + size - at));
    } else at += bytes.write(`${words[Math.floor(random() ** 6 * words.length)] ?? ''} `, at, 'latin1');
  }
  return bytes;
}

function word(random: () => number): string {
  const letters = 'etaoinshrdlucmfwypvbgkjqxz(){}.;=_';
  const length = 2 + Math.floor(random() * 10);
  return Array.from({ length }, () => letters[Math.floor(random() ** 1.5 * letters.length)]).join('');
}

function compress(plain: Buffer, compression: Compression): Buffer {
  const [program, ...args] = compression === 'gzip' ? ['gzip', '-6', '-n', '-c'] : ['zstd', '-3', '-q', '-c'];
  return execFileSync(program ?? '', args, { input: plain, maxBuffer: 2 ** 31 });
}

function keep(dir: string, bytes: Buffer): { digest: string; size: number } {
  const hex = sha256(bytes);
  writeFileSync(join(dir, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}

function configDocument(diffIds: string[]): unknown {
  return { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: diffIds }, history: [] };
}

function manifestDocument(compression: Compression, config: object, layers: object[]): unknown {
  const type = 'application/vnd.oci.image';
  return {
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: { mediaType: `${type}.config.v1+json`, ...config },
    layers: layers.map(layer => ({ mediaType: `${type}.layer.v1.tar+${compression}`, ...layer })),
  };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Mulberry32: small, seeded, good enough for filler. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Box and Muller's. */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
