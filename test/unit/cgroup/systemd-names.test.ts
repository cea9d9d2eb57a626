import assert from 'node:assert/strict';
import { containerPath, scopeOf, sliceOf, slicePath, unitObject } from '../../../src/cgroup/systemd/names';

describe("names of systemd's units", () => {
  it('say where a slice lies, as the kubelet means it', () => {
    const uid = 'pod1f2e3d4c_0a1b_4c2d_8e3f_0123456789ab';
    assert.equal(
      slicePath(`kubepods-burstable-${uid}.slice`),
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-${uid}.slice`,
    );
    assert.equal(slicePath('kubepods.slice'), '/kubepods.slice');
  });

  it('are taken as the whole path, too, if it is the right one', () => {
    assert.equal(slicePath('/a.slice/a-b.slice'), '/a.slice/a-b.slice');
    assert.equal(slicePath('a.slice/a-b.slice'), '/a.slice/a-b.slice');
    assert.throws(() => slicePath('/a-b.slice'), /the slice a-b\.slice lies at \/a\.slice\/a-b\.slice/);
    assert.throws(() => slicePath('/x.slice/a-b.slice'), /lies at/);
  });

  it('are refused when they are none, with what to do', () => {
    for (const asked of [
      '/kubepods/burstable/pod1',
      'a',
      '.slice',
      '-a.slice',
      'a-.slice',
      'a--b.slice',
      '../a.slice',
      'a b.slice',
      `${'a'.repeat(250)}.slice`,
      'a.slice/',
    ]) {
      assert.throws(
        () => slicePath(asked),
        /cgroup_parent ".*(no slice of systemd's.*cgroupDriver: systemd|lies at)/,
        asked,
      );
    }
    assert.throws(() => slicePath('-.slice'), /no cgroup of a pod/);
  });

  it("are found in a container's path", () => {
    const path = containerPath('/a.slice/a-b.slice', 'c1');
    assert.equal(path, '/a.slice/a-b.slice/berth-c1.scope/container');
    assert.deepEqual(scopeOf(path), {
      scope: 'berth-c1.scope',
      slice: 'a-b.slice',
      path: '/a.slice/a-b.slice/berth-c1.scope',
      hold: '/a.slice/a-b.slice/berth-c1.scope/hold',
    });
    assert.equal(scopeOf('/kubepods/pod1/c1'), undefined);
    assert.equal(sliceOf('/a.slice/a-b.slice'), 'a-b.slice');
    assert.equal(sliceOf('/berth/c1'), undefined);
  });

  it('are escaped where they name an object', () => {
    assert.equal(unitObject('berth-c1.scope'), '/org/freedesktop/systemd1/unit/berth_2dc1_2escope');
  });
});
