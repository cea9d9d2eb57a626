/* Applying one entry of an archive; see tree.h. */
#define _GNU_SOURCE
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

int tree_start(struct tree *t, int root, const int *lowers, size_t lower_count, int is_base, struct failure *failure)
{
  memset(t, 0, sizeof *t);
  t->root = root;
  t->lowers = lowers;
  t->lower_count = lower_count;
  t->is_base = is_base;
  t->failure = failure;
  t->parent = -1;
  t->inodes = 1;
  t->disk_bytes = 4096;
  if (fchown(root, 0, 0) < 0 || fchmod(root, 0755) < 0)
    return fail(failure, "root", errno, NULL);
  return 0;
}

void tree_end(struct tree *t)
{
  tree_forget_parent(t);
  free(t->implied_set);
  free(t->dir_times);
  free(t->dir_paths);
  manifest_free(t->manifest);
  content_free(t->hash);
}

/* ---- removing ---- */

static int is_dots(const char *name)
{
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

enum { REMOVE_DEPTH = 256 };

/*
 * A directory that is too deep to go into with a descriptor for each level is moved up to the top one, whose name for
 * it cannot be there already: whoever removes a tree need not follow how deep someone made it.
 */
struct removal {
  int top;
  unsigned depth, moves;
  int moved; /* something was: the top has to be listed again */
};

static int remove_in(struct removal *r, int dir, const char *name);

static int move_up(struct removal *r, int dir, const char *name)
{
  char to[32];
  int done;
  do
    snprintf(to, sizeof to, ".berth-removing-%u", r->moves++);
  while ((done = renameat2(dir, name, r->top, to, RENAME_NOREPLACE)) < 0 && errno == EEXIST);
  r->moved = 1;
  return done;
}

static int remove_contents(struct removal *r, int fd)
{
  DIR *list = fdopendir(fd);
  int result = 0;
  if (!list) {
    close(fd);
    return -1;
  }
  r->depth++;
  for (struct dirent *e; result == 0 && (e = readdir(list));)
    if (!is_dots(e->d_name))
      result = remove_in(r, fd, e->d_name);
  r->depth--;
  const int err = errno;
  closedir(list);
  errno = err;
  return result;
}

static int remove_in(struct removal *r, int dir, const char *name)
{
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
    return 0;
  if (errno != EISDIR && errno != EPERM)
    return -1;
  if (r->depth == REMOVE_DEPTH)
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : move_up(r, dir, name);
  int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 || remove_contents(r, fd) < 0 ? -1 : unlinkat(dir, name, AT_REMOVEDIR);
}

int remove_tree(int dir, const char *name)
{
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
    return 0;
  if (errno != EISDIR && errno != EPERM)
    return -1;
  struct removal r = {.top = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (r.top < 0)
    return -1;
  int result;
  do {
    const int fd = openat(r.top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r.moved = 0;
    result = fd < 0 ? -1 : remove_contents(&r, fd);
  } while (result == 0 && r.moved);
  const int err = errno;
  close(r.top);
  errno = err;
  return result < 0 ? -1 : unlinkat(dir, name, AT_REMOVEDIR);
}

/* Clears the place for an entry. 0 or -1. */
static int clear(struct tree *t, int parent, const char *name, const char *path)
{
  t->parent_stale = 1; /* what is removed may be on the way to it */
  return remove_tree(parent, name) < 0 ? fail(t->failure, "replace", errno, path) : 0;
}

/* ---- attributes ---- */

static int has_space(int fd)
{
  struct statfs fs;
  return fstatfs(fd, &fs) == 0 && fs.f_bfree > 0;
}

static int set_xattr(int fd, const struct tar_entry *e, const struct tar_xattr *x)
{
  const int user = strncmp(x->name, "user.", 5) == 0 && strncmp(x->name, "user.overlay.", 13) != 0;
  const int capability = e->type == TAR_FILE && strcmp(x->name, "security.capability") == 0;
  if (!user && !capability)
    return 0; /* trusted.* would speak to overlayfs, other security.* to the host's policy */
  if (capability && x->len == 0) { /* the kernel would take that, and refuse to read it */
    errno = EINVAL;
    return -1;
  }
  if (fsetxattr(fd, x->name, x->value, x->len, 0) == 0)
    return 0;
  if (errno == ENOSPC && has_space(fd))
    errno = E2BIG; /* ext4's word for attributes that are too large for their block */
  return user && errno == ENOTSUP ? 0 : -1;
}

/*
 * What the file has already is not set again: most files are root's and were made with their mode, and each change is a
 * transaction of the file system's. In this order: a change of owner takes set-id bits and capabilities away.
 */
static int set_attributes(struct tree *t, int fd, const struct stat *st, const struct tar_entry *e)
{
  const int owned = st->st_uid == e->uid && st->st_gid == e->gid;
  if (!owned && fchown(fd, e->uid, e->gid) < 0)
    return fail(t->failure, "chown", errno, e->path);
  if ((!owned || (st->st_mode & 07777) != e->mode) && fchmod(fd, e->mode) < 0)
    return fail(t->failure, "chmod", errno, e->path);
  for (size_t i = 0; i < e->xattr_count; i++)
    if (set_xattr(fd, e, &e->xattrs[i]) < 0)
      return fail(t->failure, "xattr", errno, e->path);
  return 0;
}

static struct timespec mtime_of(const struct tar_entry *e)
{
  return (struct timespec){.tv_sec = e->mtime_seconds, .tv_nsec = e->mtime_ns};
}

static int set_attributes_of_name(struct tree *t, int parent, const char *name, const struct tar_entry *e)
{
  const struct timespec times[2] = {mtime_of(e), mtime_of(e)};
  if (fchownat(parent, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(t->failure, "chown", errno, e->path);
  if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(t->failure, "times", errno, e->path);
  return 0;
}

int tree_remember_time(struct tree *t, const char *path, struct timespec mtime)
{
  const size_t len = strlen(path) + 1;
  if (t->dir_time_count == t->dir_time_slots) {
    const size_t slots = t->dir_time_slots ? t->dir_time_slots * 2 : 1024;
    void *more = reallocarray(t->dir_times, slots, sizeof *t->dir_times);
    if (!more)
      return fail(t->failure, "memory", ENOMEM, path);
    t->dir_times = more;
    t->dir_time_slots = slots;
  }
  if (t->dir_paths_len + len > t->dir_paths_size) {
    const size_t size = t->dir_paths_size ? t->dir_paths_size * 2 : 64 * 1024;
    void *more = size > DIR_PATHS_MAX ? NULL : realloc(t->dir_paths, size);
    if (!more)
      return fail(t->failure, "memory", ENOMEM, path);
    t->dir_paths = more;
    t->dir_paths_size = size;
  }
  memcpy(t->dir_paths + t->dir_paths_len, path, len);
  t->dir_times[t->dir_time_count++] = (struct dir_time){.path = t->dir_paths_len, .mtime = mtime};
  t->dir_paths_len += len;
  return 0;
}

int tree_finish(struct tree *t)
{
  for (size_t i = 0; i < t->dir_time_count; i++) {
    const char *path = t->dir_paths + t->dir_times[i].path, *name;
    const struct timespec times[2] = {t->dir_times[i].mtime, t->dir_times[i].mtime};
    int parent = tree_find_parent(t, path, &name);
    int fd = parent < 0 ? -1 : openat(parent, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (parent >= 0)
      close(parent);
    if (fd < 0)
      continue; /* a later entry replaced it */
    const int done = futimens(fd, times);
    const int err = errno;
    close(fd);
    if (done < 0)
      return fail(t->failure, "times", err, path);
  }
  return t->manifest ? manifest_write(t->manifest, t->root, t->failure) : 0;
}

int tree_keep_manifest(struct tree *t, int fd)
{
  t->manifest = manifest_start(fd);
  t->hash = content_new();
  return t->manifest && t->hash ? 0 : fail(t->failure, "memory", ENOMEM, NULL);
}

/* ---- one function per type ---- */

static int describe_directory(struct tree *t, int fd, const char *path, const struct tar_entry *e)
{
  struct stat st;
  if (fstat(fd, &st) < 0)
    return fail(t->failure, "stat", errno, path);
  if (set_attributes(t, fd, &st, e) < 0)
    return -1;
  tree_described(t, st.st_ino);
  return tree_remember_time(t, path, mtime_of(e));
}

/* 1: made, 0: it was there as a directory, -1. A directory in place of something else covers what is below it. */
static int make_directory(struct tree *t, int parent, const char *name, mode_t mode, const char *path, int *covers)
{
  struct stat st;
  *covers = 0;
  if (mkdirat(parent, name, mode) == 0)
    return 1;
  if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(t->failure, "mkdir", errno, path);
  if (S_ISDIR(st.st_mode))
    return 0;
  *covers = 1;
  if (clear(t, parent, name, path) < 0)
    return -1;
  return mkdirat(parent, name, mode) < 0 ? fail(t->failure, "mkdir", errno, path) : 1;
}

static int apply_directory(struct tree *t, int parent, const char *name, const char *path, const struct tar_entry *e)
{
  int covers;
  const int made = make_directory(t, parent, name, e->mode & 0777, path, &covers);
  if (made < 0)
    return -1;
  if (made) {
    t->inodes++;
    t->disk_bytes += 4096;
  }
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return fail(t->failure, "open", errno, path);
  int result = covers && make_opaque(fd) < 0 ? fail(t->failure, "opaque", errno, path) : describe_directory(t, fd, path, e);
  close(fd);
  return result;
}

enum { WRITE_BACK_BYTES = 4 * 1024 * 1024 };

/*
 * Lets the disk begin with a large file while the rest of it still comes, so that no layer fills the memory with dirty
 * pages. Smaller ones are left to the kernel's own thread, which writes many with one command; one by one they cost
 * more than they would hold up. What fails here, the sync at the end tells.
 */
static void write_back(int fd, uint64_t *waiting)
{
  if (*waiting < WRITE_BACK_BYTES)
    return;
  sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  *waiting = 0;
}

/* Writes the next `left` bytes of the entry's contents. */
static int write_bytes(struct tree *t, struct tar *tar, int fd, const char *path, uint64_t left)
{
  uint64_t waiting = 0;
  while (left > 0) {
    size_t len;
    const uint8_t *p = tar_peek(tar, &len);
    if (!p)
      return -1;
    if (len > left)
      len = (size_t)left;
    ssize_t n = write(fd, p, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(t->failure, "write", errno, path);
    if (t->manifest)
      content_data(t->hash, p, (size_t)n);
    tar_consume(tar, (size_t)n);
    left -= (uint64_t)n;
    waiting += (uint64_t)n;
    write_back(fd, &waiting);
  }
  return 0;
}

static void hash_hole(struct tree *t, uint64_t len)
{
  if (t->manifest)
    content_hole(t->hash, len);
}

static int write_sparse(struct tree *t, struct tar *tar, int fd, const char *path, const struct tar_entry *e)
{
  uint64_t at = 0;
  for (size_t i = 0; i < e->segment_count; i++) {
    const struct tar_segment *s = &e->segments[i];
    hash_hole(t, s->at - at);
    if (lseek(fd, (off_t)s->at, SEEK_SET) < 0)
      return fail(t->failure, "write", errno, path);
    if (write_bytes(t, tar, fd, path, s->len) < 0)
      return -1;
    at = s->at + s->len;
  }
  hash_hole(t, e->size - at);
  return ftruncate(fd, (off_t)e->size) < 0 ? fail(t->failure, "write", errno, path) : 0;
}

static int write_contents(struct tree *t, struct tar *tar, int fd, const char *path, const struct tar_entry *e)
{
  return e->sparse ? write_sparse(t, tar, fd, path, e) : write_bytes(t, tar, fd, path, e->size);
}

static uint64_t stored_bytes(const struct tar_entry *e)
{
  uint64_t sum = e->sparse ? 0 : e->size;
  for (size_t i = 0; i < e->segment_count; i++)
    sum += e->segments[i].len;
  return sum;
}

/* Tells the manifest what the new file holds. */
static int keep_contents(struct tree *t, int fd, ino_t ino, const char *path, const struct tar_entry *e)
{
  uint8_t content[CONTENT_BYTES];
  uint64_t xattrs = 0;
  content_end(t->hash, content);
  if (e->xattr_count > 0 && content_of_xattrs(fd, &xattrs) < 0)
    return fail(t->failure, "xattr", errno, path);
  manifest_keep(t->manifest, ino, content, xattrs);
  return 0;
}

static int fill_file(struct tree *t, struct tar *tar, int fd, const char *path, const struct tar_entry *e)
{
  const struct timespec times[2] = {mtime_of(e), mtime_of(e)};
  struct stat st;
  if (t->manifest)
    content_start(t->hash);
  if (write_contents(t, tar, fd, path, e) < 0)
    return -1;
  if (fstat(fd, &st) < 0)
    return fail(t->failure, "stat", errno, path);
  if (set_attributes(t, fd, &st, e) < 0)
    return -1;
  if (t->manifest && keep_contents(t, fd, st.st_ino, path, e) < 0)
    return -1;
  return futimens(fd, times) < 0 ? fail(t->failure, "times", errno, path) : 0;
}

static int apply_file(struct tree *t, struct tar *tar, int parent, const char *name, const char *path,
                      const struct tar_entry *e)
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  const mode_t mode = e->mode & 0777; /* set-id bits only once it has its owner */
  int fd = openat(parent, name, flags, mode);
  if (fd < 0 && errno == EEXIST) {
    if (clear(t, parent, name, path) < 0)
      return -1;
    fd = openat(parent, name, flags, mode);
  }
  if (fd < 0)
    return fail(t->failure, "create", errno, path);
  int result = fill_file(t, tar, fd, path, e);
  if (close(fd) < 0 && result == 0)
    result = fail(t->failure, "write", errno, path);
  t->inodes++;
  t->disk_bytes += (stored_bytes(e) + 4095) & ~4095ull;
  return result;
}

static int make_special(int parent, const char *name, const struct tar_entry *e)
{
  switch (e->type) {
  case TAR_SYMLINK: return symlinkat(e->link, parent, name);
  case TAR_CHAR: return mknodat(parent, name, S_IFCHR | e->mode, makedev(e->major, e->minor));
  case TAR_BLOCK: return mknodat(parent, name, S_IFBLK | e->mode, makedev(e->major, e->minor));
  default: return mknodat(parent, name, S_IFIFO | e->mode, 0);
  }
}

/* Symbolic links, devices, FIFOs. */
static int apply_special(struct tree *t, int parent, const char *name, const char *path, const struct tar_entry *e)
{
  int done = make_special(parent, name, e);
  if (done < 0 && errno == EEXIST) {
    if (clear(t, parent, name, path) < 0)
      return -1;
    done = make_special(parent, name, e);
  }
  if (done < 0)
    return fail(t->failure, e->type == TAR_SYMLINK ? "symlink" : "mknod", errno, path);
  t->inodes++;
  return set_attributes_of_name(t, parent, name, e);
}

/* The directory that holds a link's target: in this layer, or copied up from below. Its fd, or -1. */
static int link_target(struct tree *t, const char *target, const char **name, const char *path)
{
  struct stat st;
  int holder = tree_find_parent(t, target, name);
  const int present = holder >= 0 && fstatat(holder, *name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (present && !is_whiteout(&st))
    return holder;
  const int hidden = holder < 0 ? errno != ENOENT : present || is_opaque(holder); /* by this layer */
  if (holder >= 0)
    close(holder);
  if (t->is_base || hidden)
    return fail(t->failure, "link-target", ENOENT, path);
  if (t->lower_count == 0) {
    t->links_below = 1;
    return -1;
  }
  int copied = lower_copy_up(t, target);
  if (copied <= 0)
    return copied < 0 ? -1 : fail(t->failure, "link-target", ENOENT, path);
  holder = tree_find_parent(t, target, name);
  return holder < 0 ? fail(t->failure, "link-target", errno, path) : holder;
}

static int same_file(int a, const char *a_name, int b, const char *b_name)
{
  struct stat x, y;
  return fstatat(a, a_name, &x, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(b, b_name, &y, AT_SYMLINK_NOFOLLOW) == 0 &&
         x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int make_hardlink(struct tree *t, int holder, const char *target, int parent, const char *name, const char *path)
{
  int done = linkat(holder, target, parent, name, 0);
  if (done < 0 && errno == EEXIST) {
    if (same_file(holder, target, parent, name))
      return 0;
    if (clear(t, parent, name, path) < 0)
      return -1;
    done = linkat(holder, target, parent, name, 0);
  }
  return done < 0 ? fail(t->failure, "link", errno, path) : 0;
}

static int apply_hardlink(struct tree *t, int parent, const char *name, const char *path, const struct tar_entry *e)
{
  char target[PATH_LIMIT + 1];
  const char *target_name;
  if (clean_path(e->link, target) < 0 || target[0] == 0)
    return fail(t->failure, "link-escapes", EXDEV, path);
  parent = fcntl(parent, F_DUPFD_CLOEXEC, 0); /* copying up may take the tree to another parent */
  if (parent < 0)
    return fail(t->failure, "open", errno, path);
  int holder = link_target(t, target, &target_name, path);
  int result = holder < 0 ? -1 : make_hardlink(t, holder, target_name, parent, name, path);
  if (holder >= 0)
    close(holder);
  close(parent);
  return t->links_below ? 0 : result;
}

/* ---- whiteouts (OCI image-spec, layer.md) ---- */

static const char whiteout_prefix[] = ".wh.", opaque_name[] = ".wh..wh..opq", aufs_prefix[] = ".wh..wh.";

static int starts_with(const char *text, const char *prefix)
{
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A whiteout as a directory on the way is nonsense; AUFS' own directories are left out. 1: leave the entry out. */
static int check_names(struct tree *t, const char *path)
{
  for (const char *p = path; (p = strstr(p, whiteout_prefix)); p++) {
    const int begins = p == path || p[-1] == '/';
    if (begins && starts_with(p, aufs_prefix) && strcmp(p, opaque_name) != 0)
      return 1;
    if (begins && strchr(p, '/'))
      return fail(t->failure, "whiteout", EINVAL, path);
  }
  return 0;
}

static int apply_opaque(struct tree *t, int parent, const char *path)
{
  if (make_opaque(parent) < 0)
    return fail(t->failure, "opaque", errno, path);
  if (same_file(parent, ".", t->root, ".")) /* also by way of a link */
    t->opaque_root = 1;
  return 0;
}

/* What is already there is this layer's own, and covers what is below: a file by itself, a directory once it is opaque. */
static int apply_whiteout(struct tree *t, int parent, const char *hidden, const char *path)
{
  struct stat st;
  if (hidden[0] == 0 || is_dots(hidden))
    return fail(t->failure, "whiteout", EINVAL, path);
  if (mknodat(parent, hidden, S_IFCHR, makedev(0, 0)) == 0) {
    t->inodes++;
    return 0;
  }
  if (errno != EEXIST || fstatat(parent, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(t->failure, "whiteout", errno, path);
  if (!S_ISDIR(st.st_mode))
    return 0;
  int fd = openat(parent, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  int done = fd < 0 ? -1 : make_opaque(fd);
  const int err = errno;
  if (fd >= 0)
    close(fd);
  return done < 0 ? fail(t->failure, "whiteout", err, path) : 0;
}

/* ---- the entry ---- */

static int apply_in(struct tree *t, struct tar *tar, int parent, const char *name, const char *path,
                    const struct tar_entry *e)
{
  if (strcmp(name, opaque_name) == 0)
    return apply_opaque(t, parent, path);
  if (starts_with(name, whiteout_prefix))
    return apply_whiteout(t, parent, name + strlen(whiteout_prefix), path);
  switch (e->type) {
  case TAR_DIR: return apply_directory(t, parent, name, path, e);
  case TAR_FILE: return apply_file(t, tar, parent, name, path, e);
  case TAR_HARDLINK: return apply_hardlink(t, parent, name, path, e);
  default: return apply_special(t, parent, name, path, e);
  }
}

int tree_apply(struct tree *t, struct tar *tar, const struct tar_entry *e)
{
  char path[PATH_LIMIT + 1];
  const char *name;
  if (++t->entries > ENTRIES_MAX)
    return fail(t->failure, "entries", E2BIG, NULL);
  if (clean_path(e->path, path) < 0)
    return fail(t->failure, "escapes", EXDEV, e->path);
  if (path[0] == 0)
    return e->type == TAR_DIR ? describe_directory(t, t->root, path, e) : fail(t->failure, "root", EINVAL, e->path);
  const int leave_out = check_names(t, path);
  if (leave_out)
    return leave_out < 0 ? -1 : 0;
  int parent = tree_parent(t, path, &name);
  return parent < 0 ? -1 : apply_in(t, tar, parent, name, path, e);
}
