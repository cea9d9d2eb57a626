import { z } from 'zod';
import { BerthError } from '../../base/errors';
import { CDI_DEVICE, CDI_KIND } from './names';

/** Versions of the Container Device Interface that are understood, from the first that was in use to the newest. */
const VERSIONS = new Set(['0.3.0', '0.4.0', '0.5.0', '0.6.0', '0.7.0', '0.8.0', '1.0.0', '1.1.0']);

const text = z.string().regex(/^[^\0]*$/, 'holds a NUL');
const path = text.regex(/^\//, 'is not an absolute path');
const id = z.int().min(0).max(0xffff_fffe);

/** Unknown keys are refused: what a vendor asks for and does not get makes a device that half works. */
const editsShape = z.strictObject({
  env: z.array(text.regex(/^[^=]+=/, 'is not KEY=value')).default([]),
  deviceNodes: z
    .array(
      z.strictObject({
        path,
        hostPath: path.optional(),
        type: z.enum(['b', 'c', 'u', 'p', '']).default(''),
        major: z.int().min(0).optional(),
        minor: z.int().min(0).optional(),
        fileMode: z.int().min(0).max(0o7777).optional(),
        permissions: text.default(''),
        uid: id.optional(),
        gid: id.optional(),
      }),
    )
    .default([]),
  netDevices: z.array(z.strictObject({ hostInterfaceName: text, name: text })).default([]),
  hooks: z
    .array(
      z.strictObject({
        hookName: text,
        path,
        args: z.array(text).default([]),
        env: z.array(text).default([]),
        timeout: z.int().optional(),
      }),
    )
    .default([]),
  mounts: z
    .array(
      z.strictObject({
        hostPath: text,
        containerPath: path,
        options: z.array(text).default([]),
        type: text.default(''),
      }),
    )
    .default([]),
  intelRdt: z.looseObject({}).optional(),
  additionalGids: z.array(id).default([]),
});

/** What a device changes in a container. */
export type CdiEdits = z.output<typeof editsShape>;

const noEdits = () => editsShape.parse({});
const annotations = z.record(z.string(), z.string()).optional();

const specShape = z.strictObject({
  cdiVersion: text,
  kind: text.regex(CDI_KIND, 'is not vendor/class'),
  annotations,
  devices: z
    .array(
      z.strictObject({ name: text.regex(CDI_DEVICE, 'is no device name'), annotations, containerEdits: editsShape }),
    )
    .min(1, 'names no device'),
  containerEdits: editsShape.optional().transform(edits => edits ?? noEdits()),
});

/** One spec file. */
export interface CdiSpec {
  /** Where it was read; for messages. */
  file: string;
  kind: string;
  devices: ReadonlyMap<string, CdiEdits>;
  /** Once for a container that has any of the devices. */
  common: CdiEdits;
}

/** Checks a spec document. Throws `invalid_argument` that names the file and the place in it. */
export function cdiSpec(document: unknown, file: string): CdiSpec {
  const refuse = (why: string) => new BerthError('invalid_argument', `CDI spec ${file}: ${why}`);
  const version = (document as { cdiVersion?: unknown } | null)?.cdiVersion;
  if (typeof version === 'string' && !VERSIONS.has(version)) {
    throw refuse(`cdiVersion ${version} is not known; known are ${[...VERSIONS].join(', ')}`);
  }
  const parsed = specShape.safeParse(document);
  if (!parsed.success) {
    const { path: place, message } = parsed.error.issues[0] ?? { path: [], message: 'is no spec' };
    throw refuse(`${place.join('.') || 'the document'}: ${message}`);
  }
  const { kind, devices, containerEdits } = parsed.data;
  const byName = new Map(devices.map(device => [device.name, device.containerEdits]));
  if (byName.size < devices.length) throw refuse('it has a device twice');
  return { file, kind, devices: byName, common: containerEdits };
}
