import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { BuiltLayer, Copy, Source } from '../image/workshop';
import { copyOps, ownerOf, type CopyTarget } from './copy-ops';
import { digestText } from './cache';
import { DockerfileError } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';
import { digestFiles, findFiles, type Found } from './files';
import { extracted } from './add-archives';
import { fetchRemote, isRemote } from './add-remote';
import type { StageState, StepTools } from './steps';

type CopyCommand = CommandOf<'COPY' | 'ADD'>;

/** Something to copy: what it is for the cache, and, if it must be done, how. */
interface Part {
  readonly digest: string;
  readonly count: number;
  readonly copies: (target: Omit<CopyTarget, 'keepsOwners'>) => Promise<Copy[]>;
}

/** COPY and ADD: the layer with what they have copied, or undefined when that changes nothing. */
export async function copyStep(
  tools: StepTools,
  stage: StageState,
  written: CopyCommand,
): Promise<BuiltLayer | undefined> {
  const { workshop, ctx, options } = tools;
  const { scope } = stage;
  const command = withFlagsExpanded(written, stage);
  const { flags } = command;
  const sources = command.sources.map(text => scope.expand(text, command));
  const asked = scope.expand(command.destination, command);
  const parts = await partsOf(tools, stage, command, sources);
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const below = flags.link ? [] : stage.layers;
  const target = await targetOf(tools, stage, command, asked, count, below);
  const inputs = {
    ...{ kind: command.kind, below: belowOf(below), 'the destination': target.path + (target.isDirectory ? '/' : '') },
    ...{ '--chown': JSON.stringify(target.owner ?? ''), '--chmod': String(target.mode ?? '') },
    ...{ '--parents': String(flags.parents), '--unpack': String(flags.unpack ?? '') },
    ...Object.fromEntries(parts.map(({ digest }, i) => [nameOfPart(command, sources, i), digest])),
  };
  return tools.cached(inputs, async () => {
    const copies: Copy[] = [];
    for (const part of parts) copies.push(...(await part.copies(target)));
    return workshop.copy(ctx, copies, { below, epochSeconds: options.epochSeconds });
  });
}

/** What its flags say with the variables that the stage has now. */
function withFlagsExpanded(command: CopyCommand, { scope }: StageState): CopyCommand {
  const { chown, chmod, checksum, exclude } = command.flags;
  const given = Object.entries({ chown, chmod, checksum }).flatMap(([name, text]) =>
    text === undefined ? [] : [[name, scope.expand(text, command)] as const],
  );
  const flags = { ...Object.fromEntries(given), exclude: exclude.map(text => scope.expand(text, command)) };
  return { ...command, flags: { ...command.flags, ...flags } };
}

/** What a layer stands on, for the cache. */
export function belowOf(layers: readonly BuiltLayer[]): string {
  return digestText(layers.map(({ layer }) => layer.diffId).join(' '));
}

/** For `--why`. */
function nameOfPart({ heredocs, kind }: CopyCommand, sources: readonly string[], i: number): string {
  const listed = sources.length > 0 ? sources.join(' ') : heredocs.map(({ name }) => `<<${name}`).join(' ');
  return i === 0 ? `what ${kind} copies (${listed.slice(0, 200)})` : `what ${kind} copies besides, ${i}`;
}

async function partsOf(
  tools: StepTools,
  stage: StageState,
  command: CopyCommand,
  sources: readonly string[],
): Promise<Part[]> {
  const { workshop, ctx } = tools;
  const { flags, kind, heredocs } = command;
  const remote = kind === 'ADD' ? sources.filter(isRemote) : [];
  const local = sources.filter(source => !remote.includes(source));
  const parts: Part[] = [];
  if (local.length > 0) {
    const source = flags.from === undefined ? { sent: await tools.context() } : await tools.sourceOf(flags.from);
    const found = await findFiles(workshop, ctx, source, local, flags.exclude, command);
    const unpacks = kind === 'ADD' && flags.unpack !== false;
    parts.push(
      await (unpacks
        ? archivesOr(tools, source, found)
        : plainPart(source, found, { keepsOwners: flags.from !== undefined, parents: flags.parents })),
    );
  }
  for (const url of remote) parts.push(await remotePart(tools, command, url));
  if (heredocs.length > 0) {
    const source = { dir: await writeHeredocs(tools, stage, command) };
    const names = heredocs.map(({ name }) => name);
    parts.push(await plainPart(source, await findFiles(workshop, ctx, source, names, [], command), {}));
  }
  return parts;
}

async function plainPart(
  source: Source,
  found: readonly Found[],
  { keepsOwners = false, parents = false },
): Promise<Part> {
  return {
    digest: await digestFiles(found, keepsOwners, parents),
    count: found.length,
    copies: async target => [{ source, ops: await copyOps(found, { ...target, keepsOwners }) }],
  };
}

/** Files of the context that are archives are unpacked, with the owners that they have there. */
async function archivesOr(tools: StepTools, source: Source, found: readonly Found[]): Promise<Part> {
  return {
    digest: await digestFiles(found, false),
    count: found.length,
    copies: async target => {
      const copies: Copy[] = [];
      for (const each of found) {
        const dir = await extracted(tools, source, each);
        const inner = dir === undefined ? undefined : await everythingIn(tools, dir);
        if (inner)
          copies.push({
            ...inner,
            ops: await copyOps(inner.found, { ...target, isDirectory: true, keepsOwners: true }),
          });
        else copies.push({ source, ops: await copyOps([each], { ...target, keepsOwners: false }) });
      }
      return copies;
    },
  };
}

async function everythingIn({ workshop, ctx }: StepTools, dir: string): Promise<{ source: Source; found: Found[] }> {
  const source = { dir };
  const entries = (await workshop.scan(ctx, source, { paths: [''] })).get('') ?? [];
  return { source, found: [{ path: '', pivot: '', entries }] };
}

/** What a URL has: a file, a repository's files, or with --unpack what an archive has. */
async function remotePart(tools: StepTools, command: CopyCommand, url: string): Promise<Part> {
  const { dir, isTree } = await fetchRemote(tools, command, url);
  const source = { dir };
  if (isTree) {
    const kept = await findFiles(tools.workshop, tools.ctx, source, ['/'], command.flags.exclude, command);
    return { ...(await plainPart(source, kept, {})), count: 1 };
  }
  const files = await findFiles(tools.workshop, tools.ctx, source, ['/*'], [], command);
  return command.flags.unpack === true ? archivesOr(tools, source, files) : plainPart(source, files, {});
}

async function writeHeredocs(tools: StepTools, { scope }: StageState, command: CopyCommand): Promise<string> {
  const dir = tools.workshop.fresh('heredocs');
  await mkdir(dir, { mode: 0o700 });
  for (const { name, content, expand } of command.heredocs) {
    if (name.includes('/')) throw new DockerfileError(command, `the heredoc ${name} has a slash in its name`);
    const path = join(dir, name);
    await writeFile(path, expand ? scope.expandText(content, command) : content, { mode: 0o644 });
    if (tools.options.epochSeconds !== undefined) await utimes(path, 0, tools.options.epochSeconds);
  }
  return dir;
}

/** Where it goes: a path with a slash at its end, or `.`, is a directory, and so is what several things go to. */
async function targetOf(
  { workshop, ctx }: StepTools,
  { document }: StageState,
  command: CopyCommand,
  asked: string,
  count: number,
  below: readonly BuiltLayer[],
): Promise<Omit<CopyTarget, 'keepsOwners'>> {
  const { flags } = command;
  const path = posix.resolve(document.config.WorkingDir || '/', asked);
  const saysDirectory = /(^|\/)\.{0,2}$/.test(asked);
  if (count > 1 && !saysDirectory)
    throw new DockerfileError(command, `${command.kind} copies ${count} things to ${asked}, which is no directory`, {
      hint: `write ${asked}/`,
    });
  const there = saysDirectory
    ? undefined
    : (await workshop.scan(ctx, { layers: below }, { paths: [path], shallow: true })).get(path);
  const isDirectory = saysDirectory || flags.parents || there?.[0]?.type === 'directory';
  const { chown, chmod } = flags;
  return {
    ...{ path, isDirectory, parents: flags.parents },
    owner: chown === undefined ? undefined : ownerOf(chown),
    mode: chmod === undefined ? undefined : modeOf(chmod, command),
  };
}

function modeOf(text: string, command: CopyCommand): number {
  if (/^[0-7]{1,4}$/.test(text)) return parseInt(text, 8);
  throw new DockerfileError(command, `${command.kind} --chmod=${text}: it is no mode`, { hint: 'write it as 0755' });
}
