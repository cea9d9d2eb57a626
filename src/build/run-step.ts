import { posix } from 'node:path';
import { BerthError } from '../base/errors';
import type { Ulimit } from '../cri/generated/berth/v1/run';
import type { BuiltLayer } from '../image/workshop';
import { assertRuns } from '../container/emulation';
import { belowOf } from './copy-step';
import { digestText } from './cache';
import { DockerfileError } from './dockerfile/error';
import type { CommandOf } from './dockerfile/parse';
import { openMounts } from './run-mounts';
import { scriptOf } from './script';
import { runStep, type StepResult } from './step-container';
import type { StageState, StepTools } from './steps';

type RunCommand = CommandOf<'RUN'>;

const defaultShell = ['/bin/sh', '-c'];
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Of what a failed command has written last. */
const tailBytes = 2048;

/** A command that has ended with another code than 0. */
export class StepFailed extends BerthError {
  constructor(
    readonly exitCode: number,
    readonly lastOutput: string,
    reason: string,
  ) {
    super(
      'failed_precondition',
      `the command ended with exit code ${exitCode}${reason === 'OOMKilled' ? ', out of memory' : ''}`,
    );
  }
}

/** RUN: the layer with what the command has changed, or undefined when that is nothing. */
export async function runCommandStep(
  tools: StepTools,
  stage: StageState,
  command: RunCommand,
): Promise<BuiltLayer | undefined> {
  const { parts, ctx, workshop, options } = tools;
  const { config } = stage.document;
  const { env, args, proxies } = stage.scope.environment();
  const argv = argvOf(command, config.Shell ?? defaultShell);
  const cwd = posix.resolve('/', config.WorkingDir || '/');
  const network = networkOf(command, options.network);
  await using mounts = await openMounts(tools, stage, command, cwd);
  const inputs = {
    ...{ kind: 'RUN', below: belowOf(stage.layers), 'the command': argv.join('\0'), cwd, user: config.User ?? '' },
    ...{ network, 'the environment': digestText(JSON.stringify(env)) },
    ...(options.ulimits.length > 0 ? { 'the limits': options.ulimits.map(textOf).join() } : {}),
    ...Object.fromEntries(args.map(([name, value]) => [`ARG ${name}`, value])),
    ...Object.fromEntries(mounts.inputs),
  };
  return await tools.cached(inputs, async () => {
    const warning = await assertRuns(stage.platform, workshop.platform, 'the stage');
    if (warning !== undefined) tools.warn(warning);
    const held = await mounts.mount(ctx);
    const shown = new Set([...env, ...held.env].map(([name]) => name));
    const tail = new Tail();
    const step = {
      ...{ argv, cwd, network, user: config.User ?? '', mounts: held.mounts },
      ...{ below: stage.layers, platform: stage.platform, ulimits: options.ulimits },
      secretEnv: held.secretEnv,
      env: [
        ...(shown.has('PATH') ? [] : [['PATH', defaultPath] as const]),
        ...[...proxies, ...args].filter(([name]) => !shown.has(name)),
        ...env,
        ...held.env,
      ],
    };
    const onOutput = (stream: 'stdout' | 'stderr', data: Buffer) => {
      tail.add(data);
      return tools.output(stream, data);
    };
    return runStep(parts, ctx, step, onOutput, result => taken(tools, stage, result, tail));
  });
}

async function taken(
  { ctx, workshop, options }: StepTools,
  { layers }: StageState,
  { exitCode, reason, upper, mountPoints }: StepResult,
  tail: Tail,
): Promise<BuiltLayer | undefined> {
  if (exitCode !== 0) throw new StepFailed(exitCode, tail.text, reason);
  return workshop.pack(ctx, upper, { below: layers, mountPoints, epochSeconds: options.epochSeconds });
}

/** The command, with a shell before it in shell form; a heredoc alone is the script. */
function argvOf({ form, heredocs, ...place }: RunCommand, shell: readonly string[]): string[] {
  if ('exec' in form) {
    if (form.exec.length === 0 || form.exec[0] === '') throw new DockerfileError(place, 'RUN has an empty command');
    return [...form.exec];
  }
  const script = scriptOf(form, heredocs);
  return script.startsWith('#!') ? ['/dev/pipes/script'] : [...shell, script];
}

function networkOf({ network, ...place }: RunCommand, ofBuild: string): 'default' | 'host' | 'none' {
  const asked = network === 'default' ? ofBuild : network;
  if (asked === 'none' || asked === 'host' || asked === 'default') return asked;
  if (asked === '') return 'default';
  throw new DockerfileError(place, `RUN --network=${network}: it is default, none or host`);
}

function textOf({ name, soft, hard }: Ulimit): string {
  return `${name}=${soft}:${hard}`;
}

/** The end of what was written. */
class Tail {
  private bytes = Buffer.alloc(0);

  add(data: Buffer): void {
    this.bytes = Buffer.concat([this.bytes, data]).subarray(-tailBytes);
  }

  get text(): string {
    return this.bytes.toString('utf8').trimEnd();
  }
}
