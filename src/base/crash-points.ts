/**
 * Where the daemon can be made to die, for tests that see what a kill at this very step leaves behind. Each name says
 * what has just been done; what comes next in the code has not. To add one: name it here, call `crashPoint` there, and
 * the tests that go through this list will ask what happens.
 */
export const crashPoints = [
  /* a document: its manifest, its config */
  'pull.manifest-read',
  'content.written',
  'content.renamed',
  'pull.documents-kept',
  /* a layer */
  'layer.begun',
  'layer.unpacked',
  'layer.facts-written',
  'layer.renamed',
  'layer.kept',
  /* the image */
  'pull.layers-fetched',
  'pull.synced',
  'pull.recorded',
  'pull.flushed',
  /* its removal */
  'remove.unrecorded',
  'remove.layer-renamed',
  'remove.collected',
  'remove.deleted',
  /* a damaged layer that is fetched again */
  'heal.marked',
  'heal.synced',
  'heal.moved-aside',
  'heal.renamed',
  'heal.recorded',
  /* archives */
  'load.received',
  'load.unpacked',
  'import.received',
  'import.unpacked',
  'import.blob-adopted',
  /* a build */
  'build.packed',
  'build.synced',
  'build.recorded',
  /* a pod */
  'run.recorded',
  'run.directories-made',
  'run.pinned',
  'run.network-attached',
  'run.files-written',
  'run.cgroup-made',
  'run.ready-recorded',
  'run.kept',
  /* its network, by a bridge of berth's own */
  'bridge.made',
  'bridge.plugged',
  'bridge.published',
  'bridge.unplugged',
  'bridge.withdrawn',
  /* a container */
  'create.recorded',
  'create.directories-made',
  'create.cgroup-made',
  'create.launched',
  'create.created',
  'create.created-recorded',
  'start.sent',
  'start.running',
  'start.recorded',
  'exec.started',
  'exec.ended',
  /* a person's container that has exited and is made ready again */
  'relaunch.launched',
  'relaunch.created',
  'relaunch.recorded',
  /* its end */
  'stop.signalled',
  'stop.killed',
  'exit.heard',
  'exit.recorded',
  'exit.cgroup-removed',
  'rm.stopped',
  'rm.renamed',
  'rm.deleted',
  'rm.forgotten',
  /* the end of the pod */
  'stop-pod.closed',
  'stop-pod.containers-stopped',
  'stop-pod.init-ended',
  'stop-pod.network-detached',
  'stop-pod.unpinned',
  'rm-pod.containers-removed',
  'rm-pod.stopped',
  'rm-pod.deleted',
  'rm-pod.forgotten',
] as const;

export type CrashPoint = (typeof crashPoints)[number];

/** `BERTH_CRASH_AT=layer.renamed` ends the daemon there, `layer.renamed#2` when it comes there for the second time. */
const [chosen, nth = '1'] = (process.env['BERTH_CRASH_AT'] ?? '').split('#');
let seen = 0;

/** Ends this process as `kill -9` would, if the environment asks for it; else does nothing. */
export function crashPoint(name: CrashPoint): void {
  if (name === chosen && ++seen === Number(nth)) process.kill(process.pid, 'SIGKILL');
}
