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
import { selinuxHostOf, selinuxLabels, type SelinuxHost } from '../../../src/oci/selinux';

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
  };
  const options = (partial: Partial<SELinuxOption>) => SELinuxOption.fromPartial(partial);
  const pod = { id: 'a', isPrivileged: false, options: undefined };

  it('labels processes and files, with a level of the pod’s own', () => {
    const labels = selinuxLabels(undefined, pod, host);
    const level = /^system_u:system_r:container_t:(s0:c\d+,c\d+)$/.exec(labels?.process ?? '')?.[1];
    assert.ok(level, labels?.process);
    assert.equal(labels?.file, `system_u:object_r:container_file_t:${level}`);
    assert.deepEqual(selinuxLabels(undefined, pod, host), labels, 'all containers of a pod have the same');
    assert.notDeepEqual(selinuxLabels(undefined, { ...pod, id: 'b' }, host), labels);
    for (let i = 0; i < 2000; i++) {
      const [, low, high] =
        /c(\d+),c(\d+)$/.exec(selinuxLabels(undefined, { ...pod, id: String(i) }, host)?.file ?? '') ?? [];
      assert.ok(Number(low) < Number(high) && Number(high) < 1024);
    }
  });

  it('takes the parts that are asked for, the container’s before the pod’s', () => {
    const own = selinuxLabels(options({ type: 'my_t', level: 's0:c1' }), pod, host);
    assert.deepEqual(own, {
      process: 'system_u:system_r:my_t:s0:c1',
      file: 'system_u:object_r:container_file_t:s0:c1',
    });
    const ofPod = { ...pod, options: options({ user: 'u', level: 's0:c7,c8' }) };
    assert.equal(selinuxLabels(undefined, ofPod, host)?.process, 'u:system_r:container_t:s0:c7,c8');
    assert.equal(selinuxLabels(options({ type: 'x_t' }), ofPod, host)?.process, 'system_u:system_r:x_t:s0:c7,c8');
    assert.equal(selinuxLabels(undefined, { ...pod, isPrivileged: true }, host), undefined);
    const privileged = selinuxLabels(options({ type: 'spc_t' }), { ...pod, isPrivileged: true }, host);
    assert.match(privileged?.process ?? '', /^system_u:system_r:spc_t:/);
    assert.throws(() => selinuxLabels(options({ type: 'a_t:s0' }), pod, host), /selinux_options\.type "a_t:s0"/);
    assert.throws(() => selinuxLabels(options({ level: 's0\n' }), pod, host), /selinux_options\.level/);
  });

  it('is an error where the host has none and a label is asked for', () => {
    assert.equal(selinuxLabels(undefined, pod, undefined), undefined);
    assert.equal(selinuxLabels(options({}), pod, undefined), undefined);
    assert.throws(
      () => selinuxLabels(options({ type: 'my_t' }), pod, undefined),
      /SELinux label \*:\*:my_t:\*: SELinux is not enabled/,
    );
    assert.throws(
      () => selinuxLabels(undefined, { ...pod, options: options({ level: 's0' }) }, undefined),
      /not enabled/,
    );
    // spc_t is no confinement, which is what there is.
    assert.equal(selinuxLabels(options({ type: 'spc_t', level: 's0' }), pod, undefined), undefined);
    assert.equal(selinuxLabels(options({ type: 'my_t' }), { ...pod, isPrivileged: true }, undefined), undefined);
  });

  it('reads the policy’s labels for containers', () => {
    const text =
      'process = "system_u:system_r:container_t:s0"\ncontent = "x"\nfile = "system_u:object_r:container_file_t:s0"\n';
    assert.deepEqual(selinuxHostOf(text), host);
    assert.equal(selinuxHostOf('process = "nonsense"'), undefined);
  });
});
