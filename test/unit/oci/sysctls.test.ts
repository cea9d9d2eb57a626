import assert from 'node:assert/strict';
import fc from 'fast-check';
import { podSysctls } from '../../../src/oci/sysctls';

const own = { ownNetwork: true, ownIpc: true };
const paths = (...names: string[]) =>
  podSysctls(Object.fromEntries(names.map(name => [name, '1'])), own).map(({ path }) => path);

describe('a pod’s sysctls', () => {
  it('are written as they are, name and value', () => {
    assert.deepEqual(
      podSysctls({ 'net.ipv4.ping_group_range': '0 2147483647', 'kernel.sem': '250\t32000 32 128' }, own),
      [
        { path: 'net/ipv4/ping_group_range', value: '0 2147483647' },
        { path: 'kernel/sem', value: '250\t32000 32 128' },
      ],
    );
  });

  it('may be written with either separator; the other one is part of a name', () => {
    assert.deepEqual(
      paths('net/ipv4/tcp_syncookies', 'net.ipv4.conf.eth0/100.forwarding', 'net/ipv4/conf/eth0.100/mtu'),
      ['net/ipv4/tcp_syncookies', 'net/ipv4/conf/eth0.100/forwarding', 'net/ipv4/conf/eth0.100/mtu'],
    );
  });

  it('are only those that a pod has of its own', () => {
    paths(
      'kernel.shmmax',
      'kernel.shm_rmid_forced',
      'kernel.msgmnb',
      'kernel.sem',
      'fs.mqueue.msg_max',
      'net.core.somaxconn',
    );
    for (const name of [
      'kernel.core_pattern',
      'kernel.modprobe',
      'kernel.semaphore',
      'kernel.domainname',
      'vm.swappiness',
      'fs.file-max',
      'fs.mqueue',
      'fs.mqueue.a.b',
      'user.max_user_namespaces',
      'net',
      'network.x',
      'kernel',
    ]) {
      assert.throws(() => paths(name), /is not one of a pod's own/, name);
    }
  });

  it('lead nowhere else by tricks with names (CVE-2022-0811)', () => {
    for (const name of [
      'kernel.shm_rmid_forced=1+kernel.core_pattern',
      'kernel.shm_rmid_forced=1',
      'net.ipv4+x',
      'net/../kernel/core_pattern',
      'net.//.kernel',
      'net....kernel.core_pattern',
      'net.ipv4.',
      'net.',
      '/net/core/somaxconn',
      '.net.core',
      'net.core.some thing',
      'net.core.x\n',
      'net.core.x\0',
      '',
    ]) {
      assert.throws(() => paths(name), /is not the name of a setting|is not one of/, JSON.stringify(name));
    }
    for (const value of ['', 'a\0b'])
      assert.throws(() => podSysctls({ 'net.core.somaxconn': value }, own), /empty or holds a NUL/);
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('n', 'e', 't', '.', '/', '+', '=', ' ', '\\') }), name => {
        try {
          for (const path of paths(`net.${name}`)) {
            assert.ok(!path.split('/').some(part => part === '' || part === '.' || part === '..'), path);
          }
        } catch (error) {
          assert.match(String(error), /sysctl/);
        }
      }),
    );
  });

  it('are refused where the namespace is the host’s', () => {
    assert.throws(
      () => podSysctls({ 'net.core.somaxconn': '1' }, { ...own, ownNetwork: false }),
      /shares its network namespace/,
    );
    assert.throws(() => podSysctls({ 'kernel.sem': '1' }, { ...own, ownIpc: false }), /shares its IPC namespace/);
  });
});
