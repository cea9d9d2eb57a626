import { DockerfileError } from './dockerfile/error';
import type { Command, Dockerfile, Stage } from './dockerfile/parse';
import { mountOptions } from './mount-options';
import type { GlobalScope } from './scope';

/** Where a stage begins. */
export type StageBase =
  | { readonly kind: 'scratch' }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'image'; readonly name: string };

export interface PlannedStage {
  readonly stage: Stage;
  readonly base: StageBase;
  readonly platform: string | undefined;
  /** Other stages that it copies from or mounts. */
  readonly needs: readonly number[];
}

/** The stages that the target needs, by index; the others are not built. */
export interface Plan {
  readonly target: number;
  readonly stages: ReadonlyMap<number, PlannedStage>;
}

/** Finds what a target is built from. `target` is a name or a number; undefined for the last stage. */
export function planBuild(dockerfile: Dockerfile, target: string | undefined, globals: GlobalScope): Plan {
  const { stages } = dockerfile;
  const wanted = target === undefined ? stages.length - 1 : indexOf(stages, target);
  if (wanted === undefined)
    throw new DockerfileError({ line: 1, endLine: 1 }, `no stage is called ${JSON.stringify(target)}`, {
      hint: `there are ${stages.map(({ name, index }) => name ?? String(index)).join(', ')}`,
    });
  const needed = new Map<number, PlannedStage>();
  const visit = (index: number): void => {
    const stage = stages[index];
    if (!stage || needed.has(index)) return;
    const planned = planStage(stage, stages, globals);
    needed.set(index, planned);
    if (planned.base.kind === 'stage') visit(planned.base.index);
    planned.needs.forEach(visit);
  };
  visit(wanted);
  return { target: wanted, stages: needed };
}

function planStage(stage: Stage, stages: readonly Stage[], globals: GlobalScope): PlannedStage {
  const before = stages.slice(0, stage.index);
  const name = globals.expand(stage.base, stage);
  if (name === '')
    throw new DockerfileError(stage, `${stage.original}: the name of the base image is empty`, {
      hint: 'an ARG before the first FROM gives a variable a value',
    });
  const earlier = before.find(other => other.name === name.toLowerCase());
  const base: StageBase = earlier
    ? { kind: 'stage', index: earlier.index }
    : name === 'scratch'
      ? { kind: 'scratch' }
      : { kind: 'image', name };
  const platform = stage.platform === undefined ? undefined : globals.expand(stage.platform, stage);
  const needs = stage.commands.flatMap(command => sourcesOf(command).flatMap(from => indexOf(before, from) ?? []));
  return { stage, base, platform, needs };
}

/** What a command copies from or mounts: stages, or images, by name. */
function sourcesOf(command: Command): string[] {
  if (command.kind === 'COPY') return command.flags.from === undefined ? [] : [command.flags.from];
  if (command.kind !== 'RUN') return [];
  return command.mounts.flatMap(text => mountOptions(text, command).get('from') ?? []);
}

/** The stage that a name or a number means. */
export function indexOf(stages: readonly Stage[], name: string): number | undefined {
  const named = stages.find(stage => stage.name === name.toLowerCase());
  if (named) return named.index;
  return /^\d+$/.test(name) ? stages[Number(name)]?.index : undefined;
}
