import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../../../src/base/context';
import { silentLogger as log } from '../../../src/base/log';
import type { Container } from '../../../src/container/containers';
import { fillVolumes } from '../../../src/container/fill-volumes';
import { Volumes } from '../../../src/container/volumes';
import type { MountSpec } from '../../../src/oci/spec';

describe('volumes', () => {
  let dir: string;
  let volumes: Volumes;
  let users: { config: { mounts: { hostPath: string }[] } }[];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-volumes-'));
    volumes = new Volumes(dir);
    users = [];
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  /** What a container that is created now with these mounts does. */
  const create = async (...paths: string[]) => createWith(paths);
  const createWith = async (paths: string[], unfilled: string[] = []) => {
    const mounts = paths.map((source, i) => ({ source, destination: `/${i}` }) as MountSpec);
    const containers = { volumes, list: () => users as Container[] };
    const filling = await fillVolumes(containers, Context.of(log), { mounts }, unfilled);
    return { filling, takes: mounts.map(({ copyUp = false }) => copyUp) };
  };
  const put = (path: string, name: string) => writeFileSync(join(path, name), '');

  it('are filled by one container at a time, and once', async () => {
    const { path } = await volumes.provide('data');
    const { path: other } = await volumes.provide('other');
    const first = await create(path, other);
    assert.deepEqual(first.takes, [true, true]);
    let isSecondIn = false;
    const second = create(other, path).finally(() => (isSecondIn = true));
    // Another one has gone all the way meanwhile.
    await (await create((await volumes.provide('third')).path)).filling[Symbol.asyncDispose]();
    assert.equal(isSecondIn, false);
    put(path, 'file');
    await first.filling.done();
    await first.filling[Symbol.asyncDispose]();
    const { filling, takes } = await second;
    assert.deepEqual(takes, [true, false]);
    await filling[Symbol.asyncDispose]();
  });

  it('have what the image has in the first of several places', async () => {
    const { path } = await volumes.provide('data');
    const { filling, takes } = await create(path, path);
    assert.deepEqual(takes, [true, false]);
    await filling[Symbol.asyncDispose]();
  });

  it('are left empty where it is asked for, and filled by who comes next', async () => {
    const { path } = await volumes.provide('data');
    const { path: other } = await volumes.provide('other');
    const { filling, takes } = await createWith([path, other], ['/x/..//0/']);
    assert.deepEqual(takes, [false, true]);
    await filling.done();
    const next = await create(path); // and need not wait for the other one
    assert.deepEqual(next.takes, [true]);
    await next.filling[Symbol.asyncDispose]();
    await filling[Symbol.asyncDispose]();
  });

  it('are filled anew when a filling was cut off, and keep what containers wrote', async () => {
    const { path } = await volumes.provide('data', { a: 'b' });
    await create(path);
    put(path, 'half');
    // The next daemon; one of those before it was killed while it took the half away.
    volumes = new Volumes(dir);
    rmSync(path, { recursive: true });
    const again = await create(path);
    assert.deepEqual([again.takes, readdirSync(path)], [[true], []]);
    put(path, 'half');
    volumes = new Volumes(dir);
    const third = await create(path);
    assert.deepEqual([third.takes, readdirSync(path)], [[true], []]);
    await third.filling.done();
    await third.filling[Symbol.asyncDispose]();
    users = [{ config: { mounts: [{ hostPath: path }] } }];
    const beside = await create(path);
    assert.deepEqual(beside.takes, [true]);
    put(path, 'of the other one');
    await beside.filling[Symbol.asyncDispose]();
    assert.deepEqual([(await create(path)).takes, readdirSync(path)], [[false], ['of the other one']]);
    assert.deepEqual(Object.keys(JSON.parse(readFileSync(join(dirname(path), 'volume.json'), 'utf8')) as object), [
      'createdAtNs',
      'labels',
    ]);
  });

  it('are empty when a container was not created, and keep what somebody puts into them then', async () => {
    const { path } = await volumes.provide('data');
    const { filling } = await create(path);
    put(path, 'half');
    await filling[Symbol.asyncDispose]();
    assert.deepEqual(readdirSync(path), []);
    put(path, 'by hand');
    assert.deepEqual([(await create(path)).takes, readdirSync(path)], [[false], ['by hand']]);
  });

  it('wait for their turn no longer than the creation does', async () => {
    const { path } = await volumes.provide('data');
    const { filling } = await create(path);
    const gone = new AbortController();
    const spec = { mounts: [{ source: path } as MountSpec] };
    const waiting = fillVolumes({ volumes, list: () => [] }, Context.of(log, { signal: gone.signal }), spec);
    gone.abort();
    await assert.rejects(waiting, /during: wait for other containers that are being created with the same volumes/);
    await filling[Symbol.asyncDispose]();
    await (await create(path)).filling[Symbol.asyncDispose]();
  });

  it('are not removed from under a container that is being created', async () => {
    await volumes.provide('data');
    {
      using _held = volumes.hold(['data', 'other']);
      await assert.rejects(
        volumes.remove('data', () => undefined),
        /volume data is for a container that is being created/,
      );
    }
    await volumes.remove('data', () => undefined);
    assert.deepEqual(readdirSync(dir), []);
  });

  it('say which of them has a damaged record, and where its files are', async () => {
    const { path } = await volumes.provide('cut');
    writeFileSync(join(dir, 'cut/volume.json'), '{');
    await assert.rejects(volumes.list(), (error: Error) => {
      assert.match(error.message, /^volume cut: \S+volume\.json is damaged: .*its files are sound, in /);
      return error.message.includes(path);
    });
  });

  it('leave nothing of what the last daemon had half made or half removed', async () => {
    const { path } = await volumes.provide('kept');
    for (const left of ['.new-1', '.gone-1/data']) mkdirSync(join(dir, left), { recursive: true });
    await volumes.sweep(log);
    for (const until = Date.now() + 60_000; readdirSync(dir).length > 1; await sleep(10))
      assert.ok(Date.now() < until, readdirSync(dir).join());
    assert.ok(existsSync(path));
  });
});
