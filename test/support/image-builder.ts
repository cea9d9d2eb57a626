import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

/** One entry of a layer's tar archive. Names and links are written as they are, however hostile. */
export interface TarEntry {
  path: string | Buffer;
  type?: keyof typeof typeFlags;
  data?: Buffer | string;
  link?: string | Buffer;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  major?: number;
  minor?: number;
  /** PAX records of this entry; values may be binary, keys in a list may come again. */
  pax?: Record<string, Buffer | string> | readonly (readonly [key: string, value: Buffer | string])[];
  /** How names and links are written that the header has no room for, and with 'pax!' and 'gnu!' those that it has, too. */
  names?: 'pax' | 'pax!' | 'gnu!';
  /** What the header says of the length of the contents, when that is not true. */
  size?: number;
  /** Laid over the header at these offsets; the checksum is right again. */
  raw?: Readonly<Record<number, Buffer | string>>;
}

export interface Blob {
  mediaType: string;
  digest: string;
  bytes: Buffer;
}

export interface BuiltImage {
  config: Blob;
  layers: Blob[];
  manifest: Blob;
  /** Digest of the config. */
  id: string;
}

export interface ImageSpec {
  /** From the base up; each is a list of entries, or ready-made bytes of a tar archive. */
  layers: (TarEntry[] | Buffer)[];
  format?: 'oci' | 'docker';
  compress?: boolean;
  architecture?: string;
  os?: string;
  config?: Record<string, unknown>;
  /** Laid over the config document, to make it wrong. */
  configDocument?: Record<string, unknown>;
  /** Laid over the manifest document, to make it wrong. */
  manifestDocument?: Record<string, unknown>;
}

const typeFlags = {
  ...{ file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', dir: '5', fifo: '6' },
  ...{ contiguous: '7', v7: '\0', 'old sparse': 'S' },
} as const;

/** A tar archive, PAX where it must be. */
export function tar(entries: readonly TarEntry[], options: { end?: boolean } = {}): Buffer {
  return Buffer.concat([...entries.flatMap(blocksOf), Buffer.alloc(options.end === false ? 0 : 1024)]);
}

function blocksOf(entry: TarEntry): Buffer[] {
  const { path, link = '', names = 'pax' } = entry;
  const long = (text: Buffer | string) => names === 'pax!' || Buffer.byteLength(text) > 100;
  const pax: (readonly [string, Buffer | string])[] =
    names === 'gnu!'
      ? []
      : [
          ...(long(path) ? [['path', path] as const] : []),
          ...(long(link) && link.length > 0 ? [['linkpath', link] as const] : []),
        ];
  pax.push(...(isList(entry.pax) ? entry.pax : Object.entries(entry.pax ?? {})));
  const data = Buffer.from(entry.data ?? '');
  return [
    ...(pax.length > 0 ? paxBlocks(pax) : []),
    ...(names === 'gnu!' ? [...gnuBlocks('L', path), ...(link.length > 0 ? gnuBlocks('K', link) : [])] : []),
    header(
      names === 'pax' ? entry : { ...entry, path: 'made-up', link: '' },
      typeFlags[entry.type ?? 'file'],
      entry.size ?? data.length,
    ),
    padded(data),
  ];
}

function isList(pax: TarEntry['pax']): pax is readonly (readonly [string, Buffer | string])[] {
  return Array.isArray(pax);
}

/** One header block; `size` and `flag` may contradict the entry. */
export function header(entry: TarEntry, flag: string, size: number): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, length, 'latin1');
  Buffer.from(entry.path).copy(block, 0, 0, 100);
  octal(entry.mode ?? (entry.type === 'dir' ? 0o755 : 0o644), 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(entry.mtime ?? 1_600_000_000, 136, 12);
  block.write(flag, 156, 1, 'latin1');
  Buffer.from(entry.link ?? '').copy(block, 157, 0, 100);
  block.write('ustar\x0000', 257, 8, 'latin1');
  octal(entry.major ?? 0, 329, 8);
  octal(entry.minor ?? 0, 337, 8);
  for (const [at, bytes] of Object.entries(entry.raw ?? {})) Buffer.from(bytes).copy(block, Number(at));
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return block;
}

function paxBlocks(records: readonly (readonly [string, Buffer | string])[]): Buffer[] {
  const data = Buffer.concat(records.map(([key, value]) => paxRecord(key, Buffer.from(value))));
  return [header({ path: 'pax' }, 'x', data.length), padded(data)];
}

/** GNU's way of a long name, or of a long link: an entry before the entry. */
function gnuBlocks(flag: 'L' | 'K', text: Buffer | string): Buffer[] {
  const data = Buffer.concat([Buffer.from(text), Buffer.alloc(1)]);
  return [header({ path: '././@LongLink' }, flag, data.length), padded(data)];
}

/** Octal as long as it fits, then base 256. */
function gnuNumber(value: number): Buffer {
  if (value < 8 ** 11) return Buffer.from(`${value.toString(8).padStart(11, '0')}\0`);
  const field = Buffer.alloc(12);
  field.writeBigUInt64BE(BigInt(value), 4);
  field[0] = 0x80;
  return field;
}

export const sparseForms = ['old GNU', '0.0', '0.1', '1.0'] as const;

/** A sparse file of `size` bytes, of which these pieces have contents, in one of GNU tar's four ways. */
export function sparse(
  form: (typeof sparseForms)[number],
  entry: TarEntry,
  size: number,
  pieces: readonly (readonly [at: number, bytes: string])[],
): TarEntry {
  const stored = Buffer.from(pieces.map(([, bytes]) => bytes).join(''));
  const map = pieces.flatMap(([at, bytes]) => [at, bytes.length]);
  const { path } = entry;
  if (form === 'old GNU') {
    const raw = { 257: 'ustar  \0', 386: Buffer.concat(map.map(gnuNumber)), 483: gnuNumber(size) };
    return { ...entry, type: 'old sparse', data: stored, raw: { ...raw, ...entry.raw } };
  }
  if (form === '0.0')
    return {
      ...entry,
      data: stored,
      pax: [
        ['GNU.sparse.size', `${size}`],
        ['GNU.sparse.numblocks', `${pieces.length}`],
        ...pieces.flatMap(([at, bytes]) => [
          ['GNU.sparse.offset', `${at}`] as const,
          ['GNU.sparse.numbytes', `${bytes.length}`] as const,
        ]),
      ],
    };
  if (form === '0.1')
    return {
      ...{ ...entry, path: 'GNUSparseFile.1/made-up', data: stored },
      pax: [
        ['GNU.sparse.size', `${size}`],
        ['GNU.sparse.numblocks', `${pieces.length}`],
        ['GNU.sparse.name', path],
        ['GNU.sparse.map', map.join(',')],
      ],
    };
  return {
    ...{ ...entry, path: 'GNUSparseFile.1/made-up' },
    data: Buffer.concat([
      padded(Buffer.from(`${pieces.length}\n${map.map(number => `${number}\n`).join('')}`)),
      stored,
    ]),
    pax: [
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.name', path],
      ['GNU.sparse.realsize', `${size}`],
    ],
  };
}

function paxRecord(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = body.length + 1;
  while (length !== body.length + String(length).length) length = body.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

export function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function digest(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Builds an image in memory. */
export function buildImage(spec: ImageSpec): BuiltImage {
  const docker = spec.format === 'docker';
  const compress = spec.compress ?? true;
  const tars = spec.layers.map(layer => (Buffer.isBuffer(layer) ? layer : tar(layer)));
  const layerType = docker
    ? `application/vnd.docker.image.rootfs.diff.tar${compress ? '.gzip' : ''}`
    : `application/vnd.oci.image.layer.v1.tar${compress ? '+gzip' : ''}`;
  const layers = tars.map(bytes => blob(layerType, compress ? gzipSync(bytes) : bytes));
  const config = document(
    docker ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json',
    {
      architecture: spec.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch),
      os: spec.os ?? 'linux',
      created: '2024-01-02T03:04:05.000000006Z',
      config: spec.config ?? {},
      rootfs: { type: 'layers', diff_ids: tars.map(digest) },
      ...spec.configDocument,
    },
  );
  const manifestType = docker
    ? 'application/vnd.docker.distribution.manifest.v2+json'
    : 'application/vnd.oci.image.manifest.v1+json';
  const manifest = document(manifestType, {
    schemaVersion: 2,
    mediaType: manifestType,
    config: descriptor(config),
    layers: layers.map(descriptor),
    ...spec.manifestDocument,
  });
  return { config, layers, manifest, id: config.digest };
}

/** An index or manifest list over images, by platform. */
export function buildIndex(
  images: readonly { image: { manifest: Blob }; platform?: { os: string; architecture: string; variant?: string } }[],
  format: 'oci' | 'docker' = 'oci',
): Blob {
  const type =
    format === 'oci'
      ? 'application/vnd.oci.image.index.v1+json'
      : 'application/vnd.docker.distribution.manifest.list.v2+json';
  const manifests = images.map(({ image, platform }) => ({
    ...descriptor(image.manifest),
    ...(platform ? { platform } : {}),
  }));
  return document(type, { schemaVersion: 2, mediaType: type, manifests });
}

export function document(mediaType: string, json: unknown): Blob {
  return blob(mediaType, Buffer.from(JSON.stringify(json)));
}

export function blob(mediaType: string, bytes: Buffer): Blob {
  return { mediaType, digest: digest(bytes), bytes };
}

export function descriptor({ mediaType, digest: aDigest, bytes }: Blob): {
  mediaType: string;
  digest: string;
  size: number;
} {
  return { mediaType, digest: aDigest, size: bytes.length };
}

const applets = [
  'sh',
  'ls',
  'cat',
  'echo',
  'sleep',
  'true',
  'false',
  'id',
  'env',
  'ps',
  'kill',
  'mount',
  'touch',
  'rm',
  'mkdir',
  'head',
  'tail',
  'yes',
  'dd',
  'nc',
  'hostname',
  'ip',
  'wget',
  'httpd',
  'stat',
  'tty',
  'stty',
  'seq',
  'wc',
  'grep',
  'test',
  'date',
  'ln',
  'cp',
  'mv',
  'chmod',
  'chown',
  'vi',
  'top',
  'df',
  'find',
  'readlink',
  'sync',
  'mknod',
  'ulimit',
  'nproc',
  'uname',
  'pwd',
  'printf',
  'sed',
  'awk',
  'sort',
  'tee',
  'sha256sum',
  'base64',
  'timeout',
];

/** A small image that runs: busybox with its usual names, passwd and group. Two layers, so that there is an overlay. */
export function busyboxImage(
  spec: Partial<Omit<ImageSpec, 'layers'>> & { extraLayers?: TarEntry[][] } = {},
): BuiltImage {
  const dir = (path: string, mode = 0o755): TarEntry => ({ path, type: 'dir', mode });
  const { extraLayers = [], ...rest } = spec;
  return buildImage({
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] },
    ...rest,
    layers: [
      [
        ...['bin', 'dev', 'etc', 'home', 'proc', 'sys', 'usr', 'usr/bin', 'var'].map(path => dir(`${path}/`)),
        dir('root/', 0o700),
        dir('tmp/', 0o1777),
        { path: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 },
        ...applets.map((name): TarEntry => ({ path: `bin/${name}`, type: 'symlink', link: 'busybox', mode: 0o777 })),
      ],
      [
        dir('etc/'),
        {
          path: 'etc/passwd',
          data: 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\nuser:x:1000:1000:user:/home:/bin/sh\n',
        },
        { path: 'etc/group', data: 'root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nextra:x:2000:user\n' },
      ],
      ...extraLayers,
    ],
  });
}
