import type { BuiltLayer } from '../image/workshop';
import { belowOf, copyStep } from './copy-step';
import { digestText } from './cache';
import { waysTo } from './copy-ops';
import type { Command } from './dockerfile/parse';
import { applyMetadata, workdirOf } from './metadata';
import { runCommandStep } from './run-step';
import type { StageState, StepTools } from './steps';

/** Carries one instruction out: the stage's document and layers are changed in place. */
export async function applyCommand(tools: StepTools, stage: StageState, command: Command): Promise<void> {
  switch (command.kind) {
    case 'ARG':
      for (const [name, value] of command.args) stage.scope.declare(name, value, command);
      return note(tools, stage, command.original, undefined);
    case 'RUN':
      return note(tools, stage, runText(stage, command.original), await runCommandStep(tools, stage, command));
    case 'COPY':
    case 'ADD':
      return note(tools, stage, command.original, await copyStep(tools, stage, command));
    case 'WORKDIR': {
      const path = workdirOf(stage.document.config, stage.scope.expand(command.text, command));
      stage.document.config.WorkingDir = path;
      return note(tools, stage, `WORKDIR ${path}`, await makeWorkdir(tools, stage, path));
    }
    default:
      return note(tools, stage, applyMetadata(stage, command), undefined);
  }
}

/** As docker writes it: the arguments that the command has seen come first. */
function runText({ scope }: StageState, original: string): string {
  const { args } = scope.environment();
  const seen = args.map(([name, value]) => `${name}=${value}`);
  return seen.length === 0 ? original : `RUN |${seen.length} ${seen.join(' ')} ${original.replace(/^\S+\s+/, '')}`;
}

/** The directory, with those above it; it belongs to the user of the stage. */
async function makeWorkdir(tools: StepTools, stage: StageState, path: string): Promise<BuiltLayer | undefined> {
  const { workshop, ctx, options } = tools;
  if (path === '/') return undefined;
  const user = stage.document.config.User ?? '';
  return tools.cached({ kind: 'WORKDIR', below: belowOf(stage.layers), path, user }, async () => {
    const [name = '', group = ''] = user.split(':');
    const owner = name === '' ? [] : [{ op: 'owner', user: name, group } as const];
    const ops = [...owner, ...waysTo(path)];
    return workshop.copy(ctx, [{ ops, source: undefined }], {
      below: stage.layers,
      epochSeconds: options.epochSeconds,
    });
  });
}

/** Enters what an instruction has made into the image's history. */
function note({ options }: StepTools, stage: StageState, text: string, layer: BuiltLayer | undefined): void {
  const { document, layers, createdAtMs } = stage;
  const { epochSeconds } = options;
  if (epochSeconds !== undefined) document.created = new Date(epochSeconds * 1000).toISOString();
  else if (createdAtMs !== undefined) document.created = new Date(createdAtMs).toISOString();
  const { created } = document;
  document.history.push({
    ...(created === undefined ? {} : { created }),
    created_by: text,
    ...(layer ? {} : { empty_layer: true }),
  });
  if (!layer) return;
  layers.push(layer);
  document.rootfs.diff_ids.push(layer.layer.diffId);
}

/** For the cache's records. */
export function stepName(stage: string, command: Command): string {
  return `${stage} ${command.original.length > 200 ? digestText(command.original) : command.original}`;
}
