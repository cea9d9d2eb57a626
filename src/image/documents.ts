import { z } from 'zod';
import { BerthError } from '../base/errors';
import { isDigest, type Digest } from './digest';
import { describePlatform, fits, nodePlatform, rankedPlatforms, type Platform } from './platform';
import { parseStrictJson } from './strict-json';

/** No manifest, index or image config may be longer. */
export const documentBytesMax = 4 * 1024 * 1024;

/** overlayfs takes 500 lower directories (fs/overlayfs/params.h, OVL_MAX_STACK). */
const layersMax = 500;

/** Far above what images are: an announcement of more is a mistake or an attack. */
const layerBytesMax = 128 * 1024 ** 3;
const indexEntriesMax = 1000;
const historyMax = 10_000;
/** Each is a directory and a mount of every container. */
const volumesMax = 1000;
const portsMax = 10_000;
const labelsMax = 2000;
const labelBytesMax = 1024 ** 2;
const pathBytesMax = 4095;

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

export const indexTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerList];
const manifestTypes: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];
const configTypes: readonly string[] = [mediaTypes.ociConfig, mediaTypes.dockerConfig];
const layerTypes: readonly string[] = [
  mediaTypes.ociLayer,
  mediaTypes.ociLayerGzip,
  mediaTypes.ociLayerZstd,
  mediaTypes.dockerLayer,
  mediaTypes.dockerLayerGzip,
  mediaTypes.dockerLayerZstd,
];

/** Layers that their owner forbids to hand on; registries mostly have them no less. */
const foreignLayerTypes: readonly string[] = [
  'application/vnd.oci.image.layer.nondistributable.v1.tar',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
];

/** What BuildKit marks the entries of an index with that describe an image and are none. */
const referenceType = 'vnd.docker.reference.type';

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
  /** How many those are. */
  readonly leftOut: number;
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
  readonly healthcheck?: ImageHealthcheck;
  /** From the base up, as many as the manifest has layers. */
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
}

/** HEALTHCHECK of a Dockerfile; times are nanoseconds, and 0 is "not said". */
interface ImageHealthcheck {
  /** NONE; CMD with arguments; CMD-SHELL with a command. */
  readonly test: readonly string[];
  readonly intervalNs: bigint;
  readonly timeoutNs: bigint;
  readonly startPeriodNs: bigint;
  readonly startIntervalNs: bigint;
  readonly retries: number;
}

interface HistoryEntry {
  readonly createdNs?: bigint;
  readonly createdBy?: string;
  readonly comment?: string;
  readonly emptyLayer: boolean;
}

/* ---- shapes ---- */

const digest = z.string().refine(isDigest, 'is not a digest');
const size = z.number().int().nonnegative();
const platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().nullish() });
const descriptor = z
  .object({ mediaType: z.string(), digest, size })
  .transform(({ mediaType, digest: aDigest, size: sizeBytes }): Descriptor => ({
    mediaType,
    digest: aDigest,
    sizeBytes,
  }));

const manifestShape = z.object({
  schemaVersion: z.literal(2),
  artifactType: z.string().nullish(),
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
        artifactType: z.string().nullish(),
        annotations: z.record(z.string(), z.string()).nullish(),
      }),
    )
    .max(indexEntriesMax, `has more than ${indexEntriesMax} entries`),
});

const orEmpty = <T extends z.ZodType>(type: T, empty: z.output<T>) => type.nullish().transform(value => value ?? empty);

/** execve(2) ends a string at its NUL: what stands behind it would be hidden from whoever looks. */
const argument = z.string().refine(text => !text.includes('\0'), 'holds a NUL character');
/** For what stands on one line, in a file or on a screen. */
const line = z.string().refine(text => !/[\0-\x1f\x7f]/.test(text), 'holds a control character');
const path = line.refine(text => Buffer.byteLength(text) <= pathBytesMax, `is longer than ${pathBytesMax} bytes`);
const argumentsOf = orEmpty(z.union([z.array(argument), argument.transform(one => [one])]), []);

/** A value may have several lines; a name may not, nor may HOME, which others write into files (CVE-2026-15809). */
const variable = argument
  .refine(text => !text.startsWith('='), 'has no name')
  .refine(text => !/[\0-\x1f\x7f]/.test(nameOf(text)), 'has a control character in its name')
  .refine(text => nameOf(text) !== 'HOME' || !/[\0-\x1f\x7f]/.test(text), 'holds a control character');

/** Whether it is a user at all is asked when it is used: a pod that names another user does without. */
const user = argument.refine(text => text.length <= 512, 'is longer than 512 characters');

const labels = z
  .record(line, argument)
  .refine(all => Object.keys(all).length <= labelsMax, `are more than ${labelsMax}`)
  .refine(
    all => Object.entries(all).reduce((sum, [key, value]) => sum + key.length + value.length, 0) <= labelBytesMax,
    `are more than ${labelBytesMax} characters`,
  );

const keysOf = <T extends z.ZodType<string, string>>(key: T, most: number) =>
  z
    .record(key, z.unknown())
    .nullish()
    .transform(value => Object.keys(value ?? {}))
    .refine(keys => keys.length <= most, `are more than ${most}`);

const nanoseconds = z
  .number()
  .int()
  .nonnegative()
  .nullish()
  .transform(value => BigInt(value ?? 0));

/** One that is none is left out: it is no reason to refuse an image. */
const healthcheck = z
  .object({
    Test: z.array(z.string()).min(1),
    Interval: nanoseconds,
    Timeout: nanoseconds,
    StartPeriod: nanoseconds,
    StartInterval: nanoseconds,
    Retries: z.number().int().nonnegative().max(1_000_000).nullish(),
  })
  .nullish()
  .catch(undefined);

const configShape = z.object({
  architecture: line.min(1),
  os: line.min(1),
  variant: line.nullish(),
  created: z.string().nullish(),
  config: orEmpty(
    z.object({
      Env: orEmpty(z.array(variable), []),
      Entrypoint: argumentsOf,
      Cmd: argumentsOf,
      User: orEmpty(user, ''),
      WorkingDir: orEmpty(path, ''),
      Volumes: keysOf(path, volumesMax),
      ExposedPorts: keysOf(line, portsMax),
      Labels: orEmpty(labels, {}),
      StopSignal: z
        .string()
        .regex(/^[A-Za-z0-9+-]{0,16}$/, 'is not a signal')
        .nullish(),
      Healthcheck: healthcheck,
    }),
    { Env: [], Entrypoint: [], Cmd: [], User: '', WorkingDir: '', Volumes: [], ExposedPorts: [], Labels: {} },
  ),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: orEmpty(z.array(digest), []) }),
  history: orEmpty(
    z
      .array(
        z.object({
          created: z.string().nullish(),
          created_by: z.string().nullish(),
          comment: z.string().nullish(),
          empty_layer: z.boolean().nullish(),
        }),
      )
      .max(historyMax, `has more than ${historyMax} entries`),
    [],
  ),
});

function nameOf(text: string): string {
  const end = text.indexOf('=');
  return end < 0 ? text : text.slice(0, end);
}

/* ---- parsing ---- */

export interface ManifestRules {
  /** Foreign layers are fetched like others, from the registry of the image; their `urls` are never asked. */
  readonly allowForeignLayers?: boolean;
}

/**
 * Reads a manifest or an index. `mediaType` is what the one who handed it over
 * calls it (the Content-Type, or the descriptor's); the document must agree, so
 * that nobody can show it as one thing here and as another there (CVE-2021-41190).
 */
export function parseManifest(
  bytes: Uint8Array,
  mediaType: string | undefined,
  what: string,
  { allowForeignLayers = false }: ManifestRules = {},
): Manifest | Index {
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
  if ('config' in json && 'manifests' in json)
    throw malformed(what, 'it has a config like a manifest, and is an index');
  if (own !== undefined && typeof own !== 'string') throw malformed(what, 'mediaType is not a text');
  const given = isManifestType(mediaType) ? mediaType : undefined;
  if (given !== undefined && own !== undefined && own !== given)
    throw malformed(what, `it calls itself ${shown(own)}, but was handed over as ${given}`);
  const type = given ?? own ?? ('manifests' in json ? mediaTypes.ociIndex : mediaTypes.ociManifest);
  if (indexTypes.includes(type)) return toIndex(check(indexShape, json, what));
  if (manifestTypes.includes(type)) return toManifest(check(manifestShape, json, what), what, allowForeignLayers);
  throw new BerthError('failed_precondition', `${what} is of type ${shown(type)}, which is not an image`);
}

/** What is stored like an image and is none: a config of another type, and layers. */
export interface ArtefactRules {
  readonly configTypes: readonly string[];
  readonly layersMax: number;
}

/**
 * Reads the manifest of an artefact, whose config has one of these types, or an index of such; its layers are of those that
 * can be unpacked.
 */
export function parseArtefact(
  bytes: Uint8Array,
  mediaType: string | undefined,
  { configTypes: wanted, layersMax: most }: ArtefactRules,
  what: string,
): Manifest | Index {
  const json = parseJson(bytes, what);
  const type = json['mediaType'] ?? ('manifests' in json ? mediaTypes.ociIndex : mediaTypes.ociManifest);
  if (typeof type !== 'string') throw malformed(what, 'mediaType is not a text');
  if (!isManifestType(type))
    throw new BerthError('failed_precondition', `${what} is of type ${shown(type)}, which is no manifest`);
  if (mediaType !== undefined && isManifestType(mediaType) && mediaType !== type)
    throw malformed(what, `it calls itself ${shown(type)}, but was handed over as ${shown(mediaType)}`);
  if (indexTypes.includes(type)) {
    if ('layers' in json || 'config' in json) throw malformed(what, 'it is a manifest and an index at once');
    return toIndex(check(indexShape, json, what));
  }
  if ('manifests' in json) throw malformed(what, 'it is a manifest and an index at once');
  const layers = z.array(descriptor).max(most, `has more than ${most} layers`);
  const found = check(manifestShape.extend({ layers }), json, what);
  if (!wanted.includes(found.config.mediaType))
    throw new BerthError(
      'failed_precondition',
      `${what} has a config of type ${shown(found.config.mediaType)}, and ${wanted.join(' or ')} is looked for`,
    );
  if (found.config.sizeBytes > documentBytesMax) throw tooLarge(`the config of ${what}`, found.config.sizeBytes);
  for (const layer of found.layers) refuseLayer(layer, what, false);
  return { kind: 'manifest', config: found.config, layers: found.layers };
}

/** Reads a JSON document of strangers, of this shape. */
export function parseDocument<T extends z.ZodType>(shape: T, bytes: Uint8Array, what: string): z.output<T> {
  return check(shape, parseObjectOrList(bytes, what), what);
}

function isManifestType(type: string | undefined): boolean {
  return type !== undefined && (indexTypes.includes(type) || manifestTypes.includes(type));
}

function toManifest(
  { artifactType, config, layers }: z.output<typeof manifestShape>,
  what: string,
  allowForeignLayers: boolean,
): Manifest {
  if (!configTypes.includes(config.mediaType)) {
    const type = config.mediaType === mediaTypes.ociEmpty ? (artifactType ?? 'no type') : config.mediaType;
    throw new BerthError(
      'failed_precondition',
      `${what} is an artefact (${shown(type)}), which is not a container image`,
    );
  }
  if (config.sizeBytes > documentBytesMax) throw tooLarge(`the config of ${what}`, config.sizeBytes);
  for (const layer of layers) refuseLayer(layer, what, allowForeignLayers);
  return { kind: 'manifest', config, layers };
}

function refuseLayer({ mediaType, digest: name, sizeBytes }: Descriptor, what: string, allowForeign: boolean): void {
  if (sizeBytes > layerBytesMax)
    throw malformed(what, `layer ${name} is said to have ${sizeBytes} bytes, and ${layerBytesMax} is the limit`);
  if (layerTypes.includes(mediaType)) return;
  if (!foreignLayerTypes.includes(mediaType))
    throw new BerthError(
      'failed_precondition',
      `${what} has a layer of type ${shown(mediaType)}, which this berth cannot unpack`,
      { hint: 'tar, tar+gzip and tar+zstd layers are supported' },
    );
  if (allowForeign) return;
  throw new BerthError('failed_precondition', `${what} has a foreign layer, ${name}, which is refused`, {
    hint: 'registry.allow_foreign_layers = true fetches it from the registry of the image; its own URLs are never asked',
  });
}

function toIndex({ manifests }: z.output<typeof indexShape>): Index {
  const entries = manifests
    .filter(
      ({ mediaType, platform: own, artifactType, annotations }) =>
        isManifestType(mediaType) &&
        own?.os !== 'unknown' &&
        annotations?.[referenceType] === undefined &&
        (!artifactType || configTypes.includes(artifactType)),
    )
    .map(entry => ({
      descriptor: { mediaType: entry.mediaType, digest: entry.digest, sizeBytes: entry.size },
      platform: entry.platform ? toPlatform(entry.platform) : undefined,
    }));
  return { kind: 'index', entries, leftOut: manifests.length - entries.length };
}

function toPlatform({ os, architecture, variant }: z.output<typeof platform>): Platform {
  return { os, architecture, ...(variant ? { variant } : {}) }; // some write that there is none
}

/**
 * The entries that the platform `wanted` may run, best first: those of its platform, then indexes that do not say what they hold;
 * an image that does not say fits if it is alone.
 */
export function candidates(index: Index, wanted: Platform): Descriptor[] {
  const named = index.entries.flatMap(entry => (entry.platform ? [{ ...entry, platform: entry.platform }] : []));
  const unnamed = index.entries.filter(
    ({ platform: own, descriptor: { mediaType } }) =>
      own === undefined && (index.entries.length === 1 || indexTypes.includes(mediaType)),
  );
  return [...rankedPlatforms(named, entry => entry.platform, wanted), ...unnamed].map(entry => entry.descriptor);
}

/** The best entry for the platform `wanted`, or `failed_precondition` that names what the image offers. */
export function choose(index: Index, wanted: Platform, what: string): Descriptor {
  const [best] = candidates(index, wanted);
  if (best) return best;
  throw notFor(offersOf(index), wanted, what);
}

/** What an index holds, in words. */
export function offersOf(index: Index): string[] {
  return index.entries.flatMap(entry => (entry.platform ? [describePlatform(entry.platform)] : []));
}

/** Who asks for the node's platform has mostly not named it. */
export function notFor(offers: readonly string[], wanted: Platform, what: string): BerthError {
  const shownOffers = [...new Set(offers)].slice(0, 20).map(shown).join(', ') || 'nothing';
  const name = describePlatform(wanted);
  return new BerthError(
    'failed_precondition',
    name === describePlatform(nodePlatform())
      ? `${what} is not for this node: it offers ${shownOffers}, and this node is ${name}`
      : `${what} is not there for ${name}: it offers ${shownOffers}`,
  );
}

/**
 * Reads an image config that belongs to a manifest of `layerCount` layers and must be for `wanted`. One that says a variant
 * that does not fit (amd64/v2, of an image without an index) is for `wanted`, too: whoever asks for it by name finds it.
 */
export function parseImageConfig(bytes: Uint8Array, layerCount: number, wanted: Platform, what: string): ImageConfig {
  const json = check(configShape, parseJson(bytes, what), what);
  const diffIds = json.rootfs.diff_ids;
  if (diffIds.length !== layerCount)
    throw malformed(what, `it names ${diffIds.length} layers, and the manifest ${layerCount}`);
  const own = toPlatform({ os: json.os, architecture: json.architecture, variant: json.variant ?? undefined });
  if (own.os !== wanted.os || own.architecture !== wanted.architecture)
    throw notFor([describePlatform(own)], wanted, what);
  return toImageConfig(json, fits(own, wanted) ? own : wanted);
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
    exposedPorts: config.ExposedPorts.filter(isPort),
    labels: config.Labels,
    ...(config.StopSignal ? { stopSignal: config.StopSignal } : {}),
    ...(config.Healthcheck ? { healthcheck: toHealthcheck(config.Healthcheck) } : {}),
    diffIds: json.rootfs.diff_ids,
    history: json.history.map(entry => ({
      ...createdOf(entry.created),
      ...(entry.created_by ? { createdBy: entry.created_by } : {}),
      ...(entry.comment ? { comment: entry.comment } : {}),
      emptyLayer: entry.empty_layer ?? false,
    })),
  };
}

function toHealthcheck(json: NonNullable<z.output<typeof healthcheck>>): ImageHealthcheck {
  return {
    test: json.Test,
    intervalNs: json.Interval,
    timeoutNs: json.Timeout,
    startPeriodNs: json.StartPeriod,
    startIntervalNs: json.StartInterval,
    retries: json.Retries ?? 0,
  };
}

function createdOf(date: string | null | undefined): { createdNs?: bigint } {
  const createdNs = date ? parseRfc3339(date) : undefined;
  return createdNs === undefined ? {} : { createdNs };
}

/** `80`, `80/tcp`, `8000-8010/udp`. They are for people only, so that a wrong one is left out and no reason to refuse. */
function isPort(text: string): boolean {
  const [, first, last] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(?:tcp|udp|sctp))?$/.exec(text) ?? [];
  return first !== undefined && Number(first) <= 65_535 && Number(last ?? first) <= 65_535;
}

/**
 * Nanoseconds since 1970, or undefined for what is not a date, nor one that 64 bits can tell (1677 to 2262): a wrong date
 * is no reason to refuse an image.
 */
function parseRfc3339(date: string): bigint | undefined {
  const ms = Date.parse(date.replace(/\.\d+/, ''));
  if (Number.isNaN(ms)) return undefined;
  const fraction = /\.(\d{1,9})/.exec(date)?.[1] ?? '';
  const ns = BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  return BigInt.asIntN(64, ns) === ns ? ns : undefined;
}

function parseJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  const json = parseObjectOrList(bytes, what);
  if (!Array.isArray(json)) return json as Record<string, unknown>;
  throw malformed(what, 'it is not a JSON object');
}

function parseObjectOrList(bytes: Uint8Array, what: string): object {
  if (bytes.length > documentBytesMax) throw tooLarge(what, bytes.length);
  const json = parseStrictJson(bytes, why => malformed(what, why));
  if (typeof json === 'object' && json !== null) return json;
  throw malformed(what, 'it is not a JSON object');
}

/** What a stranger wrote, fit for one line of a message. */
function shown(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]/g, '?');
  return clean.length > 100 ? `${clean.slice(0, 100)}…` : clean;
}

function check<T extends z.ZodType>(shape: T, json: unknown, what: string): z.output<T> {
  const result = shape.safeParse(json);
  if (result.success) return result.data;
  const [first] = result.error.issues;
  const where = shown(first?.path.map(String).join('.') ?? '');
  throw malformed(what, `${where}${where ? ': ' : ''}${first?.message ?? 'it has the wrong shape'}`);
}

export function tooLarge(what: string, bytes: number): BerthError {
  return new BerthError('failed_precondition', `${what} is ${bytes} bytes long, and ${documentBytesMax} is the limit`);
}

function malformed(what: string, why: string): BerthError {
  return new BerthError('failed_precondition', `${what} is malformed: ${why}`);
}
