import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

/** One entry of a layer's tar archive. Names and links are written as they are, however hostile. */
export interface TarEntry {
  path: string;
  type?: 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'dir' | 'fifo';
  data?: Buffer | string;
  link?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  major?: number;
  minor?: number;
  /** PAX records of this entry; values may be binary. */
  pax?: Record<string, Buffer | string>;
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

const typeFlags = { file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', dir: '5', fifo: '6' } as const;

/** A tar archive, PAX where it must be. */
export function tar(entries: readonly TarEntry[], options: { end?: boolean } = {}): Buffer {
  const blocks = entries.flatMap(entry => {
    const pax: Record<string, Buffer | string> = {
      ...(Buffer.byteLength(entry.path) > 100 ? { path: entry.path } : {}),
      ...(Buffer.byteLength(entry.link ?? '') > 100 ? { linkpath: entry.link ?? '' } : {}),
      ...entry.pax,
    };
    const extension = Object.keys(pax).length > 0 ? paxBlocks(pax) : [];
    const data = Buffer.from(entry.data ?? '');
    return [...extension, header(entry, typeFlags[entry.type ?? 'file'], data.length), padded(data)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(options.end === false ? 0 : 1024)]);
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
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return block;
}

function paxBlocks(records: Record<string, Buffer | string>): Buffer[] {
  const data = Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, Buffer.from(value))));
  return [header({ path: 'pax' }, 'x', data.length), padded(data)];
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
