/** What may come next on a command line: the answers to the scripts of completion.ts. */
import { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { familiar } from './format/names';
import { print } from './output';
import { nameOf } from './ps';
import { verbs, type Group, type Verb } from './verbs';

/** Nobody waits longer for a key. */
const WITHIN_MS = 2000;

export function define(command: Command, daemon: () => Daemon): void {
  command.argument('[words...]').action(async (words: string[]) => {
    const late = new Promise<string[]>(resolve => setTimeout(() => resolve([]), WITHIN_MS).unref());
    // Whatever goes wrong, a shell has nothing to say about it.
    const found = await Promise.race([candidates(words, daemon).catch(() => []), late]);
    await print(found.map(one => `${one}\n`).join(''));
  });
}

/** For the last of the words, which may be empty. */
async function candidates(words: readonly string[], daemon: () => Daemon): Promise<string[]> {
  const rest = [...words];
  const last = rest.pop() ?? '';
  let those: Readonly<Record<string, Verb | Group>> = verbs;
  const path: string[] = [];
  for (const word of rest) {
    if (word.startsWith('-')) continue;
    const verb = those[word];
    if (!verb) continue;
    path.push(word);
    if ('verbs' in verb) those = verb.verbs;
    else return (await ofVerb(path.join(' '), verb, rest, last, daemon)).filter(one => one.startsWith(last));
  }
  const shown = Object.entries(those).filter(([, verb]) => !('isHidden' in verb));
  return shown.map(([name]) => name).filter(name => name.startsWith(last));
}

async function ofVerb(
  path: string,
  verb: Verb,
  before: readonly string[],
  last: string,
  daemon: () => Daemon,
): Promise<string[]> {
  if (last.startsWith('-')) {
    const command = new Command(path);
    (await verb.load()).define(command, daemon);
    return [...command.options.flatMap(({ long, short }) => [long, short]), '--help'].filter(
      flag => flag !== undefined && flag !== null,
    );
  }
  const kind = subjects[path];
  // Of `run` and `create` the image is the first word, and all behind it is the container's.
  if (!kind || (/(^| )(run|create)$/.test(path) && hasArgument(before, path))) return [];
  return await names[kind](daemon());
}

/** True when a word behind the verb is no flag; a flag's value may be taken for one, and then nothing is offered. */
function hasArgument(before: readonly string[], path: string): boolean {
  return before.slice(path.split(' ').length).some(word => !word.startsWith('-'));
}

type Kind = 'all' | 'running' | 'stopped' | 'images' | 'volumes' | 'pods';

const names: Readonly<Record<Kind, (daemon: Daemon) => Promise<string[]>>> = {
  all: daemon => containers(daemon, true),
  running: daemon => containers(daemon, false),
  stopped: async daemon => {
    const running = new Set(await containers(daemon, false));
    return (await containers(daemon, true)).filter(name => !running.has(name));
  },
  images: async daemon => {
    const { images } = await daemon.ask(BerthService.listImages, { labels: [] });
    return images.flatMap(({ repoTags }) => repoTags.map(familiar));
  },
  volumes: async daemon => {
    const { volumes } = await daemon.ask(ContainersService.listVolumes, { sizes: false });
    return volumes.map(({ name }) => name);
  },
  pods: async daemon => {
    const { pods } = await daemon.ask(ContainersService.listPods, {});
    return pods.map(({ namespace, name }) => `${namespace}/${name}`);
  },
};

async function containers(daemon: Daemon, all: boolean): Promise<string[]> {
  return (await daemon.ask(BerthService.listContainers, { all })).containers.map(nameOf);
}

/** What a verb's arguments name. */
const subjects: Readonly<Record<string, Kind>> = {
  ...each('running', 'exec', 'attach', 'stop', 'kill', 'pause', 'unpause', 'top', 'stats'),
  ...each('stopped', 'start'),
  ...each('all', 'rm', 'logs', 'inspect', 'restart', 'rename', 'wait', 'cp', 'diff', 'port', 'commit'),
  ...each('images', 'run', 'create', 'pull', 'tag', 'rmi', 'save', 'history', 'push'),
  ...each('pods', 'inspectp'),
  ...each('running', 'container stop', 'container exec'),
  ...each('stopped', 'container start'),
  ...each(
    'all',
    'container rm',
    'container logs',
    'container inspect',
    'container restart',
    'container rename',
    'container cp',
  ),
  ...each(
    'images',
    'container run',
    'container create',
    'image inspect',
    'image rm',
    'image tag',
    'image save',
    'image history',
    'image explore',
    'image diff',
  ),
  ...each('volumes', 'volume rm', 'volume inspect'),
};

function each(kind: Kind, ...paths: string[]): Record<string, Kind> {
  return Object.fromEntries(paths.map(path => [path, kind]));
}
