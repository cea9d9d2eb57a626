import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Context } from '../../../src/base/context';
import { CacheMounts, type CacheMountRequest, type HeldCaches } from '../../../src/build/cache-mounts';
import { silentLogger } from '../../../src/base/log';

describe('cache mounts', () => {
  let root: string;
  let mounts: CacheMounts;
  const ctx = Context.of(silentLogger);

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'berth-cache-mounts-'));
    mounts = new CacheMounts(root);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const request = (id: string, sharing: CacheMountRequest['sharing']): CacheMountRequest => {
    return { id, sharing, mode: 0o755, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  };
  const open = (...requests: CacheMountRequest[]) => mounts.open(ctx, requests);
  const dirsOf = ({ dirs }: HeldCaches) => [...dirs.values()];

  it('of one step may be the same one, locked', async () => {
    using held = await open(request('x', 'locked'), request('x', 'locked'));
    const [first, second] = dirsOf(held);
    assert.equal(first, second);
    assert.equal(held.dirs.size, 2);
  });

  it('are given to one step after the other where they are locked, also in another order', async () => {
    const first = await open(request('x', 'locked'), request('y', 'locked'));
    const order: string[] = [];
    // Both wait for the first lock; that one of them has the second already would be a deadlock.
    const waiting = [
      [request('y', 'locked'), request('x', 'locked')],
      [request('x', 'locked'), request('y', 'locked')],
    ].map(async (requests, i) => {
      using held = await open(...requests);
      order.push(`${i} has ${held.dirs.size}`);
    });
    order.push('the first ends');
    first[Symbol.dispose]();
    await Promise.all(waiting);
    assert.equal(order[0], 'the first ends');
    assert.deepEqual(order.slice(1).sort(), ['0 has 2', '1 has 2']);
  });

  it('that are private have each a directory of their own at a time', async () => {
    const first = await open(request('x', 'private'));
    const second = await open(request('x', 'private'));
    assert.notDeepEqual(dirsOf(first), dirsOf(second));
    for (const held of [first, second]) held[Symbol.dispose]();
    using third = await open(request('x', 'private'));
    assert.deepEqual(dirsOf(third), dirsOf(first));
  });

  it('are as they are asked for, also when somebody was cut off while making one', async () => {
    const asked = { ...request('x', 'shared'), mode: 0o1777 };
    await assert.rejects(open({ ...asked, uid: 2 ** 40 }), /uid/);
    assert.deepEqual(readdirSync(root), []);
    const [dir = ''] = dirsOf(await open(asked));
    assert.equal(statSync(dir).mode & 0o7777, 0o1777);
    assert.deepEqual(readdirSync(root), [basename(dir)]);
  });

  it('are removed when nobody uses them, and a step that begins meanwhile has a whole one', async () => {
    const old = await open(request('x', 'shared'));
    writeFileSync(join(dirsOf(old)[0] ?? '', 'kept'), '');
    old[Symbol.dispose]();
    using used = await open(request('y', 'shared'));
    const removing = Promise.all([mounts.removeUnused(), mounts.removeUnused()]);
    using begun = await open(request('x', 'shared'));
    await removing;
    assert.ok([...dirsOf(used), ...dirsOf(begun)].every(existsSync));
    assert.equal(readdirSync(root).length, 2);
  });

  it('whose wait was broken off, or that could not be made, are not held', async () => {
    const first = await open(request('x', 'locked'));
    const leaving = new AbortController();
    const waiting = mounts.open(Context.of(silentLogger, { signal: leaving.signal }), [request('x', 'locked')]);
    leaving.abort();
    await assert.rejects(waiting, { kind: 'cancelled' });
    first[Symbol.dispose]();
    rmSync(root, { recursive: true });
    writeFileSync(root, '');
    await assert.rejects(open(request('x', 'locked')), { code: 'ENOTDIR' });
    rmSync(root);
    using held = await open(request('x', 'locked'));
    assert.equal(held.dirs.size, 1);
  });
});
