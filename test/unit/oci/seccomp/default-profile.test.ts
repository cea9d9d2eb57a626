import assert from 'node:assert/strict';
import { CAPABILITIES, DEFAULT_CAPABILITIES } from '../../../../src/oci/capabilities';
import { compileSeccomp } from '../../../../src/oci/seccomp/compile';
import { DEFAULT_PROFILE } from '../../../../src/oci/seccomp/default-profile';
import { resolveProfile } from '../../../../src/oci/seccomp/profile';
import { syscallsOf, type SyscallArch } from '../../../../src/oci/seccomp/syscalls';
import { runFilter } from '../../../support/bpf';
import { AUDIT } from '../../../support/seccomp/naive';

const ALLOW = 0x7fff0000;
const EPERM = 0x50001;
const ENOSYS = 0x50026;
const EINVAL = 0x50016;

describe('the default seccomp profile', () => {
  const filter = (capabilities: readonly string[] = DEFAULT_CAPABILITIES, arch: 'x64' | 'arm64' = 'x64') =>
    compileSeccomp(resolveProfile(DEFAULT_PROFILE, { capabilities, arch, kernelRelease: '6.8.0' }), 'default');
  const decide = (name: string, args: bigint[] = [], capabilities?: readonly string[]) =>
    runFilter(filter(capabilities).program, {
      number: syscallsOf('x86_64').get(name) ?? assert.fail(name),
      arch: AUDIT.x86_64,
      args,
    }).action;
  const withCapability = (...names: string[]) => [...DEFAULT_CAPABILITIES, ...names];

  it('knows every name that it uses', () => {
    for (const arch of ['x64', 'arm64'] as const) assert.deepEqual(filter(CAPABILITIES, arch).unknownNames, []);
  });

  it('refuses what has been the way out of containers', () => {
    const refused =
      'io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key userfaultfd bpf perf_event_open mount umount2 unshare setns pivot_root open_by_handle_at kexec_load init_module finit_module delete_module iopl ioperm swapon reboot settimeofday clock_settime acct quotactl ustat sysfs uselib nfsservctl lookup_dcookie vmsplice move_pages migrate_pages mbind set_mempolicy fsopen fsconfig fsmount move_mount open_tree mount_setattr fanotify_init name_to_handle_at';
    // The last one is allowed by all three: a handle opens nothing without open_by_handle_at.
    for (const name of refused.split(' ').slice(0, -1)) assert.equal(decide(name), EPERM, name);
    assert.equal(decide('name_to_handle_at'), ALLOW);
  });

  it('lets no AF_ALG and no AF_VSOCK socket be made, with whatever bits in the upper half', () => {
    const AF_ALG = 38n;
    const AF_VSOCK = 40n;
    for (let family = 0n; family <= 45n; family++) {
      const wanted = family === AF_ALG || family === AF_VSOCK ? EPERM : ALLOW;
      assert.equal(decide('socket', [family, 1n, 0n]), wanted, `family ${family}`);
      for (const upper of [1n << 32n, 1n << 63n, 0xffffffffn << 32n]) {
        assert.notEqual(decide('socket', [AF_ALG | upper, 1n, 0n]), ALLOW);
        assert.notEqual(decide('socket', [AF_VSOCK | upper, 1n, 0n]), ALLOW);
      }
    }
  });

  it('lets the audit log be reached with CAP_AUDIT_WRITE only', () => {
    const without = DEFAULT_CAPABILITIES.filter(name => name !== 'AUDIT_WRITE');
    for (const protocol of [9n, 9n | (1n << 32n)]) {
      assert.equal(decide('socket', [16n, 3n, protocol]), ALLOW);
      assert.equal(decide('socket', [16n, 3n, protocol], without), EINVAL);
    }
    assert.equal(decide('socket', [16n, 3n, 0n], without), ALLOW);
  });

  it('lets nobody make namespaces without CAP_SYS_ADMIN, and hides clone3 from them', () => {
    const flags = [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x10000000n, 0x20000000n, 0x40000000n];
    for (const flag of flags) {
      assert.equal(decide('clone', [flag | 17n]), EPERM);
      assert.equal(decide('clone', [flag | 17n], withCapability('SYS_ADMIN')), ALLOW);
    }
    assert.equal(decide('clone', [0x3d0f00n]), ALLOW);
    assert.equal(decide('clone3'), ENOSYS);
    assert.equal(decide('clone3', [], withCapability('SYS_ADMIN')), ALLOW);
  });

  it('opens with each capability what it is for', () => {
    const opened: [string, string][] = [
      ['DAC_READ_SEARCH', 'open_by_handle_at'],
      ['SYS_ADMIN', 'mount'],
      ['SYS_ADMIN', 'fsopen'],
      ['SYS_BOOT', 'reboot'],
      ['SYS_MODULE', 'finit_module'],
      ['SYS_PACCT', 'acct'],
      ['SYS_PTRACE', 'pidfd_getfd'],
      ['SYS_RAWIO', 'iopl'],
      ['SYS_TIME', 'clock_settime'],
      ['SYS_TTY_CONFIG', 'vhangup'],
      ['SYS_NICE', 'mbind'],
      ['SYSLOG', 'syslog'],
      ['BPF', 'bpf'],
      ['PERFMON', 'perf_event_open'],
    ];
    for (const [capability, name] of opened) {
      assert.equal(decide(name), EPERM, name);
      assert.equal(decide(name, [], withCapability(capability)), ALLOW, name);
    }
    assert.equal(decide('chroot'), ALLOW);
    assert.equal(decide('chroot', [], []), EPERM);
    assert.equal(decide('io_uring_setup', [], CAPABILITIES), EPERM);
  });

  it('answers ENOSYS for what is newer than it, so that libraries fall back', () => {
    for (const name of ['open_tree_attr', 'file_getattr', 'futex_waitv', 'cachestat'])
      assert.equal(decide(name), ENOSYS, name);
    assert.equal(runFilter(filter().program, { number: 900, arch: AUDIT.x86_64, args: [] }).action, ENOSYS);
  });

  it('lets programs of every architecture of a node do what they must', () => {
    const everyday =
      'read write openat close execve exit_group mmap futex rt_sigaction getrandom prctl statx epoll_pwait';
    for (const [arch, machine, audit, bit] of [
      ['x86_64', 'x64', AUDIT.x86_64, 0],
      ['x32', 'x64', AUDIT.x86_64, 0x40000000],
      ['x86', 'x64', AUDIT.x86, 0],
      ['aarch64', 'arm64', AUDIT.aarch64, 0],
      ['arm', 'arm64', AUDIT.arm, 0],
    ] as [SyscallArch, 'x64' | 'arm64', number, number][]) {
      for (const name of everyday.split(' ')) {
        const number = syscallsOf(arch).get(name);
        if (number === undefined) continue;
        const { action } = runFilter(filter(undefined, machine).program, {
          number: number + bit,
          arch: audit,
          args: [],
        });
        assert.equal(action, ALLOW, `${arch} ${name}`);
      }
      const { action } = runFilter(filter(undefined, machine).program, {
        number: (syscallsOf(arch).get('io_uring_setup') ?? 0) + bit,
        arch: audit,
        args: [],
      });
      assert.equal(action, EPERM, arch);
    }
  });
});
