#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int drop_capabilities(void)
{
  static const int kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,   CAP_FSETID,
                             CAP_MKNOD, CAP_SETFCAP,      CAP_SYS_ADMIN /* trusted.overlay.opaque */};
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2], want[2] = {{0}, {0}};
  if (syscall(SYS_capget, &header, data) < 0)
    return -1;
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    const unsigned word = (unsigned)kept[i] / 32, bit = 1u << (kept[i] % 32);
    want[word].permitted |= data[word].permitted & bit;
    want[word].effective |= data[word].permitted & bit;
  }
  return (int)syscall(SYS_capset, &header, want);
}

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef THIS_ARCH
/* Calls that unpacking never makes and an attacker would: EPERM. A list of refusals, so that no libc version breaks it. */
static int filter_syscalls(void)
{
  static const uint16_t refused[] = {
      SYS_socket,      SYS_socketpair,    SYS_execve,       SYS_execveat,     SYS_ptrace,        SYS_process_vm_readv,
      SYS_mount,       SYS_umount2,       SYS_pivot_root,   SYS_chroot,       SYS_setns,         SYS_unshare,
      SYS_open_tree,   SYS_move_mount,    SYS_fsopen,       SYS_fsmount,      SYS_mount_setattr, SYS_process_vm_writev,
      SYS_bpf,         SYS_io_uring_setup, SYS_userfaultfd, SYS_perf_event_open, SYS_keyctl,     SYS_add_key,
      SYS_request_key, SYS_kexec_load,    SYS_init_module,  SYS_finit_module, SYS_reboot,        SYS_swapon,
      SYS_kill,        SYS_pidfd_open,    SYS_pidfd_getfd,  SYS_open_by_handle_at, SYS_setuid,   SYS_setgid,
      SYS_sethostname, SYS_settimeofday,  SYS_clock_settime, SYS_quotactl,    SYS_personality,   SYS_memfd_create,
  };
  enum { COUNT = sizeof refused / sizeof *refused };
  struct sock_filter code[6 + COUNT];
  size_t n = 0;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < COUNT; i++)
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], (uint8_t)(COUNT - i), 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
#else
static int filter_syscalls(void)
{
  return 0;
}
#endif

int confine(struct failure *f)
{
  /* 1 GiB of addresses: some 250 MiB for the names of directories, threads' stacks, and the ring. */
  const struct rlimit memory = {1ul << 30, 1ul << 30}, core = {0, 0};
  struct rlimit files;
  umask(0);
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* removing a deep tree holds one descriptor a level */
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  if (setrlimit(RLIMIT_CORE, &core) < 0)
    return fail(f, "confine", errno, "RLIMIT_CORE");
#ifndef __SANITIZE_ADDRESS__
  if (setrlimit(RLIMIT_AS, &memory) < 0)
    return fail(f, "confine", errno, "RLIMIT_AS");
#else
  (void)memory;
#endif
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return fail(f, "confine", errno, "no_new_privs");
  if (drop_capabilities() < 0)
    return fail(f, "confine", errno, "capabilities");
  if (filter_syscalls() < 0)
    return fail(f, "confine", errno, "seccomp");
  return 0;
}
