import { describePlatform, type Platform } from '../image/platform';
import type { RunConfig } from './document';
import { expand, expandText, expandWords, ExpansionError, type Lookup } from './dockerfile/expand';
import { DockerfileError, type Place } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';

/** Arguments that steps see without an ARG, and that do not make them other steps. */
const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap(name => [
  name,
  name.toLowerCase(),
]);

/** What ARGs may be without being given: the platform that is built for, and the one that builds. */
export function platformArgs(target: Platform, build: Platform): Map<string, string> {
  const of = (word: string, platform: Platform) =>
    [
      [`${word}PLATFORM`, describePlatform(platform)],
      [`${word}OS`, platform.os],
      [`${word}ARCH`, platform.architecture],
      [`${word}VARIANT`, platform.variant ?? ''],
    ] as const;
  return new Map([...of('TARGET', target), ...of('BUILD', build)]);
}

/** The variables of the lines before the first FROM, and what they are by default in each stage. */
export class GlobalScope {
  private readonly values = new Map<string, string>();

  constructor(
    globals: readonly CommandOf<'ARG'>[],
    private readonly buildArgs: ReadonlyMap<string, string>,
    private readonly platform: ReadonlyMap<string, string>,
    private readonly escape: string,
  ) {
    for (const { args, ...place } of globals)
      for (const [name, value] of args) {
        const given = buildArgs.get(name);
        const own = given ?? (value === undefined ? undefined : this.expand(value, place));
        if (own !== undefined) this.values.set(name, own);
      }
  }

  /** In FROM. */
  expand(text: string, place: Place): string {
    return within(place, () => expand(text, name => this.values.get(name) ?? this.platform.get(name), this.escape));
  }

  /** What `ARG name` without a value is in a stage. */
  valueOf(name: string): string | undefined {
    return this.buildArgs.get(name) ?? this.values.get(name) ?? this.platform.get(name);
  }

  given(name: string): string | undefined {
    return this.buildArgs.get(name);
  }
}

/** The variables of one stage. */
export class StageScope {
  private readonly args = new Map<string, string>();

  constructor(
    private readonly config: RunConfig,
    private readonly globals: GlobalScope,
    private readonly escape: string,
  ) {}

  declare(name: string, value: string | undefined, place: Place): void {
    const own = this.globals.given(name) ?? (value === undefined ? undefined : this.expand(value, place));
    const inherited = own ?? this.globals.valueOf(name);
    if (inherited !== undefined) this.args.set(name, inherited);
    else this.args.delete(name);
  }

  expand(text: string, place: Place): string {
    return within(place, () => expand(text, this.lookup(), this.escape));
  }

  expandWords(text: string, place: Place): string[] {
    return within(place, () => expandWords(text, this.lookup(), this.escape));
  }

  /** Of a heredoc. */
  expandText(text: string, place: Place): string {
    return within(place, () => expandText(text, this.lookup(), this.escape));
  }

  /** What a step's command sees; of `args` those that no ENV hides. */
  environment(): { env: [string, string][]; args: [string, string][]; proxies: [string, string][] } {
    const env = envOf(this.config);
    return {
      env: [...env],
      args: [...this.args].filter(([name]) => !env.has(name) && !proxies.includes(name)),
      proxies: proxies.flatMap(name => {
        const value = this.args.get(name) ?? this.globals.given(name);
        return value === undefined || env.has(name) ? [] : [[name, value] as [string, string]];
      }),
    };
  }

  private lookup(): Lookup {
    const env = envOf(this.config);
    return name => env.get(name) ?? this.args.get(name);
  }
}

function envOf({ Env = [] }: RunConfig): Map<string, string> {
  return new Map(
    Env.map(line => {
      const equals = line.indexOf('=');
      return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
    }),
  );
}

function within<T>(place: Place, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ExpansionError) throw new DockerfileError(place, error.message, { cause: error });
    throw error;
  }
}
