import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Context } from '../base/context';
import { isAbsent, messageOf } from '../base/errors';
import { tolerantly } from '../sandbox/restore';
import { Monitor, readMonitorRecord } from '../process/monitor';
import type { Container, Containers } from './containers';
import { deleteLater, GONE } from './delete-later';
import { followToExit, recordExit, recordFailure, recordLoss } from './exits';
import { runPoststart, runPoststop } from './hooks';
import { removeIfExited } from './old-cgroup';
import { removeOnceUnheld, removePod } from './pods';
import { removeContainer } from './remove';

/**
 * After a restart: a monitor that answers is met again, one that has ended left
 * its exit record, a half-made container is undone, and what no record knows is
 * removed. Nothing is dialled one by one, nothing waits for a monitor's word.
 */
export async function restoreContainers(containers: Containers, ctx: Context): Promise<void> {
  await Promise.all(
    containers.list().map(container =>
      restore(containers, ctx, container).catch((error: unknown) => {
        ctx.log.error(`could not restore a container: ${messageOf(error)}`, { container: container.record.id });
      }),
    ),
  );
  await tolerantly(ctx, 'remove what no record knows', () => removeOrphans(containers, ctx));
  await tolerantly(ctx, 'remove pods without a container', () => removeEmptyPods(containers, ctx));
  await tolerantly(ctx, 'look for what volumes have left', () => containers.volumes.sweep(ctx.log));
}

/**
 * Removes cgroups that the daemon did not come to remove when their containers
 * exited. For the background: it asks the kernel a dozen times for each container
 * that has exited, nobody waits for the answers, and mostly there is nothing.
 */
export async function removeOldCgroups(containers: Containers): Promise<void> {
  const exited = containers.list().filter(({ record }) => record.state === 'exited');
  for (const container of exited) await removeIfExited(containers, container);
}

async function restore(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { id, state, owner } = container.record;
  // The build that it was a step of has ended with the daemon.
  if (owner === 'build') return removeStep(containers, ctx, container);
  if (state === 'exited') {
    if (!existsSync(containers.paths(id).dir)) return removeContainer(containers, limited(ctx), container);
    const { autoRemove } = container.record;
    // One that was being made ready again when the daemon ended.
    if (owner === 'person' && !autoRemove) await (await meet(containers, container))?.abandon();
    // Before its removal, which waits for them.
    void runPoststop(containers, container);
    if (autoRemove) removeOnceUnheld(containers, container);
    return;
  }
  const monitor = await meet(containers, container);
  if (state === 'creating') {
    ctx.log.warn('undoing a container that was being created when the daemon ended', { container: id });
    await monitor?.abandon();
    await containers.update(container, { state: 'exited', reason: 'CreateError', exitCode: 128 });
    return removeContainer(containers, limited(ctx), container);
  }
  if (!monitor) return recordEnd(containers, container);
  container.monitor = monitor;
  followToExit(containers, container, monitor);
  if (state === 'created') noteLateStart(containers, container, monitor);
  ctx.log.info('met a container again', { container: id, state });
}

async function removeStep(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { record } = container;
  if (record.state !== 'exited') {
    await (await meet(containers, container))?.abandon();
    await containers.cgroups.kill(record.cgroupPath);
    await containers.update(container, { state: 'exited', reason: 'Error', exitCode: 137 });
  }
  const sandbox = containers.sandboxes.find(record.sandboxId);
  if (sandbox) await removePod(containers, limited(ctx), sandbox);
  else await removeContainer(containers, limited(ctx), container);
}

/** Who starts has to be ready: what a process in state D keeps is left to the next removal. */
const REMOVE_WITHIN_MS = 30_000;

function limited({ log }: Context): Context {
  return Context.of(log, { timeoutMs: REMOVE_WITHIN_MS });
}

async function meet(containers: Containers, container: Container): Promise<Monitor | undefined> {
  return meetAt(containers.paths(container.record.id).stateDir);
}

async function meetAt(stateDir: string): Promise<Monitor | undefined> {
  try {
    return await Monitor.attach(stateDir);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** The daemon may have died between the start and its record. */
function noteLateStart(containers: Containers, container: Container, monitor: Monitor): void {
  monitor.started
    .then(async startedAtNs => {
      await (container.starting = runPoststart(containers, container));
      await containers.updateFrom('created', container, { state: 'running', startedAtNs });
    })
    .catch(() => undefined);
}

async function recordEnd(containers: Containers, container: Container): Promise<void> {
  const { stateDir } = containers.paths(container.record.id);
  const left = await readMonitorRecord(stateDir);
  if (left.kind === 'failed') {
    return recordFailure(containers, container, left.error);
  }
  if (left.kind === 'none') {
    await containers.cgroups.kill(container.record.cgroupPath);
    return recordLoss(
      containers,
      container,
      'the container ended while nobody watched (a reboot, or its monitor was killed)',
    );
  }
  await recordExit(containers, container, left.exit, left.startedAtNs);
}

async function removeOrphans(containers: Containers, ctx: Context): Promise<void> {
  const known = new Set<string>(containers.list().map(({ record }) => record.id));
  for (const base of Object.values(containers.baseDirs)) {
    for (const name of await readdir(base)) {
      if (known.has(name)) continue;
      if (name.endsWith(GONE)) {
        deleteLater(containers, join(base, name));
        continue;
      }
      ctx.log.warn('removing what is left of an unknown container', { container: name });
      await tolerantly(ctx, `remove ${join(base, name)}`, () => removeOrphan(join(base, name)));
    }
  }
}

/** One that still runs, since its record was lost, nobody could ever stop. */
async function removeOrphan(dir: string): Promise<void> {
  await (await meetAt(dir))?.abandon();
  await rm(dir, { recursive: true, force: true });
}

/** A person's pod is there for its one container: the daemon ended between the two. */
async function removeEmptyPods(containers: Containers, ctx: Context): Promise<void> {
  for (const sandbox of containers.sandboxes.list()) {
    const { id, owner } = sandbox.record;
    if (owner === 'cri' || containers.ofSandbox(id).length > 0) continue;
    ctx.log.warn('removing what is left of a container that was being created or removed', { container: id });
    await removePod(containers, limited(ctx), sandbox);
  }
}
