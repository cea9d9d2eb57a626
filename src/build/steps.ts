import type { Context } from '../base/context';
import type { BuiltLayer, SentFiles, Source, Workshop } from '../image/workshop';
import type { Containers } from '../container/containers';
import type { Ulimit } from '../cri/generated/berth/v1/run';
import type { Images } from '../image/images';
import type { Platform } from '../image/platform';
import type { Sandboxes } from '../sandbox/sandboxes';
import type { BuildCache } from './cache';
import type { CacheMounts } from './cache-mounts';
import type { ImageDocument } from './document';
import type { StageScope } from './scope';

/** What building works with; one for the whole daemon. */
export interface BuildParts {
  readonly images: Images;
  readonly sandboxes: Sandboxes;
  readonly containers: Containers;
  readonly cache: BuildCache;
  readonly cacheMounts: CacheMounts;
  /** For secrets: in memory, where the node has it so. */
  readonly secretsDir: string;
}

/** A stage as far as it is built. */
export interface StageState {
  readonly document: ImageDocument;
  readonly layers: BuiltLayer[];
  readonly scope: StageScope;
  /** Of its files. */
  readonly platform: Platform;
  /** For messages and the cache: its name, or its number. */
  readonly name: string;
  /** CMD was given here, and not by the base. */
  hasOwnCommand: boolean;
  /** When its newest layer was made, be it by an earlier build: a build of nothing new is the image that there is. */
  createdAtMs: number | undefined;
}

/** What the steps of one build share. */
export interface StepTools {
  readonly parts: BuildParts;
  readonly ctx: Context;
  readonly workshop: Workshop;
  readonly options: {
    readonly epochSeconds: number | undefined;
    readonly network: string;
    readonly ulimits: readonly Ulimit[];
    readonly secrets: ReadonlyMap<string, Uint8Array>;
    readonly ssh: ReadonlyMap<string, string>;
    /** Of whoever builds: lines of a known_hosts. */
    readonly knownHosts: Uint8Array;
  };
  /** The context that the client has sent. */
  readonly context: () => Promise<SentFiles>;
  /** A stage or an image, by name. */
  readonly sourceOf: (name: string) => Promise<Source>;
  readonly warn: (text: string) => void;
  /** What a command writes; resolves when there is room for more. */
  readonly output: (stream: 'stdout' | 'stderr', data: Buffer) => Promise<void>;
  /** Finds the step's result, or makes it; says why to whoever watches. */
  readonly cached: (
    inputs: Readonly<Record<string, string>>,
    make: () => Promise<BuiltLayer | undefined>,
  ) => Promise<BuiltLayer | undefined>;
}
