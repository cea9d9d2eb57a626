import { z } from 'zod';
import { BerthError } from '../base/errors';
import type { Platform } from '../image/platform';

/** How containers of an image run, as it is written in its config. Keys that are not known here stay. */
export interface RunConfig {
  User?: string;
  ExposedPorts?: Record<string, object>;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  Volumes?: Record<string, object>;
  WorkingDir?: string;
  Labels?: Record<string, string>;
  StopSignal?: string;
  Shell?: string[];
  OnBuild?: string[];
  Healthcheck?: {
    Test: string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
}

interface HistoryEntry {
  created?: string;
  created_by?: string;
  comment?: string;
  empty_layer?: boolean;
}

/** An image config as it is written. */
export interface ImageDocument extends Platform {
  created?: string;
  author?: string;
  config: RunConfig;
  rootfs: { type: 'layers'; diff_ids: string[] };
  history: HistoryEntry[];
}

export function emptyDocument({ os, architecture, variant }: Platform): ImageDocument {
  return {
    ...{ os, architecture },
    ...(variant === undefined ? {} : { variant }),
    config: {},
    rootfs: { type: 'layers', diff_ids: [] },
    history: [],
  };
}

const orAbsent = <T extends z.ZodType>(type: T) => type.nullish().transform(value => value ?? undefined);

const texts = orAbsent(z.union([z.array(z.string()), z.string().transform(one => [one])]));
const keys = orAbsent(
  z.record(
    z.string(),
    z.unknown().transform(() => ({})),
  ),
);

const shape = z.looseObject({
  architecture: z.string(),
  os: z.string(),
  variant: orAbsent(z.string()),
  author: orAbsent(z.string()),
  created: orAbsent(z.string()),
  config: orAbsent(
    z.looseObject({
      User: orAbsent(z.string()),
      ExposedPorts: keys,
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      Volumes: keys,
      WorkingDir: orAbsent(z.string()),
      Labels: orAbsent(z.record(z.string(), z.string())),
      StopSignal: orAbsent(z.string()),
      Shell: texts,
      OnBuild: texts,
      Healthcheck: orAbsent(z.looseObject({ Test: z.array(z.string()).default([]) })),
    }),
  ),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(z.string()) }),
  history: orAbsent(
    z.array(
      z.object({
        created: orAbsent(z.string()),
        created_by: orAbsent(z.string()),
        comment: orAbsent(z.string()),
        empty_layer: orAbsent(z.boolean()),
      }),
    ),
  ),
});

/** A base image's config, to be built on. */
export function documentOf(json: unknown, name: string): ImageDocument {
  const result = shape.safeParse(json);
  if (!result.success)
    throw new BerthError('failed_precondition', `the config of ${name} is malformed: ${result.error.message}`);
  const { architecture, os, variant, author, created, config = {}, rootfs, history = [] } = result.data;
  return JSON.parse(
    JSON.stringify({ os, architecture, variant, author, created, config, rootfs, history }),
  ) as ImageDocument;
}
