import type { Profile, ProfileRule } from './profile';

const ENOSYS = 38;
const EINVAL = 22;

const EVERYBODY = `
  _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind
  breakpoint brk cacheflush capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres
  clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
  copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
  epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
  fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
  fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
  ftruncate ftruncate64 futex futex_time64 futimesat get_robust_list get_thread_area getcpu getcwd getdents
  getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
  getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage
  getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch
  inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_get
  ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr
  link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise
  membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2
  modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
  mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
  name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
  pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
  process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead
  readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
  removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
  rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
  sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
  sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
  sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsgid32
  setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
  setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
  setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn
  socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
  syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
  timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
  timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
  utimensat_time64 utimes vfork wait4 waitid waitpid write writev`;

/** CRI-O refuses them, being older than they are, or for io_pgetevents out of caution. Whoever uses them can do without. */
const ENOSYS_TO_ALL =
  'cachestat futex_requeue futex_wait futex_waitv futex_wake io_pgetevents io_pgetevents_time64 map_shadow_stack';

const BY_CAPABILITY: Readonly<Record<string, string>> = {
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_SYS_ADMIN:
    'bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare',
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module init_module finit_module',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace',
  CAP_SYS_RAWIO: 'iopl ioperm',
  CAP_SYS_TIME: 'settimeofday stime clock_settime clock_settime64',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYSLOG: 'syslog',
  CAP_BPF: 'bpf',
  CAP_PERFMON: 'perf_event_open',
};

/** What 32-bit and historic programs ask for: PER_LINUX, UNAME26, both with PER_LINUX32, and to be told the present one. */
const PERSONALITIES = [0x0n, 0x8n, 0x20000n, 0x20008n, 0xffffffffn];

const AF_NETLINK = 16n;
const AF_ALG = 38n;
const AF_NFC = 39n;
const AF_VSOCK = 40n;
/** linux/socket.h of 7.1: AF_MAX is one more. */
const AF_LAST = 45n;
const NETLINK_AUDIT = 9n;

/**
 * All families but AF_ALG, the kernel's cryptography, with its history of holes,
 * and AF_VSOCK, which leads past the pod's network to the hypervisor. The audit
 * log is for those who may write to it. The kernel takes these arguments for ints
 * and forgets their upper halves, so no rule may let a number with one through:
 * that is why the last families are listed and not "greater than AF_VSOCK".
 */
function socketRules(): ProfileRule[] {
  const low = (index: number, value: bigint) => ({
    index,
    op: 'SCMP_CMP_MASKED_EQ',
    value: 0xffffffffn,
    valueTwo: value,
  });
  const lastFamilies = Array.from({ length: Number(AF_LAST - AF_VSOCK) }, (_, i) => AF_VSOCK + BigInt(i) + 1n);
  return [
    {
      names: ['socket'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: EINVAL,
      args: [low(0, AF_NETLINK), low(2, NETLINK_AUDIT)],
      excludes: { caps: ['CAP_AUDIT_WRITE'] },
    },
    { ...allow('socket'), args: [{ index: 0, op: 'SCMP_CMP_LT', value: AF_ALG }] },
    ...[AF_NFC, ...lastFamilies].map(value => ({ ...allow('socket'), args: [{ index: 0, op: 'SCMP_CMP_EQ', value }] })),
  ];
}

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NAMESPACES = 0x7e020000n;

/** No new namespaces without CAP_SYS_ADMIN. clone3's flags are behind a pointer: as if there were none, libraries use clone. */
function cloneRules(): ProfileRule[] {
  const excludes = { caps: ['CAP_SYS_ADMIN'] };
  const none = { index: 0, op: 'SCMP_CMP_MASKED_EQ', value: NAMESPACES, valueTwo: 0n };
  return [
    { ...allow('clone'), args: [none], excludes },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS, excludes },
  ];
}

function allow(names: string): ProfileRule {
  return { names: words(names), action: 'SCMP_ACT_ALLOW' };
}

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}

/**
 * The profile behind RuntimeDefault: what Docker, containerd and CRI-O all let
 * through, so it is no laxer than any of them. What only their older tables lack
 * fails with ENOSYS, so that libraries fall back; the rest with EPERM. io_uring,
 * keyctl, userfaultfd and the like are not in it at all.
 */
export const DEFAULT_PROFILE: Profile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: undefined,
  architectures: [],
  archMap: [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
  ],
  flags: undefined,
  syscalls: rules(),
};

function rules(): ProfileRule[] {
  return [
    allow(EVERYBODY),
    { names: words(ENOSYS_TO_ALL), action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ...socketRules(),
    ...PERSONALITIES.map(value => ({ ...allow('personality'), args: [{ index: 0, op: 'SCMP_CMP_EQ', value }] })),
    ...cloneRules(),
    ...Object.entries(BY_CAPABILITY).map(([name, names]) => ({ ...allow(names), includes: { caps: [name] } })),
  ];
}
