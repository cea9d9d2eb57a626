import type { Command } from 'commander';
import type { Daemon } from './client';

interface VerbModule {
  /**
   * Adds the verb's arguments, options and action to its command. The action throws what went wrong, and sets
   * `process.exitCode` where the outcome is a number, as it is for a container's.
   */
  define(command: Command, daemon: () => Daemon): void;
}

export interface Verb {
  summary: string;
  /** Not for people: it is left out of the help. */
  isHidden?: true;
  /** The exit code for errors of berth's own. */
  errorCode: number;
  /** Each verb is a module of its own, loaded when it is asked for: most of a short call's time is loading. */
  load(): Promise<VerbModule>;
}

/** Verbs with a word before them: `berth image ls`. */
export interface Group {
  summary: string;
  /** For its help. */
  example: string;
  verbs: Readonly<Record<string, Verb>>;
}

/** What `berth image` does, under the names that docker has for it. */
const imageVerbs: Readonly<Record<string, Verb>> = {
  ls: { summary: 'List images', errorCode: 1, load: () => import('./images.js') },
  build: { summary: 'Build an image from a Dockerfile', errorCode: 1, load: () => import('./build.js') },
  pull: { summary: 'Fetch an image from a registry', errorCode: 1, load: () => import('./pull.js') },
  push: { summary: 'Bring an image to a registry', errorCode: 1, load: () => import('./push.js') },
  load: { summary: 'Take images out of an archive', errorCode: 1, load: () => import('./load.js') },
  save: { summary: 'Write images as an archive', errorCode: 1, load: () => import('./save.js') },
  import: { summary: 'Make an image of a file system in a tar', errorCode: 1, load: () => import('./image-import.js') },
  inspect: { summary: 'Show all that is known of images', errorCode: 1, load: () => import('./image-inspect.js') },
  tag: { summary: 'Give an image one more name', errorCode: 1, load: () => import('./tag.js') },
  history: { summary: 'Show what an image was built of', errorCode: 1, load: () => import('./history.js') },
  explore: {
    summary: 'Show what each layer of an image did, and what is wasted',
    errorCode: 2,
    load: () => import('./image-explore.js'),
  },
  diff: { summary: 'Show what is not the same in two images', errorCode: 2, load: () => import('./image-diff.js') },
  rm: { summary: 'Remove images', errorCode: 1, load: () => import('./rmi.js') },
  prune: { summary: 'Remove images that no container uses', errorCode: 1, load: () => import('./prune.js') },
};

const networkVerbs: Readonly<Record<string, Verb>> = {
  ls: { summary: 'List networks', errorCode: 1, load: () => import('./network-ls.js') },
  inspect: { summary: 'Show all that is known of networks', errorCode: 1, load: () => import('./network-inspect.js') },
  check: {
    summary: 'See whether pods still have their networks as they were made',
    errorCode: 2,
    load: () => import('./network-check.js'),
  },
};

/** What people's scripts call `docker container …`, beside the same verbs without the word. */
const containerVerbs: Readonly<Record<string, Verb>> = {
  ls: { summary: "List containers, the kubelet's too", errorCode: 1, load: () => import('./ps.js') },
  run: { summary: 'Create a container from an image and start it', errorCode: 125, load: () => import('./run.js') },
  create: { summary: 'Create a container, ready to start', errorCode: 1, load: () => import('./create.js') },
  start: { summary: 'Start containers', errorCode: 1, load: () => import('./start.js') },
  stop: { summary: 'Stop running containers', errorCode: 1, load: () => import('./stop.js') },
  restart: { summary: 'Stop containers and start them again', errorCode: 1, load: () => import('./restart.js') },
  exec: { summary: 'Run one more command in a running container', errorCode: 1, load: () => import('./exec.js') },
  logs: { summary: 'Show what a container has written', errorCode: 1, load: () => import('./logs.js') },
  cp: { summary: 'Copy files between containers and the node', errorCode: 1, load: () => import('./cp.js') },
  attach: { summary: 'Sit down before a running container', errorCode: 1, load: () => import('./attach.js') },
  kill: { summary: 'Send a signal to running containers', errorCode: 1, load: () => import('./kill.js') },
  pause: { summary: 'Hold all processes of containers still', errorCode: 1, load: () => import('./pause.js') },
  unpause: { summary: 'Let paused containers go on', errorCode: 1, load: () => import('./unpause.js') },
  wait: { summary: 'Wait until containers have exited', errorCode: 1, load: () => import('./wait.js') },
  top: { summary: 'Show the processes of a container', errorCode: 1, load: () => import('./top.js') },
  stats: { summary: 'Show what containers use', errorCode: 1, load: () => import('./stats.js') },
  port: { summary: 'Show which ports of the node lead to a container', errorCode: 1, load: () => import('./port.js') },
  diff: {
    summary: "Show what a container has changed in its image's files",
    errorCode: 1,
    load: () => import('./diff.js'),
  },
  commit: { summary: 'Make an image of what a container has changed', errorCode: 1, load: () => import('./commit.js') },
  inspect: {
    summary: 'Show all that is known of containers',
    errorCode: 1,
    load: () => import('./container-inspect.js'),
  },
  rename: { summary: 'Give a container another name', errorCode: 1, load: () => import('./rename.js') },
  rm: { summary: 'Remove containers', errorCode: 1, load: () => import('./rm.js') },
  prune: {
    summary: 'Remove containers that do not run',
    errorCode: 1,
    load: () => import('./prune-containers.js'),
  },
};

const volumeVerbs: Readonly<Record<string, Verb>> = {
  ls: { summary: 'List volumes', errorCode: 1, load: () => import('./volume-ls.js') },
  create: { summary: 'Make a volume', errorCode: 1, load: () => import('./volume-create.js') },
  inspect: { summary: 'Show all that is known of volumes', errorCode: 1, load: () => import('./volume-inspect.js') },
  rm: { summary: 'Remove volumes, with all that is in them', errorCode: 1, load: () => import('./volume-rm.js') },
  prune: { summary: 'Remove volumes that no container has', errorCode: 1, load: () => import('./prune-volumes.js') },
};

const registryVerbs: Readonly<Record<string, Verb>> = {
  explain: {
    summary: 'Show which registries a pull would ask, and what they answer',
    errorCode: 1,
    load: () => import('./registry-explain.js'),
  },
};

const systemVerbs: Readonly<Record<string, Verb>> = {
  df: { summary: 'Show what is taken on the disk', errorCode: 1, load: () => import('./df.js') },
  info: { summary: 'Show what this node and its daemon are', errorCode: 1, load: () => import('./info.js') },
  prune: {
    summary: 'Remove what nobody uses: containers, images, volumes',
    errorCode: 1,
    load: () => import('./prune-system.js'),
  },
};

const builderVerbs: Readonly<Record<string, Verb>> = {
  build: { summary: 'Build an image from a Dockerfile', errorCode: 1, load: () => import('./build.js') },
  prune: { summary: 'Forget the results of build steps', errorCode: 1, load: () => import('./builder-prune.js') },
};

/** In the order of the help. For `run`, 1 is a code that the container's command may well have. */
export const verbs: Readonly<Record<string, Verb | Group>> = {
  run: { summary: 'Create a container from an image and start it', errorCode: 125, load: () => import('./run.js') },
  create: { summary: 'Create a container, ready to start', errorCode: 1, load: () => import('./create.js') },
  start: {
    summary: 'Start containers that wait for it or have exited',
    errorCode: 1,
    load: () => import('./start.js'),
  },
  exec: { summary: 'Run one more command in a running container', errorCode: 1, load: () => import('./exec.js') },
  attach: { summary: 'Sit down before a running container', errorCode: 1, load: () => import('./attach.js') },
  ps: { summary: "List containers, the kubelet's too", errorCode: 1, load: () => import('./ps.js') },
  logs: { summary: 'Show what a container has written', errorCode: 1, load: () => import('./logs.js') },
  stats: { summary: 'Show what containers use', errorCode: 1, load: () => import('./stats.js') },
  top: { summary: 'Show the processes of a container', errorCode: 1, load: () => import('./top.js') },
  events: {
    summary: 'Show what happens to containers, pods and images',
    errorCode: 1,
    load: () => import('./events.js'),
  },
  port: { summary: 'Show which ports of the node lead to a container', errorCode: 1, load: () => import('./port.js') },
  stop: { summary: 'Stop running containers', errorCode: 1, load: () => import('./stop.js') },
  restart: { summary: 'Stop containers and start them again', errorCode: 1, load: () => import('./restart.js') },
  kill: { summary: 'Send a signal to running containers', errorCode: 1, load: () => import('./kill.js') },
  pause: { summary: 'Hold all processes of containers still', errorCode: 1, load: () => import('./pause.js') },
  unpause: { summary: 'Let paused containers go on', errorCode: 1, load: () => import('./unpause.js') },
  wait: { summary: 'Wait until containers have exited', errorCode: 1, load: () => import('./wait.js') },
  diff: {
    summary: "Show what a container has changed in its image's files",
    errorCode: 1,
    load: () => import('./diff.js'),
  },
  cp: { summary: 'Copy files between containers and the node', errorCode: 1, load: () => import('./cp.js') },
  rename: { summary: 'Give a container another name', errorCode: 1, load: () => import('./rename.js') },
  rm: { summary: 'Remove containers', errorCode: 1, load: () => import('./rm.js') },
  build: { summary: 'Build an image from a Dockerfile', errorCode: 1, load: () => import('./build.js') },
  commit: {
    summary: 'Make an image of what a container has changed',
    errorCode: 1,
    load: () => import('./commit.js'),
  },
  pull: { summary: 'Fetch an image from a registry', errorCode: 1, load: () => import('./pull.js') },
  push: { summary: 'Bring an image to a registry', errorCode: 1, load: () => import('./push.js') },
  login: { summary: 'Log in to a registry', errorCode: 1, load: () => import('./login.js') },
  logout: { summary: 'Forget the login to a registry', errorCode: 1, load: () => import('./logout.js') },
  pulls: { summary: "Show the pulls that run, the kubelet's too", errorCode: 1, load: () => import('./pulls.js') },
  import: {
    summary: 'Take an image from a directory in the OCI layout',
    errorCode: 1,
    load: () => import('./import.js'),
  },
  load: { summary: 'Take images out of an archive', errorCode: 1, load: () => import('./load.js') },
  save: { summary: 'Write images as an archive', errorCode: 1, load: () => import('./save.js') },
  images: { summary: 'List images', errorCode: 1, load: () => import('./images.js') },
  tag: { summary: 'Give an image one more name', errorCode: 1, load: () => import('./tag.js') },
  history: { summary: 'Show what an image was built of', errorCode: 1, load: () => import('./history.js') },
  rmi: { summary: 'Remove images', errorCode: 1, load: () => import('./rmi.js') },
  inspect: {
    summary: 'Show all that is known of containers and images',
    errorCode: 1,
    load: () => import('./inspect.js'),
  },
  pods: { summary: "List the kubelet's pods", errorCode: 1, load: () => import('./pods.js') },
  inspectp: { summary: 'Show all that is known of pods', errorCode: 1, load: () => import('./inspectp.js') },
  info: { summary: 'Show what this node and its daemon are', errorCode: 1, load: () => import('./info.js') },
  check: {
    summary: 'See whether all that images have on the disk is sound',
    errorCode: 2,
    load: () => import('./check.js'),
  },
  container: { summary: 'Work with containers', example: 'berth container prune', verbs: containerVerbs },
  volume: {
    summary: 'Work with directories that containers share by a name',
    example: 'berth volume ls',
    verbs: volumeVerbs,
  },
  image: { summary: 'Work with images', example: 'berth image ls alpine', verbs: imageVerbs },
  network: { summary: 'Look at networks', example: 'berth network inspect berth', verbs: networkVerbs },
  registry: {
    summary: 'Look at registries',
    example: 'berth registry explain registry.example/app:1',
    verbs: registryVerbs,
  },
  builder: { summary: 'Look after what builds leave', example: 'berth builder prune', verbs: builderVerbs },
  system: { summary: 'Look at the whole', example: 'berth system df', verbs: systemVerbs },
  completion: {
    summary: 'Print a script that completes berth in a shell',
    errorCode: 1,
    load: () => import('./completion.js'),
  },
  __complete: { summary: '', isHidden: true, errorCode: 1, load: () => import('./complete.js') },
  version: {
    summary: 'Show the versions of berth and of the daemon',
    errorCode: 1,
    load: () => import('./version.js'),
  },
};
