import { mkdir, rm } from 'node:fs/promises';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { Rollback } from '../base/rollback';
import { containerSpec } from '../oci/container-spec';
import { launchPlan } from '../oci/launch-plan';
import { withRunOptions } from '../oci/run-options';
import { specToJson, type Spec } from '../oci/spec';
import { Monitor } from '../process/monitor';
import { reviveSandbox } from '../sandbox/revive';
import type { Sandbox } from '../sandbox/sandboxes';
import { confine } from './confine';
import type { Container, Containers } from './containers';
import { imageOf, makeCgroup, podFacts } from './create';
import { followToExit } from './exits';
import { laterHooks, prepareHooks, runHostHooks, runPoststop } from './hooks';
import { deviceFacts, hostFacts } from './host-facts';
import { imageVolumes, volumeImages } from './image-volumes';
import { pidNamespace } from './pid-namespace';
import { containerLabels } from './selinux';

/** As for a creation. */
const RELAUNCH_WITHIN_MS = 100_000;

/**
 * Makes a person's container that has exited ready to start again: the same id, name, writable layer and log, the
 * configuration that it was created with. Nothing happens to one that is ready or runs. Throws `failed_precondition` for
 * the kubelet's, which makes new ones, and for one whose image is gone.
 */
export async function relaunchContainer(containers: Containers, container: Container): Promise<void> {
  const { id } = container.record;
  // What it makes does not depend on who asked: another may have joined.
  const ctx = Context.of(containers.log, { timeoutMs: RELAUNCH_WITHIN_MS });
  await containers.locks.run(id, async () => {
    if (container.record.state !== 'exited') return;
    assertMayReturn(containers, container);
    ctx.stage('wait until what the last run has left is gone');
    await ctx.race(container.ending ?? Promise.resolve());
    await ctx.race(runPoststop(containers, container));
    await relaunch(containers, ctx, container);
  });
}

function assertMayReturn(containers: Containers, container: Container): void {
  const { id, name, owner, autoRemove, state } = container.record;
  const refuse = (why: string, hint: string) =>
    new BerthError('failed_precondition', `container ${name ?? id} has exited and cannot be started again: ${why}`, {
      hint,
    });
  if (owner !== 'person') throw refuse("it is the kubelet's", 'the kubelet makes a new one');
  if (autoRemove || containers.find(id) !== container) throw refuse('it is being removed', 'create a new one');
  if (state !== 'exited') throw refuse(`it is ${state}`, 'try again');
}

async function relaunch(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { record } = container;
  const paths = containers.paths(record.id);
  const sandbox = containers.sandboxes.get(record.sandboxId);
  ctx.stage('bring its namespaces back');
  await reviveSandbox(containers.sandboxes, ctx, sandbox);
  ctx.stage('set up the container (a mount source or the log may lie on a file system that does not answer)');
  const { spec, filter, lowers } = await ctx.race(makeSpec(containers, ctx, container, sandbox));
  await using undo = new Rollback(ctx.log);
  // The records of the last run; its log is elsewhere.
  await rm(paths.stateDir, { recursive: true, force: true });
  await mkdir(paths.stage, { recursive: true, mode: 0o700 });
  const placement = await undo.step(
    'cgroup',
    () => makeCgroup(containers, record, spec.linux),
    () => containers.cgroups.remove(record.cgroupPath),
    { alsoIfActFailed: true },
  );
  const stdin = container.config.stdin && container.config.stdinOnce ? 'once' : container.config.stdin;
  const rootfs = { lowers, upper: paths.upper, work: paths.work, stage: paths.stage, isVolatile: false };
  const annotations = { ...sandbox.config.annotations, ...container.config.annotations };
  const where = { id: record.id, stateDir: paths.stateDir, rootPath: paths.stage, annotations };
  const hooks = await prepareHooks(spec, where);
  const log = { path: record.logPath, maxLineBytes: containers.logLineBytes };
  const plan = launchPlan(spec, rootfs, placement, log, stdin, filter, hooks);
  if (hooks) {
    const runAfter = () => runPoststop(containers, container);
    await undo.step('hooks', () => containers.update(container, laterHooks(spec)), runAfter);
  }
  const monitor = await undo.step(
    'monitor',
    () => Monitor.launch(plan, paths.stateDir, record.id),
    launched => launched?.abandon(),
  );
  crashPoint('relaunch.launched');
  if (hooks) await runHostHooks(ctx, spec, hooks.state, monitor);
  const created = await ctx.race(monitor.created);
  crashPoint('relaunch.created');
  container.monitor = monitor;
  delete container.oomKillsBeforeKill;
  await containers.update(container, {
    state: 'created',
    process: { pid: created.pid, pidStartTime: created.pidStartTime },
    user: { uid: created.uid, gid: created.gid, groups: created.groups },
    spec: specToJson(spec),
    startedAtNs: 0n,
    finishedAtNs: 0n,
    exitCode: 0,
    signal: undefined,
    reason: '',
    message: '',
    timings: undefined,
    seccomp: filter,
  });
  crashPoint('relaunch.recorded');
  undo.commit();
  followToExit(containers, container, monitor);
  ctx.log.info('container is ready to start again', { container: record.id });
}

/** What it was created with, on the host as it is now. */
async function makeSpec(
  containers: Containers,
  ctx: Context,
  { record, config, options }: Container,
  sandbox: Sandbox,
) {
  const devices = await deviceFacts(config, containers.cdiDirs);
  const image = imageOf(containers, sandbox, config);
  await containers.images.ready(ctx, image);
  const volumes = await volumeImages(containers, ctx, config.mounts);
  assertSameLayers(record.imageVolumes ?? [], imageVolumes(config.mounts, volumes));
  const labels = await containerLabels(sandbox, config, ctx.log);
  const host = hostFacts(containers, devices, image, volumes, containers.paths(record.id).dir, labels);
  const pid = pidNamespace(containers, sandbox, config);
  const spec = containerSpec(config, image.config, podFacts(containers, sandbox, pid, record, options), host);
  withRunOptions(spec, options);
  keepVolumes(spec);
  const filter = await confine(containers, spec, config, labels, ctx.log);
  return { spec, filter, lowers: containers.images.lowerDirs(image) };
}

/** The layers that the record holds are those that may be used. */
function assertSameLayers(held: readonly { imageId: string }[], found: readonly { imageId: string }[]): void {
  if (held.every(({ imageId }, i) => found[i]?.imageId === imageId)) return;
  throw new BerthError('failed_precondition', 'the name of an image that is mounted means another image now', {
    hint: 'create a new container',
  });
}

/** The anonymous volumes have been filled when the container was created. */
function keepVolumes(spec: Spec): void {
  for (const mount of spec.mounts) delete mount.copyUp;
}
