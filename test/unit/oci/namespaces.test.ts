import assert from 'node:assert/strict';
import { NamespaceMode, type NamespaceOption } from '../../../src/cri';
import { assertPodsNamespaces, containerPid, podNamespaces } from '../../../src/oci/namespaces';

const { POD, CONTAINER, NODE, TARGET } = NamespaceMode;
const options = (some: Partial<NamespaceOption>): NamespaceOption => ({
  network: POD,
  pid: POD,
  ipc: POD,
  targetId: '',
  usernsOptions: undefined,
  ...some,
});

describe('namespace modes', () => {
  it('of a pod: what is not said is POD', () => {
    assert.deepEqual(podNamespaces(undefined), { network: 'pod', ipc: 'pod', pid: 'shared' });
    assert.deepEqual(podNamespaces(options({ network: NODE, pid: CONTAINER, ipc: NODE })), {
      network: 'host',
      ipc: 'host',
      pid: 'separate',
    });
    assert.equal(podNamespaces(options({ pid: NODE })).pid, 'host');
  });

  it('of a container’s PID namespace follow the pod’s where it says POD', () => {
    for (const [pid, kind] of [
      [POD, 'pod'],
      [CONTAINER, 'own'],
      [NODE, 'host'],
    ] as const) {
      const pod = podNamespaces(options({ pid }));
      assert.deepEqual(containerPid(undefined, pod), { kind });
      assert.deepEqual(containerPid(options({}), pod), { kind });
      assert.deepEqual(containerPid(options({ pid: CONTAINER }), pod), { kind: 'own' });
      assert.deepEqual(containerPid(options({ pid: NODE }), pod), { kind: 'host' });
      assert.deepEqual(containerPid(options({ pid: TARGET, targetId: 'x' }), pod), { kind: 'target', id: 'x' });
    }
  });

  it('that mean nothing are refused, and so are numbers that are no mode', () => {
    for (const mode of [CONTAINER, TARGET, 7 as NamespaceMode]) {
      assert.throws(() => podNamespaces(options({ network: mode })), /network: .* is not possible/);
      assert.throws(() => podNamespaces(options({ ipc: mode })), /ipc: .* is not possible/);
    }
    for (const mode of [TARGET, -1 as NamespaceMode]) assert.throws(() => podNamespaces(options({ pid: mode })), /pid/);
    const pod = podNamespaces(undefined);
    assert.throws(() => containerPid(options({ pid: 9 as NamespaceMode }), pod), /mode 9 is not possible/);
    assert.throws(() => containerPid(options({ pid: TARGET }), pod), /target_id is empty/);
  });

  it('of a container must not reach past its pod’s', () => {
    const [own, shared] = [podNamespaces(undefined), podNamespaces(options({ network: NODE, ipc: NODE }))];
    for (const asked of [undefined, options({}), options({ network: NODE, ipc: NODE })])
      assertPodsNamespaces(asked, shared);
    assertPodsNamespaces(options({}), own);
    assert.throws(() => assertPodsNamespaces(options({ network: NODE }), own), /namespace_options.network/);
    assert.throws(() => assertPodsNamespaces(options({ ipc: NODE }), own), /namespace_options.ipc/);
  });
});
