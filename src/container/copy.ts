import { closeSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import type { Socket } from 'node:net';
import { anySignal } from '../base/any-signal';
import type { Context } from '../base/context';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import { COPY_FLAGS, COPY_NOT_THERE, copyPlan, type CopyOp, type CopyPlace } from '../oci/copy-plan';
import type { MountSpec } from '../oci/spec';
import { startExec } from '../process/exec';
import { openProcess, startTimeOf } from '../process/identity';
import type { Container, Containers } from './containers';

/** Of a copy's complaint, so much is kept. */
const COMPLAINT_BYTES = 4096;

/** So much of a tar waits for whoever takes it. */
const BUFFER_BYTES = 1024 * 1024;

/** Takes the tar, piece by piece; the promise holds back what follows. */
export type TarSink = (chunk: Buffer) => Promise<void>;

/** Gives the tar, piece by piece; undefined at its end. */
export type TarSource = () => Promise<Buffer | undefined>;

/** Whom the copies belong to: as they did where they come from, or to one user. */
export type Owner = 'kept' | { uid: number; gid: number };

/** The files of one container, or of the node, as a copy sees them. */
interface Place {
  what: string;
  files: CopyPlace;
  /** A pidfd; the caller's to close. */
  target: number;
}

/** `container:path` to a path of the node, by the rules of `cp -r`. */
export async function copyToNode(
  containers: Containers,
  ctx: Context,
  container: Container,
  from: { path: string; follow: boolean },
  to: { path: string; owner: Owner },
): Promise<void> {
  await withPlaces(containers, container, async (inside, node) => {
    const source = await look(ctx, inside, from.path, from.follow);
    if (!source) throw notThere(inside, from.path);
    const { dir, name } = destination(from.path, source, to.path, await kindOnNode(to.path), node.what);
    ctx.stage(`copy ${from.path}`);
    await pipe(
      ctx,
      inside,
      { op: 'COPY_OUT', path: from.path, name, flags: flagsOf(from.follow) },
      node,
      // A device or a link of a container's has no business on the node's disk beyond the directory that is copied to.
      copyIn(dir, '', to.owner, COPY_FLAGS.noDevices),
    );
  });
}

/** A path of the node to `container:path`. */
export async function copyFromNode(
  containers: Containers,
  ctx: Context,
  container: Container,
  from: { path: string; follow: boolean },
  to: { path: string; owner: Owner },
): Promise<void> {
  await withPlaces(containers, container, async (inside, node) => {
    const source = await look(ctx, node, from.path, from.follow);
    if (!source) throw notThere(node, from.path);
    const { dir, name } = destination(from.path, source, to.path, await look(ctx, inside, to.path, true), inside.what);
    ctx.stage(`copy ${from.path}`);
    const out = { op: 'COPY_OUT', path: from.path, name, flags: flagsOf(from.follow) } as const;
    await pipe(ctx, node, out, inside, copyIn('/', dir, to.owner, 0));
  });
}

/** A tar of what is at a path of the container's. */
export async function copyOut(
  containers: Containers,
  ctx: Context,
  container: Container,
  from: { path: string; follow: boolean },
  sink: TarSink,
): Promise<void> {
  await withPlaces(containers, container, async inside => {
    ctx.stage(`copy ${from.path}`);
    const name = isContentOf(from.path) ? '' : posix.basename(posix.normalize(from.path));
    const op = { op: 'COPY_OUT', path: from.path, name, flags: flagsOf(from.follow) } as const;
    const copy = await start(ctx, inside, op, sink);
    await copy.end;
  });
}

/** What is in a tar, into a directory of the container's that is there. */
export async function copyInto(
  containers: Containers,
  ctx: Context,
  container: Container,
  to: { path: string; owner: Owner },
  source: TarSource,
): Promise<void> {
  await withPlaces(containers, container, async inside => {
    const kind = await look(ctx, inside, to.path, true);
    if (!kind) throw notThere(inside, to.path);
    if (kind !== 'directory') {
      throw new BerthError('failed_precondition', `${inside.what}:${to.path} is no directory, which a tar needs`);
    }
    ctx.stage(`copy into ${to.path}`);
    const copy = await start(ctx, inside, copyIn('/', to.path, to.owner, 0));
    const feeding = (async () => {
      for (let chunk; (chunk = await source()) !== undefined;) await feed(copy.stdin, chunk);
      copy.stdin?.end();
    })();
    // Its own complaint says more than that nobody takes the rest.
    await Promise.race([copy.end, feeding.then(() => copy.end)]);
  });
}

/* ---- paths ---- */

type Kind = 'directory' | 'other';

/** Where a copy goes: into which directory, and what it is called there; an empty name: the content alone. */
function destination(
  source: string,
  sourceKind: Kind,
  target: string,
  targetKind: Kind | undefined,
  what: string,
): { dir: string; name: string } {
  const isContent = isContentOf(source) && sourceKind === 'directory';
  if (targetKind === 'directory')
    return { dir: target, name: isContent ? '' : posix.basename(posix.normalize(source)) };
  const place = posix.normalize(target).replace(/(?<=.)\/$/, '');
  if (targetKind === 'other' && sourceKind === 'directory') {
    throw new BerthError(
      'invalid_argument',
      `copy ${source}: a directory cannot take the place of the file ${what}:${target}`,
    );
  }
  if (target.endsWith('/') && sourceKind !== 'directory') {
    throw new BerthError('not_found', `there is no directory ${what}:${target}`, { hint: 'make it first' });
  }
  return { dir: posix.dirname(place), name: posix.basename(place) };
}

/** `/dir/.` is what is in /dir, and the root has no name. */
function isContentOf(source: string): boolean {
  return source.endsWith('/.') || posix.normalize(source) === '/';
}

async function kindOnNode(path: string): Promise<Kind | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'other';
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw new BerthError('invalid_argument', `look at ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function notThere(place: Place, path: string): BerthError {
  return new BerthError('not_found', `there is no ${place.what}:${path}`);
}

function flagsOf(follow: boolean): number {
  return follow ? COPY_FLAGS.follow : 0;
}

function copyIn(root: string, dir: string, owner: Owner, flags: number): CopyOp {
  const { uid, gid } = owner === 'kept' ? { uid: 0, gid: 0 } : owner;
  return { op: 'COPY_IN', root, dir, flags: flags | (owner === 'kept' ? COPY_FLAGS.keepOwner : 0), uid, gid };
}

/* ---- processes ---- */

/** A copy under way. */
interface Copy {
  stdin: Socket | undefined;
  /** Rejects with the copy's own complaint. */
  end: Promise<void>;
}

/** What is at a path; undefined when nothing is. */
async function look(ctx: Context, place: Place, path: string, follow: boolean): Promise<Kind | undefined> {
  ctx.stage(`look at ${path}`);
  let said = '';
  try {
    const copy = await start(ctx, place, { op: 'COPY_STAT', path, flags: flagsOf(follow) }, chunk => {
      said += chunk.toString('latin1');
      return Promise.resolve();
    });
    await copy.end;
  } catch (error) {
    if (error instanceof BerthError && error.kind === 'not_found') return undefined;
    throw error;
  }
  return said.startsWith('d') ? 'directory' : 'other';
}

/** What one process writes, another takes. */
async function pipe(ctx: Context, from: Place, out: CopyOp, to: Place, into: CopyOp): Promise<void> {
  const refused = new AbortController();
  const taking = await start(ctx, to, into);
  let isGiving = true;
  // What nobody takes is not read to its end.
  taking.end.catch((error: unknown) => isGiving && refused.abort(error));
  const giving = await start(ctx, from, out, chunk => feed(taking.stdin, chunk), refused.signal).catch(
    (error: unknown) => {
      taking.stdin?.destroy(); // it would wait for ever
      throw error;
    },
  );
  const given = giving.end.finally(() => {
    isGiving = false;
    taking.stdin?.end();
  });
  const results = await Promise.allSettled([given, taking.end]);
  refused.signal.throwIfAborted();
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function start(ctx: Context, place: Place, op: CopyOp, sink?: TarSink, broken?: AbortSignal): Promise<Copy> {
  let complaint = '';
  const exec = await startExec({
    plan: copyPlan(place.files, op),
    target: place.target,
    name: 'copy',
    stdin: op.op === 'COPY_IN',
    signal: broken ? anySignal([ctx.signal, broken]) : ctx.signal,
    onOutput: (stream, chunk) => {
      // A copy: its taker keeps it until it is written, and its memory is used again before that.
      if (stream === 'stdout') return sink?.(Buffer.from(chunk));
      complaint = (complaint + chunk.toString('utf8')).slice(0, COMPLAINT_BYTES);
      return undefined;
    },
  });
  const end = exec.exited.then(({ exitCode }) => {
    ctx.throwIfEnded();
    if (exitCode === 0) return;
    const kind = exitCode === COPY_NOT_THERE ? 'not_found' : 'failed_precondition';
    throw new BerthError(kind, `copy ${place.what}:${complaint.trim() || `it ended with ${exitCode}`}`);
  });
  end.catch(() => undefined);
  return { stdin: exec.stdin, end };
}

async function feed(stdin: Socket | undefined, chunk: Buffer): Promise<void> {
  if (!stdin || stdin.destroyed || stdin.writableEnded) return;
  stdin.write(chunk);
  if (stdin.writableLength <= BUFFER_BYTES) return;
  await new Promise<void>(resolve => {
    const done = () => {
      stdin.off('drain', done).off('close', done);
      resolve();
    };
    stdin.on('drain', done).on('close', done);
  });
}

/* ---- places ---- */

/** A container that has exited does not start while somebody copies: its files would be mounted twice. */
async function withPlaces(
  containers: Containers,
  container: Container,
  work: (inside: Place, node: Place) => Promise<void>,
): Promise<void> {
  const { id } = container.record;
  if (container.record.state === 'exited') {
    return containers.locks.run(id, () =>
      isStill(container) ? workOn(containers, container, work) : Promise.reject(moved(id)),
    );
  }
  return workOn(containers, container, work);
}

function isStill({ record }: Container): boolean {
  return record.state === 'exited';
}

function moved(id: string): BerthError {
  return new BerthError('aborted', `container ${id} was started meanwhile`, { hint: 'try again' });
}

async function workOn(
  containers: Containers,
  container: Container,
  work: (inside: Place, node: Place) => Promise<void>,
): Promise<void> {
  const self = startTimeOf(process.pid);
  const own = self === undefined ? undefined : openProcess(process.pid, self);
  if (own === undefined) throw new BerthError('internal', 'the daemon has no process of its own in /proc');
  const inside = await placeOf(containers, container, own);
  try {
    await work(inside, { what: 'node', files: { kind: 'node' }, target: own });
  } finally {
    for (const fd of new Set([own, inside.target])) closeSync(fd);
  }
}

async function placeOf(containers: Containers, { record }: Container, own: number): Promise<Place> {
  const { id, process, spec } = record;
  const what = record.name ?? id.slice(0, 12);
  const target = process && record.state !== 'exited' ? openProcess(process.pid, process.pidStartTime) : undefined;
  const userns = containers.sandboxes.find(record.sandboxId)?.record.userns;
  if (target !== undefined) return { what, files: { kind: 'process', userns }, target };
  if (record.state !== 'exited' || spec === undefined)
    throw new BerthError('failed_precondition', `container ${what} has just ended`, { hint: 'try again' });
  if (userns) {
    throw new BerthError(
      'failed_precondition',
      `container ${what} has exited, and its user namespace keeps its files from being looked at`,
      { hint: 'start it first' },
    );
  }
  const { upper, work, stage } = containers.paths(id);
  const ofPod = containers.sandboxes.paths(record.sandboxId).dir;
  const { mounts } = JSON.parse(spec) as { mounts: MountSpec[] };
  await mkdir(stage, { recursive: true, mode: 0o700 });
  const rootfs = { lowers: lowersOf(containers, record.imageId), upper, work, stage, isVolatile: false };
  return {
    what,
    files: { kind: 'files', rootfs, mounts: mounts.filter(({ source }) => !source.startsWith(`${ofPod}/`)) },
    target: own,
  };
}

function lowersOf({ images }: Containers, imageId: string): readonly string[] {
  const image = images.find(imageId);
  if (image) return images.lowerDirs(image);
  throw new BerthError('failed_precondition', 'the image of the container was removed, and with it its files');
}
