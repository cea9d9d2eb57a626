import { BerthError } from '../../base/errors';
import type { ContainerConfig } from '../../cri';

/** A device by its whole name, `vendor.com/class=name`; kind is `vendor.com/class`. */
export interface CdiName {
  text: string;
  kind: string;
  device: string;
}

const VENDOR = '[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?';
const CLASS = '[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?';
const DEVICE = '[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?';

export const CDI_KIND = new RegExp(`^${VENDOR}/${CLASS}$`);
export const CDI_DEVICE = new RegExp(`^${DEVICE}$`);
const NAME = new RegExp(`^(${VENDOR}/${CLASS})=(${DEVICE})$`);

/** Annotations of the request whose keys begin so list device names, separated by commas. */
const ANNOTATION_PREFIX = 'cdi.k8s.io/';

/**
 * The CDI devices of a request, each once, in order: those of its field, then those of its annotations. Nothing of the
 * image's counts: a label is no request (CVE-2026-53492). Throws `invalid_argument` for what is no name.
 */
export function requestedCdi({ CDIDevices, annotations }: ContainerConfig): CdiName[] {
  const annotated = Object.entries(annotations)
    .filter(([key]) => key.startsWith(ANNOTATION_PREFIX))
    .flatMap(([key, value]) => value.split(',').map(name => cdiName(name, `annotation ${key}`)));
  const all = [...CDIDevices.map(({ name }) => cdiName(name, 'CDI_devices')), ...annotated];
  return [...new Map(all.map(name => [name.text, name])).values()];
}

function cdiName(text: string, where: string): CdiName {
  const [, kind, device] = NAME.exec(text) ?? [];
  if (kind !== undefined && device !== undefined) return { text, kind, device };
  throw new BerthError('invalid_argument', `${where}: ${JSON.stringify(text)} is no name of a CDI device`, {
    hint: 'names are like vendor.com/class=device',
  });
}
