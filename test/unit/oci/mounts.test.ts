import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Mount, MountPropagation } from '../../../src/cri';
import { NO_CDI } from '../../../src/oci/cdi/edits';
import { cgroupDirectoryOps, cgroupMounts } from '../../../src/oci/cgroup-mounts';
import { containerDevices, deviceRules } from '../../../src/oci/devices';
import type { AskedDevice, HostFacts } from '../../../src/oci/host-facts';
import { MASKED_PATHS, pathsOf, READONLY_PATHS } from '../../../src/oci/masked-paths';
import { containerMounts, type MountFacts } from '../../../src/oci/mounts';

const facts: MountFacts = {
  shmPath: '/shm',
  files: { '/etc/hosts': '/pod/hosts' },
  makeMountSources: true,
  host: {
    cdi: NO_CDI,
    cgroups: { isUnified: true, v1: [] },
    imageLowers: new Map(),
    anonymousVolumes: [],
    selinux: undefined,
  },
  isPrivileged: false,
  isRootReadonly: false,
};
const mounts = (asked: Partial<Mount>[], more: Partial<MountFacts> = {}) =>
  containerMounts(
    asked.map(mount => Mount.fromPartial(mount as never)),
    { ...facts, ...more },
  );
const at = (path: string, list: ReturnType<typeof mounts>) => list.filter(({ destination }) => destination === path);

describe('the mounts of a spec', () => {
  it('are the standard ones, each once, in an order in which parents come first', () => {
    const list = mounts([]).map(({ destination }) => destination);
    assert.deepEqual(list, [
      '/proc',
      '/dev',
      '/dev/pts',
      '/dev/mqueue',
      '/dev/shm',
      '/sys',
      '/sys/fs/cgroup',
      '/etc/hosts',
    ]);
  });

  it('keep parents before children, whatever is asked for and in whatever order', () => {
    const path = fc.array(fc.constantFrom('a', 'b', 'dev', 'shm', 'etc'), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(path, { maxLength: 8 }), paths => {
        const asked = paths.map(parts => ({ containerPath: `/${parts.join('/')}`, hostPath: '/h' }));
        const wanted = mounts(asked).filter(({ source }) => source === '/h');
        assert.equal(wanted.length, asked.length);
        wanted.forEach(({ destination }, i) => {
          const later = wanted.slice(i + 1).map(mount => mount.destination);
          assert.ok(!later.some(other => destination.startsWith(`${other}/`)), `${destination} before its parent`);
        });
      }),
    );
  });

  it('have one place for one path, however it is written', () => {
    for (const containerPath of ['/etc/hosts', '/etc/hosts/', '//etc/./hosts', '/x/../etc/hosts']) {
      assert.deepEqual(
        at('/etc/hosts', mounts([{ containerPath, hostPath: '/h' }])).map(({ source }) => source),
        ['/h'],
        containerPath,
      );
    }
  });

  it('are what the request says of them', () => {
    const [mount] = at(
      '/m',
      mounts([
        {
          containerPath: '/m',
          hostPath: '/h',
          readonly: true,
          recursiveReadOnly: true,
          mountOptions: ['nosuid', 'noexec'],
        },
      ]),
    );
    assert.deepEqual(mount, {
      type: 'bind',
      destination: '/m',
      source: '/h',
      options: [],
      readonly: true,
      recursive: true,
      recursiveOptions: true,
      makeSource: true,
      noexec: true,
      nodev: true,
      nosuid: true,
      propagation: 'private',
    });
    for (const [propagation, expected] of [
      [MountPropagation.PROPAGATION_HOST_TO_CONTAINER, 'slave'],
      [MountPropagation.PROPAGATION_BIDIRECTIONAL, 'shared'],
    ] as const) {
      const [other] = at('/m', mounts([{ containerPath: '/m', hostPath: '/h', propagation }]));
      assert.equal(other?.propagation, expected);
    }
  });

  it('of the pod’s files are read-only where the root is', () => {
    assert.equal(at('/etc/hosts', mounts([], { isRootReadonly: true }))[0]?.readonly, true);
    assert.equal(at('/etc/hosts', mounts([]))[0]?.readonly, false);
  });

  it('are labelled where SELinux is on and it is asked for, but for what the system stands on', () => {
    const file = 'system_u:object_r:container_file_t:s0:c1,c2';
    const podFile = 'system_u:object_r:container_file_t:s0:c3,c4';
    const on = {
      host: { ...facts.host, selinux: { file, podFile }, anonymousVolumes: [{ path: '/v', source: '/s' }] },
    };
    const asked = { containerPath: '/m', hostPath: '/data/x', selinuxRelabel: true };
    assert.equal(at('/m', mounts([asked], on))[0]?.relabel, file);
    assert.equal(at('/v', mounts([], on))[0]?.relabel, file);
    assert.equal(at('/etc/hosts', mounts([], on))[0]?.relabel, podFile);
    assert.equal(at('/etc/hosts', mounts([]))[0]?.relabel, undefined);
    assert.equal(at('/m', mounts([asked]))[0]?.relabel, undefined);
    assert.equal(at('/m', mounts([{ ...asked, selinuxRelabel: false }], on))[0]?.relabel, undefined);
    for (const hostPath of ['/', '/etc', '/usr/', '/var/lib', '//home', '/x/../etc']) {
      assert.throws(() => mounts([{ ...asked, hostPath }], on), /label a directory of the system anew/, hostPath);
    }
  });

  it('are refused with a path that means something else than it says', () => {
    for (const [mount, why] of [
      [{ containerPath: 'm', hostPath: '/h' }, /not absolute/],
      [{ containerPath: '/m\0x', hostPath: '/h' }, /not absolute/],
      [{ containerPath: '/m', hostPath: '' }, /host path "" is not absolute/],
      [{ containerPath: '/', hostPath: '/h' }, /root of the container/],
      [{ containerPath: '/proc/self', hostPath: '/h' }, /inside \/proc/],
      [{ containerPath: '/proc', hostPath: '/h' }, /host's own \/proc/],
      [{ containerPath: '/m', hostPath: '/h', mountOptions: ['suid'] }, /"suid"/],
      [{ containerPath: '/m', hostPath: '/h', recursiveReadOnly: true }, /needs readonly/],
      [{ containerPath: '/m', hostPath: '/h', imageSubPath: 'sub' }, /image_sub_path is set, and no image/],
    ] as const) {
      assert.throws(() => mounts([mount as Partial<Mount>]), why);
    }
  });
});

describe('the cgroup mounts of a spec', () => {
  const v1 = [['cpu', 'cpuacct'], ['memory'], ['name=systemd']];

  it('are one tree with v2', () => {
    const [mount, ...more] = cgroupMounts({ isUnified: true, v1: [] }, false);
    assert.deepEqual([mount?.type, mount?.readonly, more.length], ['cgroup2', true, 0]);
    const [own] = cgroupMounts({ isUnified: true, v1: [], v2: '/sys/fs/cgroup' }, true);
    assert.deepEqual([own?.type, own?.source, own?.readonly], ['bind', '/sys/fs/cgroup', false]);
  });

  it('are a directory a hierarchy with v1, with a link for each of several controllers', () => {
    const list = cgroupMounts({ isUnified: false, v1 }, false);
    assert.deepEqual(
      list.map(({ destination, options }) => [destination, options]),
      [
        ['/sys/fs/cgroup', ['mode=755', 'size=64k']],
        ['/sys/fs/cgroup/cpu,cpuacct', ['cpu', 'cpuacct']],
        ['/sys/fs/cgroup/memory', ['memory']],
        ['/sys/fs/cgroup/systemd', ['none', 'name=systemd']],
      ],
    );
    const ops = list.map(mount => cgroupDirectoryOps(mount, list));
    assert.deepEqual(ops.slice(0, -1).flat(), []);
    assert.deepEqual(ops.at(-1), [
      { op: 'SYMLINK', target: 'cpu,cpuacct', path: '/sys/fs/cgroup/cpu' },
      { op: 'SYMLINK', target: 'cpu,cpuacct', path: '/sys/fs/cgroup/cpuacct' },
      { op: 'MOUNT_ATTR', path: '/sys/fs/cgroup', set: 1n, clear: 0n, propagation: 0n, flags: 1 },
    ]);
  });
});

describe('masked and read-only paths', () => {
  const nobody = { isPrivileged: false, hasUserNamespace: false };

  it('are the request’s list, and the defaults for none', () => {
    assert.deepEqual(pathsOf(['/x'], MASKED_PATHS, nobody), ['/x']);
    assert.deepEqual(pathsOf([], MASKED_PATHS, nobody), [...MASKED_PATHS]);
    assert.deepEqual(pathsOf([], READONLY_PATHS, nobody), [...READONLY_PATHS]);
  });

  it('are none where the kubelet says procMount Unmasked: no list, and a user namespace', () => {
    assert.deepEqual(pathsOf([], MASKED_PATHS, { ...nobody, hasUserNamespace: true }), []);
    assert.deepEqual(pathsOf(['/x'], MASKED_PATHS, { ...nobody, hasUserNamespace: true }), ['/x']);
  });

  it('are none for a privileged container', () => {
    assert.deepEqual(pathsOf(['/x'], MASKED_PATHS, { ...nobody, isPrivileged: true }), []);
  });

  it('hide by default what tells of the host or reaches its hardware (GHSA-7ww5-4wqc-m92c and others)', () => {
    for (const path of [
      ...['acpi', 'kcore', 'keys', 'latency_stats', 'timer_list', 'sched_debug', 'scsi', 'interrupts'].map(
        name => `/proc/${name}`,
      ),
      '/sys/firmware',
      '/sys/devices/virtual/powercap',
    ]) {
      assert.ok(MASKED_PATHS.includes(path), path);
    }
  });
});

describe('the devices of a spec', () => {
  const disk: AskedDevice = {
    path: '/dev/disk',
    type: 'b',
    major: 8,
    minor: 1,
    mode: 0o660,
    uid: 0,
    gid: 6,
    access: 'rw',
  };
  const host = { devices: [disk], everyDevice: [{ ...disk, path: '/dev/other' }] } as Partial<HostFacts> as HostFacts;

  it('are the standard ones and those asked for, and for a privileged container all', () => {
    const paths = (isPrivileged: boolean) => containerDevices(host, isPrivileged).map(({ path }) => path);
    assert.equal(paths(false).length, 7);
    assert.ok(paths(false).includes('/dev/disk') && !paths(false).includes('/dev/other'));
    assert.ok(paths(true).includes('/dev/other'));
    const mine = containerDevices({ ...host, devices: [{ ...disk, path: '/dev/null' }] }, false);
    assert.deepEqual(
      mine.filter(({ path }) => path === '/dev/null').map(({ major }) => major),
      [8],
      'the request’s counts',
    );
  });

  it('are refused by the rules but for what is standard and asked for', () => {
    const rules = deviceRules([disk], false);
    assert.deepEqual(rules[0], { allow: false, type: 'a', access: 'rwm' });
    assert.deepEqual(rules.at(-1), { allow: true, type: 'b', major: 8, minor: 1, access: 'rw' });
    assert.ok(rules.slice(1).every(({ allow, major, access }) => allow && (major !== undefined || access === 'm')));
  });
});
