/**
 * The TOML parser. smol-toml ships a CommonJS build, but types that call it an ES module; under `module: Node16` the
 * compiler believes the types and refuses a plain import.
 */
import type * as SmolToml from 'smol-toml' with { 'resolution-mode': 'import' };

// eslint-disable-next-line @typescript-eslint/no-require-imports -- see above
const smolToml = require('smol-toml') as typeof SmolToml;

/** An object without prototype, its tables likewise; throws a TomlError. */
export const parseToml: (text: string) => Record<string, unknown> = smolToml.parse;

/** Where a TomlError says that the text is wrong, from 1, or undefined for other errors. */
export function lineOfSyntaxError(error: unknown): number | undefined {
  return error instanceof smolToml.TomlError ? error.line : undefined;
}
