import { DockerfileError, type Place } from './error';
import { commandForm, durationNs, Flags, jsonList, listOrWords, namesAndValues, type Form } from './forms';
import { parseLines, rawWords, type Heredoc, type Instruction } from './lines';

interface CopyFlags {
  readonly from?: string;
  readonly chown?: string;
  readonly chmod?: string;
  readonly link: boolean;
  readonly parents: boolean;
  readonly exclude: readonly string[];
  readonly checksum?: string;
  readonly keepGitDir: boolean;
  /** Of ADD: absent means archives of the context, and no downloads. */
  readonly unpack?: boolean;
}

export interface Healthcheck {
  /** `NONE`, or how it is asked. */
  readonly form: Form | 'none';
  readonly intervalNs?: number;
  readonly timeoutNs?: number;
  readonly startPeriodNs?: number;
  readonly startIntervalNs?: number;
  readonly retries?: number;
}

/** What one instruction says; texts with variables are as they are written. */
export type Command = Place & { readonly original: string } & (
    | { readonly kind: 'ARG'; readonly args: readonly (readonly [name: string, value: string | undefined])[] }
    | { readonly kind: 'ENV' | 'LABEL'; readonly pairs: readonly (readonly [string, string])[] }
    | {
        readonly kind: 'RUN';
        readonly form: Form;
        readonly heredocs: readonly Heredoc[];
        readonly mounts: readonly string[];
        readonly network: string;
      }
    | {
        readonly kind: 'COPY' | 'ADD';
        readonly sources: readonly string[];
        readonly destination: string;
        readonly heredocs: readonly Heredoc[];
        readonly flags: CopyFlags;
      }
    | { readonly kind: 'CMD' | 'ENTRYPOINT'; readonly form: Form }
    | { readonly kind: 'SHELL'; readonly argv: readonly string[] }
    | { readonly kind: 'WORKDIR'; readonly text: string }
    | { readonly kind: 'EXPOSE'; readonly text: string }
    | { readonly kind: 'STOPSIGNAL'; readonly text: string }
    | { readonly kind: 'USER' | 'MAINTAINER'; readonly text: string }
    | { readonly kind: 'VOLUME'; readonly paths: readonly string[] }
    | { readonly kind: 'HEALTHCHECK'; readonly check: Healthcheck }
    | { readonly kind: 'ONBUILD'; readonly trigger: string }
  );

export type CommandOf<Kind extends Command['kind']> = Extract<Command, { kind: Kind }>;

export interface Stage extends Place {
  readonly index: number;
  /** In lower case; undefined where it has none. */
  readonly name: string | undefined;
  /** As it is written: an image, a stage or `scratch`, maybe with variables. */
  readonly base: string;
  readonly platform: string | undefined;
  readonly original: string;
  readonly commands: readonly Command[];
}

export interface Dockerfile {
  readonly escape: '\\' | '`';
  /** ARGs before the first FROM. */
  readonly globals: readonly CommandOf<'ARG'>[];
  readonly stages: readonly Stage[];
  readonly warnings: readonly string[];
}

/** Reads a Dockerfile. Throws a DockerfileError that has the lines. */
export function parseDockerfile(text: string): Dockerfile {
  const { escape, instructions, warnings } = parseLines(text);
  const globals: CommandOf<'ARG'>[] = [];
  const stages: Stage[] = [];
  let commands: Command[] = [];
  for (const instruction of instructions) {
    if (instruction.word === 'FROM') {
      commands = [];
      stages.push({ ...parseFrom(instruction, stages), commands });
      continue;
    }
    const command = parseCommand(instruction, escape);
    if (stages.length > 0) commands.push(command);
    else if (command.kind === 'ARG') globals.push(command);
    else throw new DockerfileError(instruction, `${instruction.word} stands before the first FROM`);
  }
  if (stages.length === 0)
    throw new DockerfileError({ line: 1, endLine: 1 }, 'there is no FROM: nothing says what to build on');
  return { escape, globals, stages, warnings };
}

/** What a base image asks whoever builds on it to do; a line of it. */
export function parseTrigger(text: string, escape: '\\' | '`', place: Place): Command {
  const [instruction] = parseLines(text).instructions;
  if (!instruction) throw new DockerfileError(place, `the base image has an empty ONBUILD trigger`);
  return { ...parseCommand({ ...instruction, ...linesOf(place) }, escape), ...linesOf(place) };
}

function linesOf({ line, endLine }: Place): Place {
  return { line, endLine };
}

function parseFrom(instruction: Instruction, before: readonly Stage[]): Omit<Stage, 'commands'> {
  const { rest, original } = instruction;
  const words = rest.split(/\s+/).filter(word => word !== '');
  const [base = '', as, name] = words;
  const isWhole = words.length === 1 || (words.length === 3 && as?.toUpperCase() === 'AS');
  if (base === '' || !isWhole)
    throw new DockerfileError(instruction, `${original}: it has another form`, { hint: 'write FROM image AS name' });
  const own = name?.toLowerCase();
  if (own !== undefined && !/^[a-z][a-z0-9_.-]*$/.test(own))
    throw new DockerfileError(instruction, `${name ?? ''} is no name for a stage`, {
      hint: 'a name begins with a letter and has letters, digits, and _ . -',
    });
  if (own !== undefined && before.some(stage => stage.name === own))
    throw new DockerfileError(instruction, `two stages are called ${own}`);
  const platform = new Flags(instruction, ['platform']).text('platform');
  return { ...linesOf(instruction), index: before.length, name: own, base, platform, original };
}

type Parser = (instruction: Instruction, escape: '\\' | '`') => Command;

function parseCommand(instruction: Instruction, escape: '\\' | '`'): Command {
  const parser = parsers[instruction.word];
  if (!parser)
    throw new DockerfileError(instruction, `${instruction.word} is no instruction`, {
      hint: `there are FROM, ${Object.keys(parsers).join(', ')}`,
    });
  if (instruction.rest === '') throw new DockerfileError(instruction, `${instruction.word} has no argument`);
  return parser(instruction, escape);
}

function placed({ line, endLine, original }: Instruction) {
  return { line, endLine, original };
}

const copyFlags = ['from', 'chown', 'chmod', 'link', 'parents', 'exclude'];
const addFlags = ['chown', 'chmod', 'link', 'exclude', 'checksum', 'keep-git-dir', 'unpack'];

const text =
  (kind: 'USER' | 'WORKDIR' | 'STOPSIGNAL' | 'EXPOSE' | 'MAINTAINER'): Parser =>
  instruction => ({ ...placed(instruction), kind, text: instruction.rest });

const command =
  (kind: 'CMD' | 'ENTRYPOINT'): Parser =>
  instruction => ({ ...placed(instruction), kind, form: commandForm(instruction.rest) });

const pairs =
  (kind: 'ENV' | 'LABEL'): Parser =>
  (instruction, escape) => ({ ...placed(instruction), kind, pairs: namesAndValues(instruction, escape) });

const copy =
  (kind: 'COPY' | 'ADD'): Parser =>
  instruction => {
    const flags = new Flags(instruction, kind === 'COPY' ? copyFlags : addFlags, ['exclude']);
    const words = listOrWords(instruction.rest);
    const destination = words.at(-1) ?? '';
    if (words.length < 2) throw new DockerfileError(instruction, `${kind} needs a source and a destination`);
    const inline = new Set(instruction.heredocs.map(({ name }) => name));
    const sources = words.slice(0, -1).filter(word => !inline.has(heredocName(word)));
    const [from, chown, chmod, checksum] = ['from', 'chown', 'chmod', 'checksum'].map(name => flags.text(name));
    return {
      ...placed(instruction),
      kind,
      sources,
      destination,
      heredocs: instruction.heredocs,
      flags: {
        ...(from === undefined ? {} : { from }),
        ...(chown === undefined ? {} : { chown }),
        ...(chmod === undefined ? {} : { chmod }),
        ...(checksum === undefined ? {} : { checksum }),
        link: flags.isOn('link'),
        parents: flags.isOn('parents'),
        exclude: flags.list('exclude'),
        keepGitDir: flags.isOn('keep-git-dir'),
        ...(flags.list('unpack').length > 0 ? { unpack: flags.isOn('unpack') } : {}),
      },
    };
  };

function heredocName(word: string): string {
  return /^\d*<<-?(["']?)([^<]*)\1$/.exec(word)?.[2] ?? '';
}

const parsers: Readonly<Record<string, Parser>> = {
  ADD: copy('ADD'),
  ARG: (instruction, escape) => ({
    ...placed(instruction),
    kind: 'ARG',
    args: rawWords(instruction.rest, escape).map(word => {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word : word.slice(0, equals);
      if (!/^[a-zA-Z_]\w*$/.test(name)) throw new DockerfileError(instruction, `ARG ${name}: it is no name`);
      return [name, equals < 0 ? undefined : word.slice(equals + 1)] as const;
    }),
  }),
  CMD: command('CMD'),
  COPY: copy('COPY'),
  ENTRYPOINT: command('ENTRYPOINT'),
  ENV: pairs('ENV'),
  EXPOSE: text('EXPOSE'),
  HEALTHCHECK: instruction => ({ ...placed(instruction), kind: 'HEALTHCHECK', check: healthcheck(instruction) }),
  LABEL: pairs('LABEL'),
  MAINTAINER: text('MAINTAINER'),
  ONBUILD: (instruction, escape) => {
    const [word = ''] = instruction.rest.split(/\s/, 1);
    if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(word.toUpperCase()))
      throw new DockerfileError(instruction, `ONBUILD ${word.toUpperCase()} is not allowed`);
    const trigger = [instruction.rest, ...instruction.heredocs.map(({ content, name }) => `${content}${name}`)].join(
      '\n',
    );
    parseTrigger(trigger, escape, instruction); // what is wrong with it is said here, not to whoever builds on it
    return { ...placed(instruction), kind: 'ONBUILD', trigger };
  },
  RUN: instruction => {
    const flags = new Flags(instruction, ['mount', 'network', 'security'], ['mount']);
    const security = flags.text('security') ?? 'sandbox';
    if (security !== 'sandbox')
      throw new DockerfileError(instruction, `RUN --security=${security}: steps run in containers of the usual kind`, {
        hint: 'leave it out',
      });
    return {
      ...placed(instruction),
      kind: 'RUN',
      form: commandForm(instruction.rest),
      heredocs: instruction.heredocs,
      mounts: flags.list('mount'),
      network: flags.text('network') ?? 'default',
    };
  },
  SHELL: instruction => {
    const argv = jsonList(instruction.rest);
    if (argv && argv.length > 0) return { ...placed(instruction), kind: 'SHELL', argv };
    throw new DockerfileError(instruction, 'SHELL needs a JSON list', { hint: 'such as SHELL ["/bin/sh", "-c"]' });
  },
  STOPSIGNAL: text('STOPSIGNAL'),
  USER: text('USER'),
  VOLUME: instruction => {
    const paths = listOrWords(instruction.rest);
    if (paths.length > 0 && paths.every(path => path !== '')) return { ...placed(instruction), kind: 'VOLUME', paths };
    throw new DockerfileError(instruction, 'VOLUME has an empty path');
  },
  WORKDIR: text('WORKDIR'),
};

const durations = {
  interval: 'intervalNs',
  timeout: 'timeoutNs',
  'start-period': 'startPeriodNs',
  'start-interval': 'startIntervalNs',
} as const;

function healthcheck(instruction: Instruction): Healthcheck {
  const flags = new Flags(instruction, [...Object.keys(durations), 'retries']);
  const [word = ''] = instruction.rest.split(/\s/, 1);
  const behind = instruction.rest.slice(word.length).trim();
  if (word.toUpperCase() === 'NONE' && behind === '') return { form: 'none' };
  if (word.toUpperCase() !== 'CMD' || behind === '')
    throw new DockerfileError(instruction, `HEALTHCHECK ${word}: it is NONE or CMD with a command`);
  const times = Object.entries(durations).flatMap(([flag, key]) => {
    const given = flags.text(flag);
    if (given === undefined) return [];
    const ns = durationNs(given);
    if (ns === undefined || (ns !== 0 && ns < 1e6))
      throw new DockerfileError(instruction, `HEALTHCHECK --${flag}=${given}: it is no time of a millisecond or more`);
    return [[key, ns] as const];
  });
  const retries = flags.text('retries');
  if (retries !== undefined && !/^\d+$/.test(retries))
    throw new DockerfileError(instruction, `HEALTHCHECK --retries=${retries}: it is no number`);
  return {
    form: commandForm(behind),
    ...Object.fromEntries(times),
    ...(retries === undefined ? {} : { retries: Number(retries) }),
  };
}
