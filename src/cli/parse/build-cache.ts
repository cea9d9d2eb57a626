import { resolve } from 'node:path';
import { BerthError } from '../../base/errors';
import type { BuildCacheExport, BuildCachePlace, BuildStart } from '../../cri/generated/berth/v1/build';

type Fields = ReadonlyMap<string, string>;

/** `--cache-from`: a reference, `type=registry,ref=REFERENCE` or `type=local,src=DIRECTORY[,tag=TAG|,digest=DIGEST]`. */
export function parseCacheFrom(texts: readonly string[]): BuildCachePlace[] {
  return texts.flatMap(text => {
    const flag = `--cache-from ${text}`;
    if (!text.includes('=')) return text.split(',').map(reference => ({ reference: reference.trim() }));
    const fields = fieldsOf(text, flag, ['type', 'ref', 'src', 'tag', 'digest']);
    const digest = fields.get('digest');
    return [placeOf(fields, flag, 'src', digest)];
  });
}

/**
 * `--cache-to`: a reference, `type=registry,ref=REFERENCE` or `type=local,dest=DIRECTORY[,tag=TAG]`, each with `mode=min|max`
 * and `ignore-error=true`; or `type=inline`. What BuildKit can be told to write otherwise is written one way here.
 */
export function parseCacheTo(
  texts: readonly string[],
  buildArgs: Readonly<Record<string, string>>,
): Pick<BuildStart, 'cacheTo' | 'cacheInline'> {
  const isInline = (text: string) => /^type=inline(,mode=min)?$/.test(text);
  // How docker's own command has always been told.
  const isAsked = buildArgs['BUILDKIT_INLINE_CACHE'] === '1';
  return {
    cacheTo: texts.filter(text => !isInline(text)).map(parseExport),
    cacheInline: isAsked || texts.some(isInline),
  };
}

function parseExport(text: string): BuildCacheExport {
  const flag = `--cache-to ${text}`;
  if (!text.includes('=')) return { place: { reference: text }, allStages: false, ignoreErrors: false };
  const fields = fieldsOf(text, flag, ['type', 'ref', 'dest', 'tag', 'mode', 'ignore-error', ...Object.keys(fixed)]);
  for (const [name, only] of Object.entries(fixed)) oneOf(fields, flag, name, [only]);
  return {
    place: placeOf(fields, flag, 'dest', undefined),
    allStages: oneOf(fields, flag, 'mode', ['min', 'max']) === 'max',
    ignoreErrors: oneOf(fields, flag, 'ignore-error', ['false', 'true']) === 'true',
  };
}

/** Options of BuildKit's that have one value here: caches are OCI image manifests, and layers are as they were made. */
const fixed: Readonly<Record<string, string>> = {
  'image-manifest': 'true',
  'oci-mediatypes': 'true',
  compression: 'gzip',
  'force-compression': 'false',
};

function placeOf(fields: Fields, flag: string, directory: 'src' | 'dest', digest: string | undefined): BuildCachePlace {
  const type = fields.get('type') ?? 'registry';
  if (type === 'registry') return { reference: needed(fields, flag, 'ref') };
  if (type === 'local') {
    if (digest !== undefined && !/^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/.test(digest))
      throw new BerthError('invalid_argument', `${flag}: ${digest} is not a digest`, {
        hint: 'it looks like sha256:<64 hex digits>',
      });
    const tag = digest ?? fields.get('tag') ?? 'latest';
    return { directory: { path: resolve(needed(fields, flag, directory)), tag } };
  }
  throw new BerthError('invalid_argument', `${flag}: the type ${type} is not known`, {
    hint: directory === 'src' ? 'it is registry or local' : 'it is registry, local or inline',
  });
}

function fieldsOf(text: string, flag: string, known: readonly string[]): Fields {
  const fields = new Map<string, string>();
  for (const field of text.split(',')) {
    const equals = field.indexOf('=');
    const name = equals < 0 ? field : field.slice(0, equals);
    if (!known.includes(name) || equals < 0)
      throw new BerthError('invalid_argument', `${flag}: ${name} is not known`, {
        hint: `it takes ${known.join(', ')}`,
      });
    fields.set(name, field.slice(equals + 1));
  }
  return fields;
}

function needed(fields: Fields, flag: string, name: string): string {
  const value = fields.get(name) ?? '';
  if (value !== '') return value;
  throw new BerthError('invalid_argument', `${flag}: it needs ${name}=`, {
    hint: 'write type=registry,ref=REFERENCE or type=local with a directory',
  });
}

function oneOf(fields: Fields, flag: string, name: string, values: readonly string[]): string {
  const value = fields.get(name) ?? values[0] ?? '';
  if (values.includes(value)) return value;
  throw new BerthError('invalid_argument', `${flag}: ${name} is ${value}`, { hint: `it is ${values.join(' or ')}` });
}
