import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { BerthError, errnoOf, isAbsent } from '../../base/errors';
import type { BuildSecret } from '../../cri/generated/berth/v1/build';

/** `--build-arg`: NAME=VALUE, or NAME with the value of the variable here; without one it is as if it was not given. */
export function parseBuildArgs(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.flatMap(text => {
      const equals = text.indexOf('=');
      const name = equals < 0 ? text : text.slice(0, equals);
      if (name === '') throw new BerthError('invalid_argument', `--build-arg ${text}: the name is empty`);
      const value = equals < 0 ? process.env[name] : text.slice(equals + 1);
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
}

/** `--build-context`: NAME=IMAGE. */
export function parseContexts(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map(text => {
      const equals = text.indexOf('=');
      if (equals > 0 && equals < text.length - 1) return [text.slice(0, equals), text.slice(equals + 1)] as const;
      throw new BerthError('invalid_argument', `--build-context ${text}: it has another form`, {
        hint: 'write --build-context NAME=IMAGE',
      });
    }),
  );
}

/** `--secret id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; without either the variable, or the file, of its name. */
export function parseSecrets(texts: readonly string[]): BuildSecret[] {
  return texts.map(text => {
    const fields = new Map(
      text.split(',').map(field => {
        const equals = field.indexOf('=');
        return equals < 0 ? [field, ''] : [field.slice(0, equals), field.slice(equals + 1)];
      }),
    );
    const unknown = [...fields.keys()].find(key => !['id', 'src', 'source', 'env', 'type'].includes(key));
    const source = fields.get('src') ?? fields.get('source');
    const id = fields.get('id') ?? (source === undefined ? '' : basename(source));
    if (unknown !== undefined || id === '')
      throw new BerthError('invalid_argument', `--secret ${text}: it has another form`, {
        hint: 'write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE',
      });
    return { id, value: secretValue(id, source, fields.get('env'), fields.get('type')) };
  });
}

function secretValue(
  id: string,
  source: string | undefined,
  env: string | undefined,
  type: string | undefined,
): Buffer {
  const variable =
    env ?? (type === 'env' ? source : source === undefined && process.env[id] !== undefined ? id : undefined);
  if (variable !== undefined) {
    const value = process.env[variable];
    if (value !== undefined) return Buffer.from(value);
    throw new BerthError('invalid_argument', `--secret ${id}: the variable ${variable} is not set`);
  }
  try {
    return readFileSync(source ?? id);
  } catch (error) {
    const why = isAbsent(error) ? 'there is no such file' : (errnoOf(error) ?? 'it cannot be read');
    throw new BerthError('invalid_argument', `--secret ${id}: read ${source ?? id}: ${why}`, { cause: error });
  }
}

/** `--ssh default` is the agent here, `--ssh ID=SOCKET` another one. */
export function parseSsh(texts: readonly string[]): ReadonlyMap<string, readonly string[]> {
  return new Map(
    texts.map(text => {
      const equals = text.indexOf('=');
      const id = equals < 0 ? text : text.slice(0, equals);
      const paths = equals < 0 ? [process.env['SSH_AUTH_SOCK'] ?? ''] : text.slice(equals + 1).split(',');
      if (equals < 0 && paths[0] === '')
        throw new BerthError('invalid_argument', `--ssh ${text}: no agent runs here (SSH_AUTH_SOCK is not set)`);
      if (id === '' || paths.includes(''))
        throw new BerthError('invalid_argument', `--ssh ${text}: it is not ID, ID=SOCKET or ID=KEY[,KEY…]`);
      return [id, paths.map(path => resolve(path))] as const;
    }),
  );
}
