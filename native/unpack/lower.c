/* Looking at the layers below, the way overlayfs would, and taking over from them. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char opaque[] = "trusted.overlay.opaque";

int is_whiteout(const struct stat *st)
{
  return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

int make_opaque(int dir)
{
  return fsetxattr(dir, opaque, "y", 1, 0);
}

int is_opaque(int dir)
{
  char value;
  return fgetxattr(dir, opaque, &value, 1) == 1 && value == 'y';
}

enum { HIDDEN = -2, NEXT = -1 };

/* In one layer: the fd of the directory that holds `path`, NEXT if it is not here, HIDDEN if this layer covers those below. */
static int find_in_layer(int layer, const char *path, struct stat *st)
{
  int dir = openat(layer, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int below = NEXT;
  while (dir >= 0) {
    char name[NAME_MAX + 1];
    const size_t n = strcspn(path, "/");
    const int last = path[n] == 0;
    if (n > NAME_MAX)
      break;
    memcpy(name, path, n);
    name[n] = 0;
    if (is_opaque(dir))
      below = HIDDEN;
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
      break;
    if (is_whiteout(st) || (!last && !S_ISDIR(st->st_mode))) {
      below = HIDDEN;
      break;
    }
    if (last)
      return dir;
    int next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(dir);
    dir = next;
    path += n + 1;
  }
  if (dir >= 0)
    close(dir);
  return below;
}

int lower_find(const struct tree *t, const char *path, struct stat *st)
{
  int fd = NEXT;
  for (size_t i = 0; i < t->lower_count && fd == NEXT; i++)
    fd = find_in_layer(t->lowers[i], path, st);
  if (fd >= 0)
    return fd;
  errno = ENOENT;
  return -1;
}

static const char *last_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static int keeps_xattr(const char *name)
{
  return strcmp(name, "security.capability") == 0 || (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0);
}

static int copy_xattrs(int from, int to)
{
  char names[64 * 1024], value[64 * 1024]; /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
  ssize_t len = flistxattr(from, names, sizeof names);
  for (const char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
    if (!keeps_xattr(name))
      continue;
    ssize_t n = fgetxattr(from, name, value, sizeof value);
    if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
      return -1;
  }
  return len < 0 && errno != ENOTSUP ? -1 : 0;
}

/* Owner, mode, xattrs: in this order, because a change of owner takes set-id bits and capabilities away. */
static int copy_attributes(int from, int to, const struct stat *st)
{
  if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
    return -1;
  return copy_xattrs(from, to);
}

int lower_adopt(struct tree *t, const char *path, int fd)
{
  struct stat st;
  int holder = lower_find(t, path, &st);
  if (holder < 0)
    return 0;
  int from = S_ISDIR(st.st_mode) ? openat(holder, last_name(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
  close(holder);
  if (from < 0)
    return 0; /* a file or a link below: the new directory covers it */
  int result = copy_attributes(from, fd, &st) < 0 ? fail(t->failure, "adopt", errno, path) : 1;
  close(from);
  return result == 1 && tree_remember_time(t, path, st.st_mtim) < 0 ? -1 : result;
}

/* From where both are, `left` bytes. */
static int copy_range(int from, int to, off_t left)
{
  while (left > 0) {
    const ssize_t n = copy_file_range(from, NULL, to, NULL, left < 1 << 30 ? (size_t)left : 1 << 30, 0);
    if (n <= 0)
      return (int)n; /* 0: it is shorter than it was */
    left -= n;
  }
  return 0;
}

/* Holes stay holes: a few bytes of archive make a file of terabytes below, and a link to it in this layer. */
static int copy_contents(int from, int to, off_t size)
{
  for (off_t at = 0; at < size;) {
    const off_t data = lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
      break;
    const off_t end = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
    if (end < 0 || lseek(from, data, SEEK_SET) < 0 || lseek(to, data, SEEK_SET) < 0)
      return -1;
    if (copy_range(from, to, end - data) < 0)
      return -1;
    at = end;
  }
  return ftruncate(to, size);
}

static int copy_file(struct tree *t, int holder, const char *name, int parent, const struct stat *st)
{
  const struct timespec times[2] = {st->st_mtim, st->st_mtim};
  int from = openat(holder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  int to = from < 0 ? -1 : openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  int result = to < 0 || copy_contents(from, to, st->st_size) < 0 || copy_attributes(from, to, st) < 0 ? -1 : futimens(to, times);
  if (result == 0 && t->manifest) {
    struct stat copy;
    if ((result = fstat(to, &copy)) == 0)
      manifest_forget(t->manifest, copy.st_ino); /* a file that had this inode before is gone */
  }
  const int err = errno;
  if (from >= 0)
    close(from);
  if (to >= 0)
    close(to);
  errno = err;
  return result;
}

static int copy_link(int holder, const char *name, int parent, const struct stat *st)
{
  char text[PATH_LIMIT + 1];
  const struct timespec times[2] = {st->st_mtim, st->st_mtim};
  ssize_t n = readlinkat(holder, name, text, PATH_LIMIT);
  if (n < 0)
    return -1;
  text[n] = 0;
  if (symlinkat(text, parent, name) < 0 || fchownat(parent, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
    return -1;
  return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_special(const char *name, int parent, const struct stat *st)
{
  const struct timespec times[2] = {st->st_mtim, st->st_mtim};
  if (mknodat(parent, name, st->st_mode, st->st_rdev) < 0 ||
      fchownat(parent, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
    return -1;
  return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
}

int lower_copy_up(struct tree *t, const char *path)
{
  struct stat st;
  const char *name;
  int holder = lower_find(t, path, &st);
  if (holder < 0)
    return 0;
  int parent = tree_parent(t, path, &name);
  int done = parent < 0 ? -1 : 0;
  if (done == 0 && S_ISREG(st.st_mode))
    done = copy_file(t, holder, name, parent, &st);
  else if (done == 0 && S_ISLNK(st.st_mode))
    done = copy_link(holder, name, parent, &st);
  else if (done == 0 && S_ISDIR(st.st_mode))
    done = (errno = EPERM, -1); /* as link(2) says */
  else if (done == 0)
    done = copy_special(name, parent, &st);
  const int err = errno;
  close(holder);
  if (parent < 0)
    return -1;
  if (done < 0)
    return fail(t->failure, "copy-up", err, path);
  t->inodes++;
  t->disk_bytes += (uint64_t)st.st_blocks * 512;
  return 1;
}
