import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  ContainerConfig,
  MountPropagation,
  NamespaceMode,
  type IDMapping,
  type NamespaceOption,
} from '../../../src/cri';
import { encodePlan } from '../../../src/native/plan';
import type { InnerOp } from '../../../src/native/plan-ops';
import { NO_CDI } from '../../../src/oci/cdi/edits';
import { containerSpec, type PodFacts } from '../../../src/oci/container-spec';
import type { HostFacts } from '../../../src/oci/host-facts';
import { execPlan, launchPlan } from '../../../src/oci/launch-plan';
import { CLONE, MOUNT_ATTR } from '../../../src/oci/linux';
import { sandboxPlan } from '../../../src/oci/sandbox-plan';
import {
  assertPodsUserNamespace,
  hostIds,
  podUserNamespace,
  type PodUserNamespace,
} from '../../../src/oci/user-namespace';

const { POD, CONTAINER, NODE, TARGET } = NamespaceMode;
const one = (hostIdOf: number, length: number, containerId = 0): IDMapping[] => [
  { containerId, hostId: hostIdOf, length },
];
const options = (
  uids: IDMapping[],
  gids = uids,
  mode: NamespaceMode = POD,
  more: Partial<NamespaceOption> = {},
): NamespaceOption => ({
  network: POD,
  pid: CONTAINER,
  ipc: POD,
  targetId: '',
  usernsOptions: { mode, uids, gids },
  ...more,
});

describe('the user namespace of a pod', () => {
  it('is the host’s where nothing is asked for', () => {
    assert.equal(podUserNamespace(undefined), undefined);
    assert.equal(podUserNamespace({ ...options([]), usernsOptions: undefined }), undefined);
    assert.equal(podUserNamespace(options([], [], NODE)), undefined);
  });

  it('has one mapping of users and one of groups, which need not be the same', () => {
    assert.deepEqual(podUserNamespace(options(one(65_536, 65_536), one(1, 4_294_967_294))), {
      uid: { first: 65_536, count: 65_536 },
      gid: { first: 1, count: 4_294_967_294 },
    });
  });

  it('takes every mapping that the kernel takes, and no other', () => {
    const u32 = fc.oneof(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0xfffffff0, max: 0xffffffff }),
      fc.nat(3),
    );
    fc.assert(
      fc.property(u32, u32, fc.oneof(fc.constant(0), u32), (first, length, containerId) => {
        // user_namespaces(7): no length of 0, no wrapping past 2^32 - 1, which is no id. The container's root must be in it.
        const isRight = length > 0 && containerId === 0 && BigInt(first) + BigInt(length) <= 0xffffffffn;
        const take = () => podUserNamespace(options(one(first, length, containerId)));
        if (isRight) assert.deepEqual(take()?.uid, { first, count: length });
        else assert.throws(take, { name: 'BerthError', kind: 'invalid_argument' });
      }),
    );
  });

  it('is refused with fewer or more mappings, in other modes, and beside the host’s PID or IPC namespace', () => {
    for (const [asked, says] of [
      [options([]), /uids: there must be one mapping, and there are 0/],
      [options(one(1, 1), [...one(1, 1), ...one(2, 1, 1)]), /gids: there must be one mapping, and there are 2/],
      [options(one(1, 1), one(1, 1), CONTAINER), /CONTAINER is not possible/],
      [options(one(1, 1), one(1, 1), TARGET), /TARGET is not possible/],
      [options(one(1, 1), one(1, 1), NODE), /mode NODE/],
      [options(one(1, 1), one(1, 1), 9 as NamespaceMode), /mode 9 is not possible/],
      [options(one(1, 1), one(1, 1), POD, { pid: NODE }), /the node's pid namespace/],
      [options(one(1, 1), one(1, 1), POD, { ipc: NODE }), /the node's ipc namespace/],
    ] as const) {
      assert.throws(() => podUserNamespace(asked), says);
    }
  });

  it('is its containers’, too', () => {
    const pod = podUserNamespace(options(one(100, 10)));
    for (const same of [undefined, options(one(100, 10)), { ...options([]), usernsOptions: undefined }])
      assertPodsUserNamespace(same, pod);
    for (const other of [options(one(100, 11)), options(one(100, 10), one(101, 10)), options([], [], NODE)])
      assert.throws(() => assertPodsUserNamespace(other, pod), /another user namespace/);
    assert.throws(() => assertPodsUserNamespace(options(one(100, 10)), undefined), /another user namespace/);
    assertPodsUserNamespace(options([], [], NODE), undefined);
    assert.throws(
      () => assertPodsUserNamespace(options(one(100, 10), undefined, POD, { pid: NODE }), pod),
      /node's PID/,
    );
  });
});

describe('the plan of a pod with a user namespace', () => {
  const pod = {
    hostname: 'h',
    networkPath: '/ns/net',
    ipcPath: '/ns/ipc',
    utsPath: '/ns/uts',
    pidPath: '/ns/pid',
    shmPath: '/shm',
    shmBytes: 1n,
    sysctls: { 'net.core.somaxconn': '1' },
    userns: { path: '/ns/user', uid: { first: 1, count: 2 }, gid: { first: 3, count: 4 } },
  };
  const plan = sandboxPlan(pod);

  it('is not made for a hostname that the kernel would not take', () => {
    sandboxPlan({ ...pod, hostname: 'h'.repeat(64) });
    assert.throws(() => sandboxPlan({ ...pod, hostname: 'ö'.repeat(33) }), /hostname ö+: it has more than 64 bytes/);
  });

  it('sets everything up inside, and mounts everything outside', () => {
    assert.deepEqual(
      plan.inner.map(({ op }) => op),
      ['LOOPBACK_UP', 'HOSTNAME', 'SYSCTL', 'PAUSE'],
    );
    assert.deepEqual(
      plan.outer.map(({ op }) => op),
      ['USERNS', 'PIN', 'PIN', 'PIN', 'SHM', 'PIN'],
    );
    const namespaces = BigInt(CLONE.newnet | CLONE.newipc | CLONE.newuts);
    assert.deepEqual(plan.outer[0], { op: 'USERNS', path: '/ns/user', namespaces, uid: 1, uids: 2, gid: 3, gids: 4 });
    assert.ok(encodePlan(plan).length > 0);
  });
});

describe('the plan of a container in a user namespace', () => {
  const userns: PodUserNamespace = {
    path: '/ns/user',
    uid: { first: 1000, count: 100 },
    gid: { first: 2000, count: 200 },
    hostNetwork: false,
  };
  const facts: PodFacts = {
    hostname: 'h',
    networkPath: '/ns/net',
    ipcPath: '/ns/ipc',
    utsPath: '/ns/uts',
    pidPath: undefined,
    hostPid: false,
    shmPath: '/shm',
    files: { '/etc/hosts': '/pod/hosts' },
    makeMountSources: true,
    cgroupPath: '/berth/x',
    userns,
  };
  const mappings = { uidMappings: one(1000, 100), gidMappings: one(2000, 200) };
  const mounts = [
    { containerPath: '/ro', hostPath: '/h/ro', readonly: true, ...mappings },
    { containerPath: '/rw', hostPath: '/h/rw', propagation: MountPropagation.PROPAGATION_HOST_TO_CONTAINER },
  ];
  const host: HostFacts = {
    devices: [],
    everyDevice: [],
    cgroups: { isUnified: true, v1: [] },
    thermalPaths: [],
    imageLowers: new Map([['img', ['/layers/c/fs', '/layers/d/fs']]]),
    anonymousVolumes: [{ path: '/vol', source: '/containers/x/0' }],
    selinux: undefined,
    cdi: NO_CDI,
  };
  const image = { env: [], entrypoint: ['/x'], cmd: [], workingDir: '', user: '' };
  const specOf = (partial: object, pod: Partial<PodFacts> = {}) =>
    containerSpec(
      ContainerConfig.fromPartial({ metadata: { name: 'c', attempt: 0 }, ...partial } as never),
      image,
      {
        ...facts,
        ...pod,
      },
      host,
    );
  const rootfs = {
    lowers: ['/layers/a/fs', '/layers/b/fs'],
    upper: '/u',
    work: '/w',
    stage: '/stage',
    isVolatile: true,
  };
  const planOf = (partial: object = {}, pod: Partial<PodFacts> = {}) =>
    launchPlan(
      specOf(partial, pod),
      rootfs,
      { v2Directory: undefined, v1Tasks: [], killFile: undefined },
      undefined,
      false,
    );
  const index = (ops: readonly InnerOp[], op: InnerOp['op']) => ops.findIndex(step => step.op === op);

  it('has its hooks where they belong, which see the bundle from before it enters on; without it there is nothing to cover', () => {
    const hook = [{ path: '/hook', args: [], env: [] }];
    const names = ['prestart', 'createContainer', 'startContainer', 'poststop'] as const;
    const state = { id: 'x', bundle: '/state/x/bundle', annotations: {} };
    const view = { cover: '/state', config: Buffer.from('{}') };
    const opsOf = (pod: Partial<PodFacts>, hooks: { state: typeof state; view?: typeof view }) => {
      const spec = { ...specOf({}, pod), hooks: Object.fromEntries(names.map(name => [name, hook])) };
      const cgroup = { v2Directory: undefined, v1Tasks: [], killFile: undefined };
      const { inner } = launchPlan(spec, rootfs, cgroup, undefined, false, undefined, hooks);
      const of = ['HOOK', 'HOOK_VIEW', 'AWAIT_HOOKS', 'START_HOOK', 'ENTER_USERNS', 'STAGE_OVERLAY', 'ROOT_STAGED'];
      return inner.filter(({ op }) => [...of, 'ROOT_OVERLAY', 'PIVOT_ROOT', 'AWAIT_GO', 'RLIMIT', 'EXEC'].includes(op));
    };
    const after = ['AWAIT_HOOKS', 'HOOK', 'PIVOT_ROOT', 'AWAIT_GO', 'START_HOOK', 'EXEC'];
    const inside = opsOf({}, { state, view });
    const entering = ['STAGE_OVERLAY', 'HOOK_VIEW', 'ENTER_USERNS', 'ROOT_STAGED'];
    assert.deepEqual(
      inside.map(({ op }) => op),
      [...entering, ...after],
    );
    assert.deepEqual(inside[1], { op: 'HOOK_VIEW', ...view, stage: '/stage', bundle: '/state/x/bundle' });
    const host = opsOf({ userns: undefined }, { state });
    assert.deepEqual(
      host.map(({ op }) => op),
      ['ROOT_OVERLAY', ...after],
    );
    const started = host.find(({ op }) => op === 'START_HOOK');
    assert.ok(started?.op === 'START_HOOK');
    assert.deepEqual([started.argv, started.timeout], [['/hook'], 0]);
    assert.equal(
      (JSON.parse(`${String(started.before)}1${String(started.after)}`) as { status: string }).status,
      'created',
    );
  });

  it('takes what is the host’s before it enters, and mounts it afterwards', () => {
    const { inner, outer } = planOf({ mounts });
    const enter = index(inner, 'ENTER_USERNS');
    for (const [at, { op }] of inner.entries()) {
      if (['HOLD_SOURCE', 'HOLD_DEVICE', 'PROPAGATION', 'STAGE', 'HELD_ATTRS', 'STAGE_OVERLAY', 'SETNS'].includes(op))
        assert.ok(at < enter, op);
      if (['MOUNT_FS', 'MOUNT_BIND', 'MASK', 'READONLY', 'PIVOT_ROOT', 'LOOKUP_USER', 'EXEC'].includes(op))
        assert.ok(at > enter, op);
      assert.notEqual(op, 'ROOT_OVERLAY');
    }
    assert.equal(index(inner, 'UNSHARE'), -1, 'the cgroup namespace is made inside, too');
    assert.ok(index(inner, 'STAGE') < index(inner, 'HELD_ATTRS'));
    assert.deepEqual(inner[index(inner, 'STAGE_OVERLAY')], {
      op: 'STAGE_OVERLAY',
      base: '/layers',
      upper: '/u',
      work: '/w',
      flags: 3,
      lowers: ['lower/a/fs', 'lower/b/fs'],
    });
    assert.deepEqual(inner[enter], {
      op: 'ENTER_USERNS',
      namespaces: CLONE.newns | CLONE.newpid | CLONE.newcgroup,
      uids: 100,
      gids: 200,
    });
    assert.deepEqual(
      outer.find(({ op }) => op === 'CLONE_FLAGS'),
      { op: 'CLONE_FLAGS', flags: BigInt(CLONE.newns) },
    );
    assert.ok(encodePlan({ inner, outer }).length > 0);
  });

  it('is born in the pod’s PID namespace when that is shared', () => {
    const { inner, outer } = planOf({}, { pidPath: '/ns/pid' });
    assert.ok(outer.some(({ op }) => op === 'JOIN_PID'));
    const enter = inner[index(inner, 'ENTER_USERNS')];
    assert.ok(enter?.op === 'ENTER_USERNS' && (enter.namespaces & CLONE.newpid) === 0);
  });

  it('gives each source that is held the flags of its bind; only mapped ones are idmapped', () => {
    const { inner } = planOf({ mounts: [...mounts, { containerPath: '/rw', hostPath: '/h/again' }] });
    const holds = inner.filter(op => op.op === 'HOLD_SOURCE' || op.op === 'HOLD_DEVICE');
    const binds = inner.filter(op => op.op === 'MOUNT_BIND');
    const attributes = inner.filter(op => op.op === 'HELD_ATTRS');
    assert.deepEqual(
      attributes.map(({ number }) => holds[number]?.target),
      binds.map(({ target }) => target),
    );
    assert.equal(new Set(attributes.map(({ number }) => number)).size, holds.length);
    for (const bind of binds) assert.deepEqual([bind.set, bind.clear, bind.propagation], [0n, 0n, 0n]);
    const of = (target: string) => attributes.filter(({ number }) => holds[number]?.target === target);
    assert.equal(of('/ro')[0]?.idmap, 1);
    assert.equal(of('/ro')[0]?.set, MOUNT_ATTR.rdonly | MOUNT_ATTR.nodev);
    assert.deepEqual(
      of('/rw').map(({ idmap, number }) => [idmap, (holds[number] as { source: string }).source]),
      [
        [0, '/h/rw'],
        [0, '/h/again'],
      ],
    );
    assert.deepEqual(
      of('/dev/null').map(({ set }) => set),
      [0n],
    );
  });

  it('takes the files of image volumes by the same clone of the layers', () => {
    const volume = { containerPath: '/img', image: { image: 'img' }, readonly: true, ...mappings };
    const { inner } = planOf({ mounts: [volume] });
    const hold = inner.find(op => op.op === 'HOLD_IMAGE');
    assert.deepEqual(hold?.lowers, ['lower/c/fs', 'lower/d/fs']);
    assert.ok(index(inner, 'STAGE_OVERLAY') < index(inner, 'HOLD_IMAGE'));
    assert.ok(index(inner, 'HOLD_IMAGE') < index(inner, 'ENTER_USERNS'));
    const holds = inner.filter(({ op }) => op === 'HOLD_SOURCE' || op === 'HOLD_DEVICE' || op === 'HOLD_IMAGE');
    const number = holds.indexOf(hold);
    assert.equal(inner.find(op => op.op === 'HELD_ATTRS' && op.number === number)?.op, 'HELD_ATTRS');
    for (const op of inner) if (op.op === 'HELD_ATTRS' && op.number === number) assert.equal(op.idmap, 0);
    assert.throws(() => specOf({ mounts: [{ ...volume, uidMappings: one(7, 7) }] }), /are not those of the pod's/);
  });

  it('says whom files on the host must belong to', () => {
    const of = (uid: number, gid: number) => hostIds(specOf({}), { uid, gid });
    assert.deepEqual(of(0, 0), { uid: 1000, gid: 2000 });
    assert.deepEqual(of(99, 199), { uid: 1099, gid: 2199 });
    assert.deepEqual(of(100, 200), { uid: 1000, gid: 2000 }, 'what is not mapped is root’s');
    assert.deepEqual(hostIds(specOf({}, { userns: undefined }), { uid: 5, gid: 6 }), { uid: 5, gid: 6 });
  });

  it('has sysfs bound with the host’s network, which it could not mount', () => {
    const sysOf = (hostNetwork: boolean) =>
      specOf({}, { userns: { ...userns, hostNetwork } }).mounts.find(mount => mount.destination === '/sys');
    assert.deepEqual([sysOf(false)?.type, sysOf(true)?.type, sysOf(true)?.source], ['sysfs', 'bind', '/sys']);
    assert.equal(sysOf(true)?.readonly, true);
  });

  it('opens no device of an image or a volume, also when it is privileged', () => {
    const spec = specOf({ mounts, linux: { securityContext: { privileged: true } } });
    assert.equal(spec.root.nodev, true);
    for (const mount of spec.mounts.filter(({ type }) => type === 'bind'))
      assert.equal(mount.nodev, true, mount.destination);
  });

  it('refuses mounts that cannot be as they are asked for', () => {
    const mount = (more: object) => ({ mounts: [{ containerPath: '/m', hostPath: '/h', ...more }] });
    for (const [more, pod, says] of [
      [mappings, { userns: undefined }, /the pod has none/],
      [{ ...mappings, gidMappings: one(2000, 201) }, {}, /are not those of the pod's/],
      [{ ...mappings, gidMappings: [] }, {}, /mount at \/m: gidMappings: there must be one mapping/],
      [{ propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL }, {}, /cannot mount anything on the host/],
    ] as const) {
      assert.throws(() => specOf(mount(more), pod), says);
    }
  });

  it('of a command joins the user namespace, too, and is its root before it looks at a file', () => {
    const { process } = specOf({});
    const cgroup = { v2Directory: undefined, v1Tasks: [], killFile: undefined };
    const { outer, inner } = execPlan(process, cgroup, false, undefined, userns);
    const join = outer.at(-1);
    assert.ok(join?.op === 'JOIN_PIDFD' && (join.types & CLONE.newuser) !== 0);
    assert.ok(index(inner, 'USERNS_ROOT') < index(inner, 'LOOKUP_USER'));
    const plain = execPlan(process, cgroup, false);
    const plainJoin = plain.outer.at(-1);
    assert.ok(plainJoin?.op === 'JOIN_PIDFD' && (plainJoin.types & CLONE.newuser) === 0);
    assert.equal(index(plain.inner, 'USERNS_ROOT'), -1);
  });
});
