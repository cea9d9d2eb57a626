import { z } from 'zod';
import { BerthError } from '../base/errors';
import { isDigest, type Digest } from './digest';
import { describePlatform, pickPlatform, type Platform } from './platform';

/** No manifest, index or image config may be longer. */
export const documentBytesMax = 4 * 1024 * 1024;

/** overlayfs takes 500 lower directories (fs/overlayfs/params.h, OVL_MAX_STACK). */
const layersMax = 500;

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
} as const;

const indexTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerList];
const manifestTypes: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];
const configTypes: readonly string[] = [mediaTypes.ociConfig, mediaTypes.dockerConfig];
const layerTypes: readonly string[] = [
  mediaTypes.ociLayer,
  mediaTypes.ociLayerGzip,
  mediaTypes.dockerLayer,
  mediaTypes.dockerLayerGzip,
];

/** What a registry is told that we can read, best first. */
export const acceptedManifests = [...manifestTypes, ...indexTypes].join(', ');

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export interface Manifest {
  readonly kind: 'manifest';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** A list of manifests, one per platform; entries that are no images (attestations) are left out. */
export interface Index {
  readonly kind: 'index';
  readonly entries: readonly { readonly descriptor: Descriptor; readonly platform: Platform | undefined }[];
}

/** What an image says of the containers that are made of it. Bytes of the outside world: hostile. */
export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly createdNs?: bigint;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  readonly volumes: readonly string[];
  /** As written: `80/tcp`. */
  readonly exposedPorts: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal?: string;
  /** From the base up, as many as the manifest has layers. */
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
}

export interface HistoryEntry {
  readonly createdBy?: string;
  readonly comment?: string;
  readonly emptyLayer: boolean;
}

/* ---- shapes ---- */

const digest = z.string().refine(isDigest, 'is not a digest');
const size = z.number().int().nonnegative();
const platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const descriptor = z
  .object({ mediaType: z.string(), digest, size })
  .transform(({ mediaType, digest: aDigest, size: sizeBytes }): Descriptor => ({
    mediaType,
    digest: aDigest,
    sizeBytes,
  }));

const manifestShape = z.object({
  schemaVersion: z.literal(2),
  config: descriptor,
  layers: z.array(descriptor).max(layersMax, `has more than ${layersMax} layers`),
});

const indexShape = z.object({
  schemaVersion: z.literal(2),
  manifests: z
    .array(
      z.object({
        mediaType: z.string(),
        digest,
        size,
        platform: platform.nullish(),
        artifactType: z.string().optional(),
      }),
    )
    .max(10_000),
});

const orEmpty = <T extends z.ZodType>(type: T, empty: z.output<T>) => type.nullish().transform(value => value ?? empty);
const strings = orEmpty(z.union([z.array(z.string()), z.string().transform(one => [one])]), []);
const keysOf = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform(value => Object.keys(value ?? {}));
const text = orEmpty(z.string(), '');

const configShape = z.object({
  architecture: z.string().min(1),
  os: z.string().min(1),
  variant: z.string().nullish(),
  created: z.string().nullish(),
  config: orEmpty(
    z.object({
      Env: strings,
      Entrypoint: strings,
      Cmd: strings,
      User: text,
      WorkingDir: text,
      Volumes: keysOf,
      ExposedPorts: keysOf,
      Labels: orEmpty(z.record(z.string(), z.string()), {}),
      StopSignal: z.string().nullish(),
    }),
    { Env: [], Entrypoint: [], Cmd: [], User: '', WorkingDir: '', Volumes: [], ExposedPorts: [], Labels: {} },
  ),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: orEmpty(z.array(digest), []) }),
  history: orEmpty(
    z.array(
      z.object({ created_by: z.string().nullish(), comment: z.string().nullish(), empty_layer: z.boolean().nullish() }),
    ),
    [],
  ),
});

/* ---- parsing ---- */

/**
 * Reads a manifest or an index. `mediaType` is what the one who handed it over
 * calls it (the Content-Type, or the descriptor's); the document must agree, so
 * that nobody can show it as one thing here and as another there (CVE-2021-41190).
 */
export function parseManifest(bytes: Uint8Array, mediaType: string | undefined, what: string): Manifest | Index {
  const json = parseJson(bytes, what);
  if (json['schemaVersion'] === 1 || 'fsLayers' in json)
    throw new BerthError(
      'failed_precondition',
      `${what} is a Docker schema 1 manifest, a form that registries gave up in 2019`,
      {
        hint: 'push the image again with a current tool',
      },
    );
  const own = json['mediaType'];
  if ('layers' in json && 'manifests' in json) throw malformed(what, 'it is a manifest and an index at once');
  if (own !== undefined && typeof own !== 'string') throw malformed(what, 'mediaType is not a text');
  const given = isManifestType(mediaType) ? mediaType : undefined;
  if (given !== undefined && own !== undefined && own !== given)
    throw malformed(what, `it calls itself ${own}, but was handed over as ${given}`);
  const type = given ?? own ?? ('manifests' in json ? mediaTypes.ociIndex : mediaTypes.ociManifest);
  if (indexTypes.includes(type)) return toIndex(check(indexShape, json, what));
  if (manifestTypes.includes(type)) return toManifest(check(manifestShape, json, what), what);
  throw new BerthError('failed_precondition', `${what} is of type ${type}, which is not an image`);
}

function isManifestType(type: string | undefined): boolean {
  return type !== undefined && (indexTypes.includes(type) || manifestTypes.includes(type));
}

function toManifest({ config, layers }: z.output<typeof manifestShape>, what: string): Manifest {
  if (!configTypes.includes(config.mediaType))
    throw new BerthError('failed_precondition', `${what} holds ${config.mediaType}, which is not a container image`);
  if (config.sizeBytes > documentBytesMax) throw tooLarge(`the config of ${what}`, config.sizeBytes);
  for (const layer of layers)
    if (!layerTypes.includes(layer.mediaType))
      throw new BerthError(
        'failed_precondition',
        `${what} has a layer of type ${layer.mediaType}, which this berth cannot unpack`,
        {
          hint: 'tar and tar+gzip layers are supported',
        },
      );
  return { kind: 'manifest', config, layers };
}

function toIndex({ manifests }: z.output<typeof indexShape>): Index {
  const entries = manifests
    .filter(entry => isManifestType(entry.mediaType) && entry.platform?.os !== 'unknown')
    .map(entry => ({
      descriptor: { mediaType: entry.mediaType, digest: entry.digest, sizeBytes: entry.size },
      platform: entry.platform ? toPlatform(entry.platform) : undefined,
    }));
  return { kind: 'index', entries };
}

function toPlatform({ os, architecture, variant }: z.output<typeof platform>): Platform {
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** The entry for `node`, or `failed_precondition` that names what the image offers; an entry without a platform fits if alone. */
export function choose(index: Index, node: Platform, what: string): Descriptor {
  const named = index.entries.flatMap(entry => (entry.platform ? [{ ...entry, platform: entry.platform }] : []));
  const best = pickPlatform(named, entry => entry.platform, node);
  const fit = best ?? (index.entries.length === 1 && named.length === 0 ? index.entries[0] : undefined);
  if (fit) return fit.descriptor;
  const offers = [...new Set(named.map(entry => describePlatform(entry.platform)))].join(', ') || 'nothing';
  throw new BerthError(
    'failed_precondition',
    `${what} is not for this node: it offers ${offers}, and this node is ${describePlatform(node)}`,
  );
}

/** Reads an image config that belongs to a manifest of `layerCount` layers and must be for `node`. */
export function parseImageConfig(bytes: Uint8Array, layerCount: number, node: Platform, what: string): ImageConfig {
  const json = check(configShape, parseJson(bytes, what), what);
  const diffIds = json.rootfs.diff_ids;
  if (diffIds.length !== layerCount)
    throw malformed(what, `it names ${diffIds.length} layers, and the manifest ${layerCount}`);
  const own = toPlatform({ os: json.os, architecture: json.architecture, variant: json.variant ?? undefined });
  if (own.os !== node.os || own.architecture !== node.architecture)
    throw new BerthError(
      'failed_precondition',
      `${what} is not for this node: it offers ${describePlatform(own)}, and this node is ${describePlatform(node)}`,
    );
  return toImageConfig(json, own);
}

function toImageConfig(json: z.output<typeof configShape>, own: Platform): ImageConfig {
  const { config } = json;
  const createdNs = json.created ? parseRfc3339(json.created) : undefined;
  return {
    ...own,
    ...(createdNs === undefined ? {} : { createdNs }),
    env: config.Env,
    entrypoint: config.Entrypoint,
    cmd: config.Cmd,
    user: config.User,
    workingDir: config.WorkingDir,
    volumes: config.Volumes,
    exposedPorts: config.ExposedPorts,
    labels: config.Labels,
    ...(config.StopSignal ? { stopSignal: config.StopSignal } : {}),
    diffIds: json.rootfs.diff_ids,
    history: json.history.map(entry => ({
      ...(entry.created_by ? { createdBy: entry.created_by } : {}),
      ...(entry.comment ? { comment: entry.comment } : {}),
      emptyLayer: entry.empty_layer ?? false,
    })),
  };
}

/** Nanoseconds since 1970, or undefined for what is not a date: a wrong date is no reason to refuse an image. */
function parseRfc3339(date: string): bigint | undefined {
  const ms = Date.parse(date.replace(/\.\d+/, ''));
  if (Number.isNaN(ms)) return undefined;
  const fraction = /\.(\d{1,9})/.exec(date)?.[1] ?? '';
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

function parseJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  if (bytes.length > documentBytesMax) throw tooLarge(what, bytes.length);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw malformed(what, 'it is not JSON', error);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw malformed(what, 'it is not a JSON object');
  return json as Record<string, unknown>;
}

function check<T extends z.ZodType>(shape: T, json: unknown, what: string): z.output<T> {
  const result = shape.safeParse(json);
  if (result.success) return result.data;
  const [first] = result.error.issues;
  const where = first?.path.map(String).join('.') ?? '';
  throw malformed(what, `${where}${where ? ': ' : ''}${first?.message ?? 'it has the wrong shape'}`);
}

export function tooLarge(what: string, bytes: number): BerthError {
  return new BerthError('failed_precondition', `${what} is ${bytes} bytes long, and ${documentBytesMax} is the limit`);
}

function malformed(what: string, why: string, cause?: unknown): BerthError {
  return new BerthError('failed_precondition', `${what} is malformed: ${why}`, { cause });
}
