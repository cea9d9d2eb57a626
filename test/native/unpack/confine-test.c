/*
 * What a confined process cannot do. Every attempt is made in a child, which first makes it free, where it must succeed,
 * then behind one wall, then behind all of them: so a wall that is gone is seen, also where another stands behind it.
 * Needs root.
 */
#define _GNU_SOURCE
#include "confine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int passed, failed, skipped;

/* ---- the place: a directory to work on, one below it, and one that is nobody's business ---- */

static char top[] = "/tmp/berth-confine-test.XXXXXX";
static char secret[64], fresh[64];
static int root, lower;
static struct sockaddr_in tcp;
static struct sockaddr_un abstract = {.sun_family = AF_UNIX};
static socklen_t abstract_len;
static pid_t victim;

static void must(int ok, const char *what)
{
  if (ok)
    return;
  perror(what);
  exit(1);
}

static int touch_at(int dir, const char *name)
{
  int fd = openat(dir, name, O_WRONLY | O_CREAT, 0600);
  if (fd < 0)
    return -1;
  close(fd);
  return 0;
}

static void make_place(void)
{
  must(mkdtemp(top) != NULL, "mkdtemp");
  int dir = open(top, O_RDONLY | O_DIRECTORY);
  must(mkdirat(dir, "target", 0700) == 0 && mkdirat(dir, "target/dir", 0700) == 0, "target");
  must(mkdirat(dir, "lower", 0700) == 0 && mkdirat(dir, "outside", 0700) == 0, "directories");
  must(touch_at(dir, "target/file") == 0 && touch_at(dir, "lower/file") == 0 && touch_at(dir, "outside/secret") == 0,
       "files");
  root = openat(dir, "target", O_RDONLY | O_DIRECTORY);
  lower = openat(dir, "lower", O_RDONLY | O_DIRECTORY);
  close(dir);
  snprintf(secret, sizeof secret, "%s/outside/secret", top);
  snprintf(fresh, sizeof fresh, "%s/outside/fresh", top);
}

static void remove_place(void)
{
  static const char *const names[] = {"target/file", "target/dir",    "target",  "lower/file", "lower",
                                      "outside/secret", "outside/fresh", "outside", ""};
  char path[128];
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    snprintf(path, sizeof path, "%s/%s", top, names[i]);
    remove(path);
  }
  if (access(top, F_OK) == 0) {
    failed++;
    printf("not ok: %s is left\n", top);
  }
}

/* Somebody to connect to, and somebody to signal and trace. */
static void make_peers(void)
{
  socklen_t len = sizeof tcp;
  const int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), u = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  tcp = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  must(bind(s, (struct sockaddr *)&tcp, sizeof tcp) == 0 && listen(s, 8) == 0, "listen");
  must(getsockname(s, (struct sockaddr *)&tcp, &len) == 0, "getsockname");
  abstract_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                             (size_t)snprintf(abstract.sun_path + 1, 40, "berth-confine-test-%d", getpid()));
  must(bind(u, (struct sockaddr *)&abstract, abstract_len) == 0 && listen(u, 8) == 0, "listen on an abstract socket");
  victim = fork();
  must(victim >= 0, "fork");
  if (victim == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
      pause();
  }
}

/* ---- attempts: 0, or -1 and errno ---- */

static int opened(int fd)
{
  if (fd >= 0)
    close(fd);
  return fd < 0 ? -1 : 0;
}

static int read_outside(void) { return opened(open(secret, O_RDONLY)); }
static int create_outside(void) { return opened(open(fresh, O_WRONLY | O_CREAT, 0600)); }
static int chmod_outside(void) { return chmod(secret, 0600); }
static int climb_from_root(void) { return opened(openat(root, "../outside/secret", O_RDONLY)); }
static int climb_from_lower(void) { return opened(openat(lower, "../outside/secret", O_RDONLY)); }
static int chown_by_climbing(void) { return fchownat(lower, "../outside/secret", 0, 0, 0); }
static int link_outside(void) { return linkat(root, "file", AT_FDCWD, fresh, 0); }
static int node_outside(void) { return mknod(fresh, S_IFCHR | 0600, makedev(1, 3)); }
static int read_lower(void) { return opened(openat(lower, "file", O_RDONLY)); }
static int write_lower(void) { return opened(openat(lower, "file", O_WRONLY)); }
static int chown_lower(void) { return fchownat(lower, "file", 0, 0, 0); }
static int write_root(void) { return opened(openat(root, "file", O_WRONLY | O_TRUNC)); }
static int read_root(void) { return opened(openat(root, "file", O_RDONLY)); }
static int chown_root(void) { return fchownat(root, "file", 0, 0, 0); }

static int link_and_unlink(void)
{
  return linkat(root, "file", root, "dir/link", 0) < 0 ? -1 : unlinkat(root, "dir/link", 0);
}

static int socket_in_root(void)
{
  return mknodat(root, "socket", S_IFSOCK | 0600, 0) < 0 ? -1 : unlinkat(root, "socket", 0);
}

static int make_opaque(void)
{
  return fsetxattr(root, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -1 : fremovexattr(root, "trusted.overlay.opaque");
}

/* What an archive's device node would be good for. */
static int open_own_device(void)
{
  if (mknodat(root, "null", S_IFCHR | 0600, makedev(1, 3)) < 0)
    return -1;
  const int result = opened(openat(root, "null", O_RDONLY)), err = errno;
  unlinkat(root, "null", 0);
  errno = err;
  return result;
}

static int by_handle(void)
{
  union {
    struct file_handle handle;
    char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  } at = {.handle.handle_bytes = MAX_HANDLE_SZ};
  int mount;
  /* The handle is of a file in the directory, so that it is the opening that is tried. */
  if (name_to_handle_at(root, "file", &at.handle, &mount, 0) < 0)
    return -1;
  return opened(open_by_handle_at(root, &at.handle, O_RDONLY));
}

static int connect_to(int family, const void *address, socklen_t len)
{
  const int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int result = s < 0 ? -1 : connect(s, address, len), err = errno;
  if (s >= 0)
    close(s);
  errno = err;
  return result;
}

static int connect_tcp(void) { return connect_to(AF_INET, &tcp, sizeof tcp); }
static int connect_abstract(void) { return connect_to(AF_UNIX, &abstract, abstract_len); }
static int open_socket(void) { return opened(socket(AF_INET, SOCK_DGRAM, 0)); }
static int signal_victim(void) { return kill(victim, 0); }
static int trace_victim(void) { return (int)ptrace(PTRACE_SEIZE, victim, 0, 0); }
static int run_program(void) { return execl("/bin/true", "true", NULL); }
static int mount_something(void) { return mount("none", "/mnt", "tmpfs", 0, NULL); }
static int clone_mount(void) { return opened((int)syscall(SYS_open_tree, root, "", AT_EMPTY_PATH | 1)); }
static int leave_namespace(void) { return unshare(CLONE_NEWUTS); }
static int change_root(void) { return chroot("."); }
static int become_another(void) { return setuid(1); }

static int fork_child(void)
{
  const pid_t pid = fork();
  if (pid == 0)
    _exit(0);
  return pid < 0 ? -1 : waitpid(pid, NULL, 0) < 0 ? -1 : 0;
}

static void *nothing(void *arg) { return arg; }

static int start_thread(void)
{
  pthread_t thread;
  const int err = pthread_create(&thread, NULL, nothing, NULL);
  if (err == 0)
    pthread_join(thread, NULL);
  errno = err;
  return err ? -1 : 0;
}

static int make_code(void)
{
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static int map_code(void)
{
  void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? -1 : 0;
}

static int choose_signal_receiver(void) { return fcntl(STDOUT_FILENO, F_SETOWN, getpid()); }
static int limit_victim(void)
{
  struct rlimit none;
  return prlimit(victim, RLIMIT_NOFILE, NULL, &none);
}

static int own_limit(void)
{
  struct rlimit any;
  return prlimit(0, RLIMIT_NOFILE, NULL, &any);
}

static int anonymous_file(void) { return opened(memfd_create("x", 0)); }
static int use_inherited(void) { return fcntl(100, F_GETFD) < 0 ? -1 : 0; }
static int raise_privileges(void)
{
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0)
    return -1;
  return syscall(SYS_capset, &header, data) < 0 ? -1 : data[0].effective & (1u << CAP_NET_ADMIN) ? 0 : (errno = EPERM, -1);
}

/* ---- walls ---- */

enum wall { NONE, DESCRIPTORS, MOUNTS, LANDLOCK, CAPABILITIES, CALLS, ALL };
static const char *const wall_names[] = {"nothing", "descriptors", "mounts", "landlock", "capabilities", "calls", "all"};

static int build(enum wall wall, enum role role)
{
  struct failure f;
  const struct confinement c = {.role = role, .root = &root, .lowers = &lower, .lower_count = 1, .files = {-1, -1}};
  switch (wall) {
  case NONE: return 0;
  case DESCRIPTORS: return confine_descriptors(&c, &f);
  case MOUNTS: return confine_mounts(&c, &f);
  case LANDLOCK: return confine_landlock(&c, &f);
  case CAPABILITIES: return confine_capabilities(role, &f);
  case CALLS: return confine_syscalls(role, &f);
  default: return confine(&c, &f);
  }
}

enum { KILLED = 1000, UNBUILT = 250 };

/* 0, the errno, or KILLED for SIGSYS. */
static int outcome(int (*attempt)(void), enum wall wall, enum role role)
{
  int status;
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    dup2(lower, 100);
    if (build(wall, role) < 0)
      _exit(UNBUILT);
    _exit(attempt() == 0 ? 0 : errno);
  }
  must(waitpid(child, &status, 0) == child, "waitpid");
  if (WIFSIGNALED(status))
    return WTERMSIG(status) == SIGSYS ? KILLED : 2000 + WTERMSIG(status);
  return WEXITSTATUS(status);
}

static void expect(const char *what, int (*attempt)(void), enum wall wall, enum role role, int want)
{
  const int got = outcome(attempt, wall, role);
  if (got == want) {
    passed++;
    return;
  }
  failed++;
  printf("not ok: %s behind %s, role %d: %d, not %d\n", what, wall_names[wall], role, got, want);
}

static long landlock_abi(void)
{
  return syscall(SYS_landlock_create_ruleset, NULL, 0ul, LANDLOCK_CREATE_RULESET_VERSION);
}

/* One wall and what it answers; `abi` is Landlock's that knows of this. */
struct refusal {
  const char *what;
  int (*attempt)(void);
  enum wall wall;
  enum role role;
  int want;
  long abi;
};

static const struct refusal refusals[] = {
    {"reading outside", read_outside, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"reading outside", read_outside, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"creating outside", create_outside, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"creating outside", create_outside, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"chmod outside", chmod_outside, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"chmod outside", chmod_outside, ALL, ROLE_VERIFY, EPERM, 0},
    {"`..` of the root", climb_from_root, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"`..` of the root", climb_from_root, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"`..` of a lower layer", climb_from_lower, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"`..` of a lower layer", climb_from_lower, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"chown by `..`", chown_by_climbing, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"chown by `..`", chown_by_climbing, ALL, ROLE_UNPACK, ENOENT, 0},
    {"a link outside", link_outside, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"a device outside", node_outside, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"writing in a lower layer", write_lower, MOUNTS, ROLE_UNPACK, EROFS, 0},
    {"writing in a lower layer", write_lower, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"chown in a lower layer", chown_lower, MOUNTS, ROLE_UNPACK, EROFS, 0},
    {"writing while verifying", write_root, MOUNTS, ROLE_VERIFY, EROFS, 0},
    {"writing while verifying", write_root, LANDLOCK, ROLE_VERIFY, EACCES, 2},
    {"chown while verifying", chown_root, CALLS, ROLE_VERIFY, EPERM, 0},
    {"writing while removing", write_root, LANDLOCK, ROLE_REMOVE, EACCES, 2},
    {"reading while removing", read_root, LANDLOCK, ROLE_REMOVE, EACCES, 2},
    {"chown while removing", chown_root, CALLS, ROLE_REMOVE, EPERM, 0},
    {"links while removing", link_and_unlink, CALLS, ROLE_REMOVE, EPERM, 0},
    {"a socket", socket_in_root, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"opening a device", open_own_device, MOUNTS, ROLE_UNPACK, EACCES, 0},
    {"opening a device", open_own_device, ALL, ROLE_UNPACK, EACCES, 0},
    {"trusted.* while removing", make_opaque, CAPABILITIES, ROLE_REMOVE, EPERM, 0},
    {"a file handle", by_handle, CAPABILITIES, ROLE_UNPACK, EPERM, 0},
    {"TCP", connect_tcp, LANDLOCK, ROLE_UNPACK, EACCES, 4},
    {"TCP", connect_tcp, CALLS, ROLE_UNPACK, KILLED, 0},
    {"UDP", open_socket, CALLS, ROLE_VERIFY, KILLED, 0},
    {"an abstract socket", connect_abstract, LANDLOCK, ROLE_UNPACK, EPERM, 6},
    {"a signal", signal_victim, LANDLOCK, ROLE_UNPACK, EPERM, 6},
    {"a signal", signal_victim, CALLS, ROLE_REMOVE, KILLED, 0},
    {"a trace", trace_victim, CAPABILITIES, ROLE_UNPACK, EPERM, 0},
    {"a trace", trace_victim, LANDLOCK, ROLE_UNPACK, EPERM, 2},
    {"a trace", trace_victim, CALLS, ROLE_UNPACK, KILLED, 0},
    {"exec", run_program, MOUNTS, ROLE_UNPACK, ENOENT, 0},
    {"exec", run_program, LANDLOCK, ROLE_UNPACK, EACCES, 2},
    {"exec", run_program, CALLS, ROLE_UNPACK, KILLED, 0},
    {"mount", mount_something, LANDLOCK, ROLE_UNPACK, EPERM, 2},
    {"mount", mount_something, CAPABILITIES, ROLE_REMOVE, EPERM, 0},
    {"mount", mount_something, CALLS, ROLE_UNPACK, KILLED, 0},
    {"open_tree", clone_mount, CALLS, ROLE_UNPACK, KILLED, 0},
    {"unshare", leave_namespace, CALLS, ROLE_UNPACK, KILLED, 0},
    {"chroot", change_root, CAPABILITIES, ROLE_UNPACK, EPERM, 0},
    {"chroot", change_root, CALLS, ROLE_UNPACK, KILLED, 0},
    {"setuid", become_another, CAPABILITIES, ROLE_UNPACK, EPERM, 0},
    {"setuid", become_another, CALLS, ROLE_UNPACK, KILLED, 0},
    {"fork", fork_child, CALLS, ROLE_UNPACK, EPERM, 0},
    {"mprotect", make_code, CALLS, ROLE_UNPACK, EPERM, 0},
    {"mmap", map_code, CALLS, ROLE_UNPACK, EPERM, 0},
    {"F_SETOWN", choose_signal_receiver, CALLS, ROLE_UNPACK, EPERM, 0},
    {"prlimit of another", limit_victim, CALLS, ROLE_UNPACK, EPERM, 0},
    {"memfd", anonymous_file, CALLS, ROLE_UNPACK, KILLED, 0},
    {"CAP_NET_ADMIN", raise_privileges, CAPABILITIES, ROLE_UNPACK, EPERM, 0},
    {"an inherited descriptor", use_inherited, DESCRIPTORS, ROLE_UNPACK, EBADF, 0},
    {"an inherited descriptor", use_inherited, ALL, ROLE_UNPACK, EBADF, 0},
};

static void test_refusals(void)
{
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    const struct refusal *r = &refusals[i];
    if (landlock_abi() < r->abi) {
      skipped++;
      printf("skipped: %s behind landlock, which this kernel's does not know\n", r->what);
      continue;
    }
    expect(r->what, r->attempt, NONE, r->role, 0);
    unlink(fresh);
    expect(r->what, r->attempt, r->wall, r->role, r->want);
    unlink(fresh);
  }
}

/* Behind all walls at once, what the roles are for. */
static void test_needs(void)
{
  expect("reading in the directory", read_root, ALL, ROLE_UNPACK, 0);
  expect("writing in the directory", write_root, ALL, ROLE_UNPACK, 0);
  expect("chown in the directory", chown_root, ALL, ROLE_UNPACK, 0);
  expect("a link from one directory to another", link_and_unlink, ALL, ROLE_UNPACK, 0);
  expect("reading a lower layer", read_lower, ALL, ROLE_UNPACK, 0);
  expect("reading while verifying", read_root, ALL, ROLE_VERIFY, 0);
  for (enum role role = ROLE_UNPACK; role <= ROLE_REMOVE; role <<= 1) {
    expect("a thread", start_thread, ALL, role, 0);
    expect("its own limits", own_limit, ALL, role, 0);
  }
}

/* ---- kernels that have less ---- */

/* From here on landlock_create_ruleset answers as where Landlock is not built in, or not switched on. */
static void take_landlock_away(int err)
{
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "filter");
}

static int expect_and_tell(void)
{
  const int before = failed;
  expect("reading outside, without Landlock", read_outside, ALL, ROLE_UNPACK, ENOENT);
  expect("chmod outside, without Landlock", chmod_outside, ALL, ROLE_UNPACK, EPERM);
  expect("`..` of a lower layer, without Landlock", climb_from_lower, ALL, ROLE_UNPACK, ENOENT);
  expect("writing in a lower layer, without Landlock", write_lower, ALL, ROLE_UNPACK, EROFS);
  expect("TCP, without Landlock", connect_tcp, ALL, ROLE_UNPACK, KILLED);
  expect("a link inside, without Landlock", link_and_unlink, ALL, ROLE_UNPACK, 0);
  return failed - before;
}

static void test_without_landlock(int err)
{
  int status;
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    take_landlock_away(err);
    const int wrong = expect_and_tell();
    fflush(stdout);
    _exit(wrong);
  }
  must(waitpid(child, &status, 0) == child, "waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    passed++;
  else
    failed++;
}

#ifdef __x86_64__
static int call_of_i386(void)
{
  long result = 20; /* getpid, for i386 */
  __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
  return result > 0 ? 0 : (errno = (int)-result, -1);
}

static void test_other_architecture(void)
{
  if (outcome(call_of_i386, NONE, ROLE_UNPACK) != 0) {
    skipped++;
    puts("skipped: this kernel runs nothing of i386");
    return;
  }
  expect("a call of i386", call_of_i386, CALLS, ROLE_UNPACK, KILLED);
}
#else
static void test_other_architecture(void) {}
#endif

static int unknown_call(void) { return (int)syscall(4000); }
static int call_of_x32(void) { return (int)syscall(0x40000000 + SYS_getpid); }
static int raw_clone3(void) { return (int)syscall(SYS_clone3, NULL, 0ul); }
static int unneeded_call(void) { return (int)syscall(SYS_sync); }

/* A libc that is newer than the list falls back when it hears ENOSYS, and only then. */
static void test_unknown_calls(void)
{
  expect("a call of the future", unknown_call, CALLS, ROLE_UNPACK, ENOSYS);
  expect("clone3", raw_clone3, NONE, ROLE_UNPACK, EINVAL);
  expect("clone3", raw_clone3, CALLS, ROLE_UNPACK, ENOSYS);
  expect("sync", unneeded_call, CALLS, ROLE_UNPACK, EPERM);
#ifdef __x86_64__
  expect("x32", call_of_x32, CALLS, ROLE_UNPACK, ENOSYS);
#endif
}

int main(void)
{
  if (geteuid() != 0) {
    puts("confinement needs root: not tested\n0 passed, 0 failed, 1 skipped");
    return 0;
  }
  must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount namespace");
  make_place();
  make_peers();
  test_refusals();
  test_needs();
  test_unknown_calls();
  test_other_architecture();
  test_without_landlock(ENOSYS);
  test_without_landlock(EOPNOTSUPP);
  kill(victim, SIGKILL);
  waitpid(victim, NULL, 0);
  remove_place();
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed > 0;
}
