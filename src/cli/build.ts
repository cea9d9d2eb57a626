import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import {
  BuilderService,
  BuildOutput_Type as OutputType,
  type BuildDone,
  type BuildRequest,
  type BuildResponse,
  type BuildStart,
} from '../cri/generated/berth/v1/build';
import { readBuildInput, type BuildInput } from './build-input';
import { buildDisplay, type BuildDisplay } from './format/build-progress';
import { progressDisplay, type ProgressDisplay } from './format/progress';
import { familiar } from './format/names';
import type { Conversation, Daemon } from './client';
import { openOutput, parseOutput, type OutputSink } from './build-output';
import { print } from './output';
import { knownHosts, SshAgents } from './ssh-agents';
import { parseCacheFrom, parseCacheTo } from './parse/build-cache';
import { collect } from './parse/collect';
import { defaultPlatform } from './parse/default-platform';
import { parseLabels } from './parse/labels';
import { parseUlimit } from './parse/ulimit';
import { parseBuildArgs, parseContexts, parseSecrets, parseSsh } from './parse/build-flags';

interface Flags {
  tag: string[];
  file?: string;
  target: string;
  buildArg: string[];
  label: string[];
  secret: string[];
  ssh: string[];
  buildContext: string[];
  cache: boolean;
  cacheFilter: string[];
  cacheFrom: string[];
  cacheTo: string[];
  pull: boolean;
  platform: string[];
  network: string;
  ulimit: string[];
  progress: string;
  quiet: boolean;
  iidfile?: string;
  output?: string;
  why: boolean;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] PATH|URL|-')
    .argument(
      '<path>',
      'the directory that COPY and ADD take from, or a repository: URL.git#REF:DIRECTORY; -: a Dockerfile, from stdin',
    )
    .option('-t, --tag <name[:tag]>', 'a name for the image', collect, [])
    .option('-f, --file <file>', 'the Dockerfile (default: PATH/Dockerfile); -: stdin')
    .option('--target <stage>', 'build this stage', '')
    .option('--build-arg <name[=value]>', 'give an ARG a value, or the one of the variable here', collect, [])
    .option('--label <key[=value]>', 'set a label of the image', collect, [])
    .option('--secret <id=name[,src=file|env=variable]>', 'what RUN --mount=type=secret may see', collect, [])
    .option(
      '--ssh <id[=socket|key]>',
      'an ssh agent, or keys for one: for RUN --mount=type=ssh and, as "default", for ADD of repositories',
      collect,
      [],
    )
    .option('--build-context <name=image>', 'another image under this name in FROM and --from', collect, [])
    .option('--no-cache', 'carry all steps out anew')
    .option('--no-cache-filter <stage>', 'carry the steps of this stage out anew', collect, [])
    .option(
      '--cache-from <reference|type=…>',
      'take results from this cache, too; who can write it decides what the steps yield',
      collect,
      [],
    )
    .option(
      '--cache-to <reference|type=…>',
      'write the results to this cache: type=registry, local or inline',
      collect,
      [],
    )
    .option('--pull', 'ask the registry for base images that are here', false)
    .option('--platform <os/arch,…>', "for which platforms (default: the node's); several make an index", collect, [])
    .option('--network <mode>', 'network of the steps: default, none or host', '')
    .option('--ulimit <name=soft[:hard]>', 'a limit of each process of RUN: nofile=1024:4096', collect, [])
    .option('-o, --output <type=…,dest=…>', 'image, oci, docker, tar, local or none; a path: local; -: a tar to stdout')
    .option('--progress <kind>', 'auto, plain or tty', 'auto')
    .option('-q, --quiet', 'print nothing but the id of the image', false)
    .option('--iidfile <file>', 'write the id of the image into a file')
    .option('--why', 'say of each step why it was in the cache, or was not', false)
    .addHelpText(
      'after',
      '\nExample: berth build -t app:1.2 --build-arg VERSION=1.2 .' +
        '\n         berth build --cache-from registry.example/app:cache' +
        '\n                     --cache-to type=registry,ref=registry.example/app:cache,mode=max .' +
        '\n         berth build --cache-from type=local,src=../cache --cache-to type=local,dest=../cache,mode=max .',
    )
    .action(async (path: string, flags: Flags) => {
      await build(daemon(), path, flags);
    });
}

async function build(daemon: Daemon, path: string, flags: Flags): Promise<void> {
  const input = await readBuildInput(path, flags.file);
  using _repository = { [Symbol.dispose]: () => input.dispose?.() };
  const output = parseOutput(flags.output);
  // What is wrong here is said before anything is built.
  using agents = await SshAgents.open(parseSsh(flags.ssh));
  const start = { ...startOf(flags, input, agents.sockets), output: { type: output.type } };
  const display = buildDisplay(process.stderr, flags.quiet ? 'quiet' : kindOf(flags.progress));
  const pulls = progressDisplay(process.stderr, flags.quiet || flags.progress === 'plain');
  await using to = await openOutput(output);
  const talk: Conversation<BuildRequest, BuildResponse> = daemon.converse(BuilderService.build);
  const sent = sendContext(talk, { start }, input);
  const broken = sent.then(() => new Promise<never>(() => undefined));
  const shown = show(talk, display, pulls, to).finally(() => display.ended());
  const { imageId, references } = await Promise.race([broken, shown]);
  await to.end();
  if (flags.iidfile !== undefined) writeFileSync(flags.iidfile, imageId);
  if (imageId === '') return;
  if (flags.quiet && output.type === OutputType.IMAGE) await print(`${imageId}\n`);
  else if (!flags.quiet) display.done(imageId, references.map(familiar));
}

function kindOf(progress: string): 'auto' | 'plain' | 'tty' {
  if (progress === 'auto' || progress === 'plain' || progress === 'tty') return progress;
  throw new BerthError('invalid_argument', `--progress ${progress} is not known`, { hint: 'it is auto, plain or tty' });
}

function startOf(flags: Flags, { dockerfile, dockerfileName }: BuildInput, ssh: Record<string, string>): BuildStart {
  const epoch = process.env['SOURCE_DATE_EPOCH'] ?? '';
  const byDefault = defaultPlatform() === '' ? [] : [defaultPlatform()];
  const args = parseBuildArgs(flags.buildArg);
  const given = args['SOURCE_DATE_EPOCH'] ?? epoch;
  if (given !== '' && !/^\d+$/.test(given))
    throw new BerthError('invalid_argument', `SOURCE_DATE_EPOCH=${given}: it is no number of seconds`);
  return {
    dockerfile,
    dockerfileName,
    tags: flags.tag,
    target: flags.target,
    buildArgs: args,
    labels: parseLabels(flags.label),
    noCache: !flags.cache,
    noCacheStages: flags.cacheFilter,
    pull: flags.pull,
    platforms: (flags.platform.length > 0 ? flags.platform : byDefault).flatMap(text => text.split(',')),
    secrets: parseSecrets(flags.secret),
    ssh,
    knownHosts: flags.ssh.length > 0 ? knownHosts() : Buffer.alloc(0),
    network: flags.network,
    ulimits: flags.ulimit.map(parseUlimit),
    ...(given === '' ? {} : { sourceDateEpoch: BigInt(given) }),
    contexts: parseContexts(flags.buildContext),
    output: undefined,
    why: flags.why,
    cacheFrom: parseCacheFrom(flags.cacheFrom),
    ...parseCacheTo(flags.cacheTo, args),
  };
}

/** Sends the start, then the context no faster than it is taken. */
async function sendContext(
  talk: Conversation<BuildRequest, BuildResponse>,
  start: BuildRequest,
  { context }: BuildInput,
): Promise<void> {
  await talk.say(start);
  for await (const piece of context) await talk.say({ context: piece });
  talk.end();
}

async function show(
  replies: AsyncIterable<BuildResponse>,
  display: BuildDisplay,
  pulls: ProgressDisplay,
  to: OutputSink,
): Promise<BuildDone> {
  let end: BuildDone | undefined;
  for await (const { step, log, pull, warning, data, done } of replies) {
    if (data) await to.write(data);
    if (step) display.step(step);
    if (log) display.log(log);
    if (pull) pulls.update(pull);
    if (warning !== undefined) display.warning(warning);
    end = done;
  }
  if (end) return end;
  throw new BerthError('internal', 'the daemon ended the call without saying which image it has');
}
