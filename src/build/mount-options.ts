import { DockerfileError, type Place } from './dockerfile/error';

/** The fields of `RUN --mount=…`, under one name each. */
const aliases: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
  rw: 'readwrite',
};

const known = [
  ...['type', 'from', 'source', 'target', 'readonly', 'readwrite', 'id', 'sharing', 'required', 'mode', 'uid', 'gid'],
  ...['size', 'env'],
];

/** Splits `type=cache,target=/root/.cache`; a field without a value is true. */
export function mountOptions(text: string, place: Place): Map<string, string> {
  const options = new Map<string, string>();
  for (const field of text.split(',')) {
    const equals = field.indexOf('=');
    const word = (equals < 0 ? field : field.slice(0, equals)).trim().toLowerCase();
    const name = aliases[word] ?? word;
    if (!known.includes(name))
      throw new DockerfileError(place, `RUN --mount=${text}: ${JSON.stringify(word)} is not known`, {
        hint: `there are ${known.join(', ')}`,
      });
    options.set(name, equals < 0 ? 'true' : field.slice(equals + 1).replace(/^"(.*)"$/, '$1'));
  }
  return options;
}
