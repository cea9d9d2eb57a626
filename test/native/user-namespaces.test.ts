import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InnerOp, LaunchPlan, OuterOp } from '../../src/native/plan-ops';
import { CLONE } from '../../src/oci/linux';
import { LaunchError } from '../../src/process/launch-failure';
import { pinNamespaces, unmountAll } from '../../src/process/pin';
import { allPids, linkOf } from '../support/processes';

describe('the helper that pins a user namespace', function () {
  this.timeout(60_000);
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-userns-'))));
  afterEach(async () => {
    await unmountAll(['user', 'uts', 'pid'].map(name => join(dir, name)));
    rmSync(dir, { recursive: true });
  });

  const userns = (some: object = {}): OuterOp => ({
    op: 'USERNS',
    path: join(dir, 'user'),
    namespaces: BigInt(CLONE.newuts),
    uid: 700_000,
    uids: 10,
    gid: 800_000,
    gids: 20,
    ...some,
  });
  const plan = (first: OuterOp, inner: InnerOp[] = [], pins: OuterOp[] = []): LaunchPlan => ({
    outer: [first, ...pins],
    inner,
  });
  const failure = async (failing: LaunchPlan) =>
    pinNamespaces(failing, 'test').then(
      () => assert.fail('was not refused'),
      (error: unknown) => {
        assert.ok(error instanceof LaunchError);
        return error;
      },
    );
  const own = linkOf('/proc/self/ns/user');
  /** Of this test's: no other has these ids. */
  const inside = () =>
    allPids().filter(pid => linkOf(`/proc/${pid}/ns/user`) !== own && mapOf(pid).includes(' 700000 '));
  const mapOf = (pid: number) => {
    try {
      return readFileSync(`/proc/${pid}/uid_map`, 'utf8').replace(/\s+/g, ' ');
    } catch {
      return '';
    }
  };
  const assertNobodyInside = async () => {
    const until = Date.now() + 20_000;
    while (inside().length > 0 && Date.now() < until) await sleep(5);
    assert.deepEqual(inside(), []);
  };

  it('leaves it and what belongs to it behind, and nobody in it', async () => {
    const pin: OuterOp = { op: 'PIN', ns: 'uts', path: join(dir, 'uts') };
    const pinned = await pinNamespaces(plan(userns(), [{ op: 'HOSTNAME', name: 'inside' }], [pin]), 'test');
    pinned.keep();
    assert.equal(pinned.pause, undefined);
    for (const name of ['user', 'uts']) assert.equal(existsSync(join(dir, name)), true);
    await assertNobodyInside();
  });

  it('has a pod’s init in it without rights, however few ids there are', async () => {
    const pin: OuterOp = { op: 'PIN', ns: 'pid', path: join(dir, 'pid') };
    for (const ids of [
      { uids: 1, gids: 1 },
      { uids: 65_536, gids: 65_536 },
    ]) {
      const pinned = await pinNamespaces(plan(userns(ids), [{ op: 'PAUSE', path: '' }], [pin]), 'test');
      using _ = { [Symbol.dispose]: () => pinned.release() };
      const { pid } = pinned.pause ?? assert.fail('no init');
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      const uid = ids.uids === 1 ? 700_000 : 765_534;
      assert.match(status, new RegExp(`^Uid:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'));
      for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
        assert.match(status, new RegExp(`^${set}:\t0+$`, 'm'));
      assert.match(status, /^NoNewPrivs:\t1$/m);
      pinned.release();
      await assertNobodyInside();
      await unmountAll([join(dir, 'pid'), join(dir, 'user')]);
    }
  });

  it('says what cannot be mapped, and leaves nothing', async () => {
    for (const ids of [{ uids: 0 }, { gids: 0 }, { uid: 4_294_967_295, uids: 2 }]) {
      const error = await failure(plan(userns(ids)));
      assert.match(
        error.message,
        /make the pod's user namespace with host ids \d+ to \d+: .*\(map \d+ ids from \d+ on\)/,
      );
      assert.equal(existsSync(join(dir, 'user')), false);
      await assertNobodyInside();
    }
  });

  it('says which step inside failed', async () => {
    const failing = plan(userns(), [
      { op: 'HOSTNAME', name: 'inside' },
      { op: 'SYSCTL', path: 'kernel/no_such_thing', value: '1' },
      { op: 'PAUSE', path: '' },
    ]);
    const error = await failure(failing);
    assert.match(error.message, /sysctl kernel\.no_such_thing/);
    assert.equal(error.op, 'SYSCTL');
    await assertNobodyInside();
  });
});
