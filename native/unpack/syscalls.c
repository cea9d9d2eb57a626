/*
 * The system calls that are left, by role. Three answers: what the role needs is allowed, some of it only with harmless
 * arguments; what no part of this program and its libraries ever does, and an attacker would begin with, ends the
 * process; all else is EPERM, or ENOSYS when it is newer than this list, so that a later libc falls back.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "the system calls that unpacking needs are listed for x86-64 and arm64 only"
#endif

enum {
  ANY = ROLE_UNPACK | ROLE_VERIFY | ROLE_REMOVE | ROLE_PACK | ROLE_SCAN | ROLE_COPY,
  READERS = ROLE_UNPACK | ROLE_VERIFY | ROLE_PACK | ROLE_SCAN | ROLE_COPY,
  WRITERS = ROLE_UNPACK | ROLE_COPY,
};

static const struct {
  uint16_t call;
  uint8_t roles;
} allowed[] = {
    /* files that are open */
    {SYS_read, ANY}, {SYS_write, ANY}, {SYS_writev, ANY}, {SYS_close, ANY}, {SYS_lseek, ANY}, {SYS_fstat, ANY},
    {SYS_pread64, READERS}, {SYS_readv, READERS}, {SYS_pwrite64, WRITERS},
    {SYS_pwritev, WRITERS}, {SYS_ftruncate, WRITERS}, {SYS_fallocate, WRITERS},
    {SYS_copy_file_range, WRITERS}, {SYS_sync_file_range, WRITERS}, {SYS_fsync, WRITERS},
    {SYS_fdatasync, WRITERS}, {SYS_fadvise64, READERS},
    {SYS_readahead, READERS}, {SYS_fstatfs, ANY},
    {SYS_fchmod, WRITERS}, {SYS_fchown, WRITERS}, {SYS_fsetxattr, WRITERS},
    {SYS_fgetxattr, READERS}, {SYS_flistxattr, READERS},
    /* names */
    {SYS_openat, ANY}, {SYS_openat2, WRITERS | ROLE_SCAN}, {SYS_newfstatat, ANY}, {SYS_statx, ANY}, {SYS_getdents64, ANY},
    {SYS_readlinkat, READERS}, {SYS_unlinkat, WRITERS | ROLE_REMOVE | ROLE_PACK},
    {SYS_renameat2, ROLE_UNPACK | ROLE_REMOVE}, {SYS_mkdirat, WRITERS}, {SYS_mknodat, WRITERS},
    {SYS_symlinkat, WRITERS}, {SYS_linkat, WRITERS}, {SYS_fchownat, WRITERS},
    {SYS_utimensat, WRITERS | ROLE_PACK},
    /* memory, threads, time, the end */
    {SYS_munmap, ANY}, {SYS_mremap, ANY}, {SYS_brk, ANY}, {SYS_madvise, ANY}, {SYS_getrandom, ANY}, {SYS_sysinfo, ANY},
    {SYS_futex, ANY}, {SYS_set_robust_list, ANY}, {SYS_rseq, ANY}, {SYS_sched_yield, ANY}, {SYS_sched_getaffinity, ANY},
    {SYS_getcpu, ANY}, {SYS_clock_gettime, ANY}, {SYS_gettimeofday, ANY}, {SYS_clock_nanosleep, ANY}, {SYS_ppoll, ANY},
    {SYS_getpid, ANY}, {SYS_gettid, ANY}, {SYS_rt_sigaction, ANY}, {SYS_rt_sigprocmask, ANY}, {SYS_rt_sigreturn, ANY},
    {SYS_sigaltstack, ANY}, {SYS_restart_syscall, ANY}, {SYS_exit, ANY}, {SYS_exit_group, ANY},
#ifdef __x86_64__
    {SYS_poll, ANY}, {SYS_time, ANY},
#endif
};

/* Allowed when of one argument the bits of `mask` are `value`. */
struct condition {
  uint16_t call;
  uint8_t argument;
  uint32_t mask, value;
};

/* A thread of this process, in all of its namespaces. */
enum {
  CLONE_IS_THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
  CLONE_LOOKED_AT = CLONE_IS_THREAD | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME | CLONE_PTRACE | CLONE_PIDFD | CLONE_VFORK,
};

static const uint16_t deadly[] = {
    SYS_socket,         SYS_socketpair,    SYS_connect,         SYS_bind,          SYS_listen,
    SYS_accept4,        SYS_sendto,        SYS_sendmsg,         SYS_execve,        SYS_execveat,
    SYS_ptrace,         SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_open, SYS_pidfd_getfd,
    SYS_pidfd_send_signal, SYS_kill,       SYS_tkill,           SYS_mount,         SYS_umount2,
    SYS_pivot_root,     SYS_chroot,        SYS_fchdir,          SYS_setns,         SYS_unshare,
    SYS_open_tree,      SYS_move_mount,    SYS_fsopen,          SYS_fsconfig,      SYS_fsmount,
    SYS_fspick,         SYS_mount_setattr, SYS_open_by_handle_at, SYS_bpf,         SYS_io_uring_setup,
    SYS_io_uring_enter, SYS_userfaultfd,   SYS_perf_event_open, SYS_keyctl,        SYS_add_key,
    SYS_request_key,    SYS_kexec_load,    SYS_kexec_file_load, SYS_init_module,   SYS_finit_module,
    SYS_delete_module,  SYS_reboot,        SYS_swapon,          SYS_swapoff,       SYS_acct,
    SYS_setuid,         SYS_setgid,        SYS_setreuid,        SYS_setresuid,     SYS_setfsuid,
    SYS_setgroups,      SYS_capset,        SYS_memfd_create,    SYS_quotactl,      SYS_sethostname,
    SYS_setdomainname,  SYS_settimeofday,  SYS_clock_settime,   SYS_clock_adjtime, SYS_personality,
};

/* The last call of Linux 6.0, in both architectures' numbering; those of x32 are above it, too. */
enum { NEWEST = 450 };

struct program {
  unsigned short len;
  struct sock_filter code[512];
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
  p->code[p->len++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void put_load(struct program *p, size_t offset)
{
  put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void put_return(struct program *p, uint32_t action)
{
  put(p, BPF_RET | BPF_K, action, 0, 0);
}

static void answer(struct program *p, uint16_t call, uint32_t action)
{
  put(p, BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
  put_return(p, action);
}

/* The lower half of the argument, which is little endian's first. Another condition for the same call may follow. */
static void allow_if(struct program *p, const struct condition *c)
{
  put(p, BPF_JMP | BPF_JEQ | BPF_K, c->call, 0, 5);
  put_load(p, offsetof(struct seccomp_data, args) + c->argument * sizeof(uint64_t));
  put(p, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
  put(p, BPF_JMP | BPF_JEQ | BPF_K, c->value, 0, 1);
  put_return(p, SECCOMP_RET_ALLOW);
  put_load(p, offsetof(struct seccomp_data, nr));
}

static void begin(struct program *p)
{
  put_load(p, offsetof(struct seccomp_data, arch));
  put(p, BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
  put_return(p, SECCOMP_RET_KILL_PROCESS);
  put_load(p, offsetof(struct seccomp_data, nr));
  put(p, BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 1);
  put_return(p, SECCOMP_RET_ERRNO | ENOSYS);
}

static void add_conditions(struct program *p)
{
  const struct condition conditions[] = {
      {SYS_mmap, 2, PROT_EXEC, 0}, /* no code but what the process was started with */
      {SYS_mprotect, 2, PROT_EXEC, 0},
      {SYS_clone, 0, CLONE_LOOKED_AT, CLONE_IS_THREAD},
      {SYS_prlimit64, 0, UINT32_MAX, 0}, /* of this process */
      {SYS_tgkill, 0, UINT32_MAX, (uint32_t)getpid()}, /* abort(3) */
      {SYS_fcntl, 1, UINT32_MAX, F_GETFD}, /* others choose whom a signal is sent to */
      {SYS_fcntl, 1, UINT32_MAX, F_SETFD},
      {SYS_fcntl, 1, UINT32_MAX, F_GETFL},
      {SYS_fcntl, 1, UINT32_MAX, F_DUPFD_CLOEXEC},
  };
  answer(p, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS); /* its flags are out of sight: libc then takes clone */
  for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++)
    allow_if(p, &conditions[i]);
}

int confine_syscalls(enum role role, struct failure *f)
{
  struct program p = {0};
  begin(&p);
  for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
    if (allowed[i].roles & role)
      answer(&p, allowed[i].call, SECCOMP_RET_ALLOW);
  add_conditions(&p);
  for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
    answer(&p, deadly[i], SECCOMP_RET_KILL_PROCESS);
  put_return(&p, SECCOMP_RET_ERRNO | EPERM);
  const struct sock_fprog program = {.len = p.len, .filter = p.code};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &program) < 0 ? fail(f, "confine", errno, "seccomp") : 0;
}
