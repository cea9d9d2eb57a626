#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int confine(const struct confinement *c, struct failure *f)
{
  if (confine_descriptors(c, f) < 0 || confine_limits(f) < 0 || confine_mounts(c, f) < 0)
    return -1;
  if (confine_capabilities(c->role, f) < 0 || confine_landlock(c, f) < 0)
    return -1;
  return confine_syscalls(c->role, f);
}

/* ---- limits ---- */

/*
 * Addresses, since the kernel limits no other kind of a process' memory. The largest layers that are not refused for
 * something else come to some 800 MiB: 128 for a zstd window, up to 256 for directories whose times are set at the end,
 * 256 for the names that the manifest still has to look at, 144 for files known by inode. What wants more fails with the
 * step `memory`.
 */
enum { MEMORY_MAX = 1 << 30 };

/* The stack grows by page faults, and one that finds no addresses left is a crash instead of an error. */
static void reserve_stack(void)
{
  volatile char deepest[2 << 20]; /* twice of what writing the manifest of the deepest tree takes */
  deepest[0] = 0;
  (void)deepest[0];
}

int confine_limits(struct failure *f)
{
  const struct rlimit memory = {MEMORY_MAX, MEMORY_MAX}, core = {0, 0};
  struct rlimit files;
  umask(0);
  reserve_stack();
  mallopt(M_ARENA_MAX, 1); /* every further one takes 64 MiB of addresses, and the threads allocate next to nothing */
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a descriptor a level is held in a deep tree */
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
  return 0;
}

/* ---- descriptors ---- */

static int is_named(const struct confinement *c, int fd)
{
  int named = fd == *c->root || fd == c->files[0] || fd == c->files[1];
  for (size_t i = 0; i < c->lower_count; i++)
    named |= fd == c->lowers[i];
  return named;
}

int confine_descriptors(const struct confinement *c, struct failure *f)
{
  int last = *c->root > STDERR_FILENO ? *c->root : STDERR_FILENO; /* of those that stay */
  for (size_t i = 0; i < c->lower_count; i++)
    last = c->lowers[i] > last ? c->lowers[i] : last;
  for (size_t i = 0; i < 2; i++)
    last = c->files[i] > last ? c->files[i] : last;
  for (int fd = STDERR_FILENO + 1; fd < last; fd++)
    if (!is_named(c, fd))
      close(fd);
  return syscall(SYS_close_range, (unsigned)last + 1, ~0u, 0u) < 0 ? fail(f, "confine", errno, "descriptors") : 0;
}

/* ---- mounts ---- */

/*
 * A clone of the mount that `*fd` is in, with that directory as its root, attached nowhere: its `..` is itself, and the
 * host's mount table, which a mount namespace would have to copy, is left alone. Mounts below it are not in it,
 * nor will be.
 */
static int enclose(int *fd, uint64_t attributes)
{
  struct mount_attr how = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | attributes,
                           .propagation = MS_PRIVATE};
  const int mount = (int)syscall(SYS_open_tree, *fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (mount < 0 || syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &how, sizeof how) < 0)
    return -1;
  const int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0)
    return -1;
  close(*fd);
  *fd = root; /* `mount` stays open: the last descriptor of a clone unmounts it */
  return 0;
}

int confine_directory(int *fd, int readonly)
{
  return enclose(fd, readonly ? MOUNT_ATTR_RDONLY : 0);
}

static int enclose_all(const struct confinement *c, struct failure *f)
{
  if (confine_directory(c->root, c->role == ROLE_VERIFY || c->role == ROLE_SCAN) < 0)
    return fail(f, "confine", errno, "mount");
  for (size_t i = 0; i < c->lower_count; i++)
    if (confine_directory(&c->lowers[i], 1) < 0)
      return fail(f, "confine", errno, "mount");
  return 0;
}

int confine_mounts(const struct confinement *c, struct failure *f)
{
  if ((c->make_mounts ? c->make_mounts(c, f) : enclose_all(c, f)) < 0)
    return -1;
  return fchdir(*c->root) < 0 || chroot(".") < 0 ? fail(f, "confine", errno, "chroot") : 0;
}

/* ---- capabilities ---- */

static const struct {
  uint8_t capability, roles;
} kept[] = {
    {CAP_CHOWN, ROLE_UNPACK | ROLE_COPY}, /* owners that the archive or a build names */
    {CAP_DAC_OVERRIDE, ROLE_UNPACK | ROLE_REMOVE | ROLE_PACK | ROLE_COPY}, /* directories of those owners, of any mode */
    {CAP_DAC_READ_SEARCH, ROLE_VERIFY | ROLE_SCAN},       /* the same, to read */
    {CAP_FOWNER, ROLE_UNPACK | ROLE_VERIFY | ROLE_REMOVE | ROLE_PACK | ROLE_COPY}, /* modes, times; O_NOATIME; sticky */
    {CAP_FSETID, ROLE_UNPACK | ROLE_COPY},                /* set-group-id of a group that is not ours */
    {CAP_MKNOD, ROLE_UNPACK | ROLE_COPY}, /* devices; the mount is nodev, so none of them can be opened */
    {CAP_SETFCAP, ROLE_UNPACK | ROLE_COPY},               /* security.capability */
    {CAP_SYS_ADMIN, ROLE_UNPACK | ROLE_VERIFY | ROLE_PACK}, /* trusted.overlay.opaque: to set it and to see it */
};

int confine_capabilities(enum role role, struct failure *f)
{
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2], want[2] = {{0}, {0}};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return fail(f, "confine", errno, "no_new_privs");
  if (syscall(SYS_capget, &header, data) < 0)
    return fail(f, "confine", errno, "capabilities");
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    const unsigned word = kept[i].capability / 32, bit = kept[i].roles & role ? 1u << (kept[i].capability % 32) : 0;
    want[word].permitted |= data[word].permitted & bit;
    want[word].effective |= data[word].permitted & bit;
  }
  return syscall(SYS_capset, &header, want) < 0 ? fail(f, "confine", errno, "capabilities") : 0;
}
