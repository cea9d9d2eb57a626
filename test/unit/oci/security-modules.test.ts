import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { LinuxContainerSecurityContext, SELinuxOption } from '../../../src/cri';
import {
  APPARMOR_DEFAULT,
  apparmorProfile,
  defaultProfileText,
  profilesIn,
  type AppArmorHost,
} from '../../../src/oci/apparmor';
import {
  contextsIn,
  freeLevel,
  podFileLabel,
  selinuxLabels,
  sharedLabel,
  unconfinedLabel,
  type SelinuxHost,
  type SelinuxPod,
} from '../../../src/oci/selinux';

describe('AppArmor', () => {
  const on: AppArmorHost = { isEnabled: true, loaded: new Set(['mine', 'a b']) };
  const off: AppArmorHost = { isEnabled: false, loaded: undefined };
  const profile = (security: object, host = on) =>
    apparmorProfile(LinuxContainerSecurityContext.fromPartial(security), host);
  const localhost = (localhostRef: string) => ({ apparmor: { profileType: 2, localhostRef } });

  it('confines by the default profile unless the request says otherwise', () => {
    for (const security of [{}, { apparmor: { profileType: 0 } }, { apparmorProfile: 'runtime/default' }]) {
      assert.equal(profile(security), APPARMOR_DEFAULT, JSON.stringify(security));
      assert.equal(profile(security, off), undefined, 'a host without AppArmor is fine');
      assert.equal(profile({ ...security, privileged: true }), undefined);
    }
    for (const security of [{ apparmor: { profileType: 1 } }, { apparmorProfile: 'unconfined' }]) {
      assert.equal(profile(security), undefined);
      assert.equal(profile(security, off), undefined);
    }
    assert.equal(profile({ apparmorProfile: 'localhost/mine', apparmor: { profileType: 1 } }), undefined);
  });

  it('is without the default profile where that cannot be loaded only if nobody has asked for it', () => {
    const without = { ...on, missingDefault: 'this node has no apparmor_parser' };
    assert.equal(profile({}, without), undefined);
    assert.equal(
      profile({}, { ...without, loaded: new Set([APPARMOR_DEFAULT]) }),
      APPARMOR_DEFAULT,
      'an earlier one is',
    );
    for (const security of [{ apparmor: { profileType: 0 } }, { apparmorProfile: 'runtime/default' }]) {
      assert.throws(
        () => profile(security, without),
        /RuntimeDefault: berth-default cannot be loaded: this node has no apparmor_parser; install the package apparmor/,
      );
      assert.equal(profile({ ...security, privileged: true }, without), undefined);
    }
  });

  it('confines by a profile of the node, privileged or not, and refuses one that is not there', () => {
    for (const security of [localhost('mine'), localhost('localhost/mine'), { apparmorProfile: 'localhost/mine' }]) {
      assert.equal(profile(security), 'mine');
      assert.equal(profile({ ...security, privileged: true }), 'mine');
      assert.throws(() => profile(security, off), /AppArmor profile mine: this node's kernel has no AppArmor enabled/);
    }
    assert.throws(() => profile(localhost('other')), /AppArmor profile other is not loaded on this node/);
    assert.equal(profile(localhost('other'), { ...on, loaded: undefined }), 'other', 'the kernel will say');
    assert.throws(() => profile(localhost('')), /does not say which/);
    assert.throws(() => profile({ apparmorProfile: 'other' }), /apparmor "other" is not known/);
  });

  it('reads the kernel’s list of profiles', () => {
    const text = 'docker-default (enforce)\n/usr/bin/man (complain)\na b (enforce)\nman_filter//x (unconfined)\n';
    assert.deepEqual([...profilesIn(text)], ['docker-default', '/usr/bin/man', 'a b', 'man_filter//x']);
  });

  it('has a default profile that the parser takes', () => {
    for (const daemon of [undefined, 'unconfined\n', 'berthd (unconfined)\n', '/usr/bin/x//y (enforce)\n']) {
      const parser = spawnSync('/usr/sbin/apparmor_parser', ['--skip-kernel-load', '--skip-cache', '--names'], {
        input: defaultProfileText({ hasAbi: true, daemon }),
        encoding: 'utf8',
      });
      assert.equal(parser.status, 0, parser.stderr);
      assert.equal(parser.stdout.trim(), APPARMOR_DEFAULT);
    }
  });

  it('lets the daemon signal what it confines, whatever profile that has itself', () => {
    const peersWith = (daemon: string | undefined) =>
      [...defaultProfileText({ hasAbi: true, daemon }).matchAll(/signal \(receive\) peer=(.*),/g)].map(
        ([, peer]) => peer,
      );
    const always = ['unconfined', 'runc', 'crun'];
    assert.deepEqual(peersWith('unconfined\n'), always);
    assert.deepEqual(peersWith(undefined), always);
    assert.deepEqual(peersWith('berthd (enforce)\n'), [...always, '"berthd"']);
    assert.deepEqual(peersWith('a", capability, (enforce)\n'), always);
  });
});

describe('SELinux', () => {
  const host: SelinuxHost = {
    process: 'system_u:system_r:container_t:s0',
    file: 'system_u:object_r:container_file_t:s0',
    unconfined: 'system_u:system_r:spc_t:s0',
    hasLevels: true,
    isKnown: true,
  };
  const options = (partial: Partial<SELinuxOption>) => SELinuxOption.fromPartial(partial);
  const pod: SelinuxPod = { id: 'pod', options: undefined, level: 's0:c1,c2', sharesHost: false };
  const labels = (asked?: Partial<SELinuxOption>, more: Partial<SelinuxPod> = {}, isPrivileged = false, on = host) =>
    selinuxLabels(asked && options(asked), isPrivileged, { ...pod, ...more }, on);
  const without = (asked?: Partial<SELinuxOption>, more: Partial<SelinuxPod> = {}, isPrivileged = false) =>
    selinuxLabels(asked && options(asked), isPrivileged, { ...pod, ...more }, undefined);
  const FILE = 'system_u:object_r:container_file_t:s0:c1,c2';

  it('labels processes and files by the policy’s word for containers, and the pod’s level', () => {
    for (const asked of [undefined, {}])
      assert.deepEqual(labels(asked), {
        process: 'system_u:system_r:container_t:s0:c1,c2',
        file: FILE,
        podFile: FILE,
      });
    assert.equal(podFileLabel(false, pod, host), FILE);
    const ofOlder = freeLevel('pod', new Set());
    assert.equal(labels(undefined, { level: undefined })?.podFile, `system_u:object_r:container_file_t:${ofOlder}`);
  });

  it('takes the parts that are asked for, the container’s before the pod’s', () => {
    assert.deepEqual(labels({ type: 'my_t', level: 's0:c9' }), {
      process: 'system_u:system_r:my_t:s0:c9',
      file: 'system_u:object_r:container_file_t:s0:c9',
      podFile: FILE,
    });
    const ofPod = { options: options({ user: 'u', level: 's0:c7,c8' }), level: 's0:c7,c8' };
    assert.deepEqual(labels(undefined, ofPod), {
      process: 'u:system_r:container_t:s0:c7,c8',
      file: 'u:object_r:container_file_t:s0:c7,c8',
      podFile: 'u:object_r:container_file_t:s0:c7,c8',
    });
    assert.equal(labels({ type: 'x_t' }, ofPod)?.process, 'system_u:system_r:x_t:s0:c7,c8');
    assert.throws(() => labels({ type: 'a_t:s0' }), /selinux_options\.type "a_t:s0"/);
    assert.throws(() => labels({ level: 's0\n' }), /selinux_options\.level/);
  });

  it('does not confine what is privileged or sees the host’s processes, unless it asks for a label', () => {
    const unconfined = { process: 'system_u:system_r:spc_t:s0', file: FILE, podFile: FILE };
    assert.deepEqual(labels(undefined, {}, true), unconfined);
    assert.deepEqual(labels({}, { sharesHost: true }), unconfined);
    assert.equal(labels({ type: 'x_t' }, { sharesHost: true }, true)?.process, 'system_u:system_r:x_t:s0:c1,c2');
    const { unconfined: _, ...policy } = host;
    assert.deepEqual(labels(undefined, {}, true, policy), { file: FILE, podFile: FILE });
  });

  it('goes by what the policy has: no levels, or nothing for containers', () => {
    const flat = { process: 'system_u:system_r:container_t', file: 'system_u:object_r:container_file_t' };
    const on = { ...flat, unconfined: unconfinedLabel(flat.process, false), hasLevels: false, isKnown: true };
    assert.equal(on.unconfined, 'system_u:system_r:spc_t');
    assert.deepEqual(labels(undefined, { level: undefined }, false, on), { ...flat, podFile: flat.file });
    assert.throws(() => labels({ level: 's0' }, {}, false, on), /this node's policy has no levels/);
    const unknown = { ...host, isKnown: false };
    assert.equal(labels(undefined, {}, false, unknown), undefined);
    assert.equal(labels({ type: 'x_t' }, {}, false, unknown)?.process, 'system_u:system_r:x_t:s0:c1,c2');
  });

  it('is an error where the host has none and a label is asked for', () => {
    assert.equal(without(), undefined);
    assert.equal(without({}), undefined);
    assert.throws(() => without({ type: 'my_t' }), /SELinux label \*:\*:my_t:\*: SELinux is not enabled/);
    assert.throws(() => without(undefined, { options: options({ level: 's0' }) }), /not enabled/);
    assert.throws(() => podFileLabel(false, { ...pod, options: options({ level: 's0' }) }, undefined), /not enabled/);
    // spc_t is no confinement, which is what there is.
    assert.equal(without({ type: 'spc_t', level: 's0' }), undefined);
    assert.equal(without({ type: 'my_t' }, {}, true), undefined);
  });

  it('gives each pod a level of its own, of two categories', () => {
    const taken = new Set<string>();
    for (let i = 0; i < 2000; i++) {
      const level = freeLevel(String(i), taken);
      const [, low, high] = /^s0:c(\d+),c(\d+)$/.exec(level) ?? [];
      assert.ok(Number(low) < Number(high) && Number(high) < 1024, level);
      assert.ok(!taken.has(level), level);
      taken.add(level);
    }
    const first = freeLevel('pod', new Set());
    assert.equal(freeLevel('pod', new Set()), first, 'the same again');
    assert.notEqual(freeLevel('pod', new Set([first])), first);
  });

  it('has a label for files that all pods share', () => {
    assert.equal(sharedLabel(FILE), 'system_u:object_r:container_file_t:s0');
    assert.equal(sharedLabel('system_u:object_r:container_file_t'), 'system_u:object_r:container_file_t');
  });

  it('reads the policy’s labels for containers', () => {
    const { process, file } = host;
    assert.deepEqual(contextsIn(`process = "${process}"\ncontent = "x"\nfile = "${file}"\n`), { process, file });
    assert.deepEqual(contextsIn('process = "a:b:c"\n file= "d:e:f"\n'), { process: 'a:b:c', file: 'd:e:f' });
    assert.equal(contextsIn('process = "nonsense"'), undefined);
    assert.equal(contextsIn(`process = "${process}"`), undefined);
  });
});
