/*
 * Reading a directory and writing it as a layer. Entries come in the order of their names, owners are numbers, times are
 * seconds, so that the same files are the same bytes. overlayfs's whiteouts and opaque directories become those of the
 * OCI image-spec. No link is followed: every name is opened in the directory that holds it.
 */
#define _GNU_SOURCE
#include "pack.h"
#include "content.h"
#include "manifest.h"
#include "tarwrite.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A file that has been written and has more names. */
struct linked {
  ino_t ino; /* 0: free */
  char *path;
};

struct packing {
  const struct pack *p;
  struct failure *failure;
  struct sink *sink;
  struct manifest *manifest;
  struct content_hash *hash;
  struct linked *linked;
  size_t linked_slots, linked_used;
  uint64_t entries, disk_bytes, inodes;
  unsigned depth;
  char path[PATH_LIMIT + 2]; /* where the walk is, with the slash of a directory */
  size_t path_len;
  uint8_t buffer[256 * 1024];
};

/* ---- what was mounted is not the layer's ---- */

static int parent_in(int root, const char *path, const char **name)
{
  const char *slash = strrchr(path, '/');
  char above[PATH_LIMIT + 1];
  *name = slash ? slash + 1 : path;
  int dir = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (!slash || dir < 0)
    return dir;
  memcpy(above, path, (size_t)(slash - path));
  above[slash - path] = 0;
  for (char *save, *part = strtok_r(above, "/", &save); part && dir >= 0; part = strtok_r(NULL, "/", &save)) {
    const int next = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(dir);
    dir = next;
  }
  return dir;
}

/* The layers below show the same directory: taken away from here, nothing but its time changes. */
static int says_nothing(const struct tree *below, const char *path, const struct stat *st)
{
  struct stat old;
  const int holder = lower_find(below, path, &old);
  if (holder < 0)
    return (st->st_mode & 07777) == 0755 && st->st_uid == 0 && st->st_gid == 0; /* as it was made to mount in */
  close(holder);
  return old.st_mode == st->st_mode && old.st_uid == st->st_uid && old.st_gid == st->st_gid;
}

static int is_stub(const struct tree *below, const char *path, const struct stat *st)
{
  struct stat old;
  const int holder = lower_find(below, path, &old);
  if (holder >= 0)
    close(holder);
  return holder < 0 && ((S_ISREG(st->st_mode) && st->st_size == 0) || S_ISDIR(st->st_mode));
}

static int directory_is_opaque(int parent, const char *name)
{
  const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  const int opaque = fd >= 0 && is_opaque(fd);
  if (fd >= 0)
    close(fd);
  return opaque;
}

/* Takes the mount point away, then the directories above that hold nothing and say nothing. */
static void drop_stub(const struct packing *k, const struct tree *below, const char *stub)
{
  char path[PATH_LIMIT + 1];
  if (clean_path(stub, path) < 0)
    return;
  for (int first = 1; path[0]; first = 0) {
    struct stat st;
    const char *name;
    const int parent = parent_in(k->p->root, path, &name);
    int gone = parent >= 0 && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    gone = gone && (first ? is_stub(below, path, &st)
                          : S_ISDIR(st.st_mode) && says_nothing(below, path, &st) && !directory_is_opaque(parent, name));
    gone = gone && unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0; /* not when it holds something */
    if (parent >= 0)
      close(parent);
    if (!gone)
      return;
    char *slash = strrchr(path, '/');
    path[slash ? slash - path : 0] = 0;
  }
}

static void drop_stubs(const struct packing *k)
{
  const struct tree below = {.lowers = k->p->lowers, .lower_count = k->p->lower_count};
  for (size_t i = 0; i < k->p->stub_count; i++)
    drop_stub(k, &below, k->p->stubs[i]);
}

/* ---- files with several names ---- */

static struct linked *link_slot(struct linked *all, size_t slots, ino_t ino)
{
  size_t i = (size_t)((ino * 0x9e3779b97f4a7c15ull) >> 20) & (slots - 1);
  while (all[i].ino != 0 && all[i].ino != ino)
    i = (i + 1) & (slots - 1);
  return &all[i];
}

static int grow_links(struct packing *k)
{
  const size_t slots = k->linked_slots ? k->linked_slots * 2 : 1024;
  struct linked *bigger = calloc(slots, sizeof *bigger);
  if (!bigger)
    return fail(k->failure, "memory", ENOMEM, k->path);
  for (size_t i = 0; i < k->linked_slots; i++)
    if (k->linked[i].ino != 0)
      *link_slot(bigger, slots, k->linked[i].ino) = k->linked[i];
  free(k->linked);
  k->linked = bigger;
  k->linked_slots = slots;
  return 0;
}

/* *first is the name that the file was written under, NULL when this is the first one. 0 or -1. */
static int find_link(struct packing *k, const struct stat *st, const char **first)
{
  *first = NULL;
  if (st->st_nlink < 2)
    return 0;
  if (k->linked_used * 4 >= k->linked_slots * 3 && grow_links(k) < 0)
    return -1;
  struct linked *l = link_slot(k->linked, k->linked_slots, st->st_ino);
  if (l->ino != 0) {
    *first = l->path;
    return 0;
  }
  *l = (struct linked){.ino = st->st_ino, .path = strdup(k->path)};
  k->linked_used++;
  return l->path ? 0 : fail(k->failure, "memory", ENOMEM, k->path);
}

/* ---- one function per type ---- */

static int64_t time_of(const struct packing *k, const struct stat *st)
{
  return k->p->has_epoch && st->st_mtim.tv_sec >= k->p->epoch ? k->p->epoch : st->st_mtim.tv_sec;
}

/* The files here are the layer's own, so they get the time that the tar says. */
static int set_back(struct packing *k, int dir, const char *name, const struct stat *st)
{
  if (k->p->is_read_only || !k->p->has_epoch || st->st_mtim.tv_sec < k->p->epoch)
    return 0;
  const struct timespec times[2] = {{.tv_sec = k->p->epoch}, {.tv_sec = k->p->epoch}};
  return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? fail(k->failure, "times", errno, k->path) : 0;
}

static int put_header(struct packing *k, const struct stat *st, char type, const char *target, int xattrs_of)
{
  const struct tar_header h = {
      .path = k->path[0] ? k->path : "./",
      .target = target,
      .type = type,
      .mode = st->st_mode & 07777,
      .uid = st->st_uid,
      .gid = st->st_gid,
      .mtime = time_of(k, st),
      .size = type == '0' ? (uint64_t)st->st_size : 0,
      .device = type == '3' || type == '4' ? st->st_rdev : 0,
      .xattrs_of = xattrs_of,
  };
  k->entries++;
  return tar_write_header(k->sink, &h, k->failure);
}

/* An entry that says what is not there: `.wh.<name>` beside it, `.wh..wh..opq` in it. */
static int put_mark(struct packing *k, const char *mark, size_t at)
{
  char path[PATH_LIMIT + 8];
  snprintf(path, sizeof path, "%.*s%s%s", (int)at, k->path, mark, strcmp(mark, ".wh.") == 0 ? k->path + at : "");
  const struct tar_header h = {.path = path, .type = '0', .xattrs_of = -1};
  k->entries++;
  return tar_write_header(k->sink, &h, k->failure);
}

static int put_contents(struct packing *k, int fd, uint64_t size)
{
  uint64_t left = size;
  content_start(k->hash);
  while (left > 0) {
    const ssize_t n = read(fd, k->buffer, left < sizeof k->buffer ? (size_t)left : sizeof k->buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) /* a file that shrinks while it is read: somebody still writes here */
      return fail(k->failure, "read", n < 0 ? errno : EBUSY, k->path);
    content_data(k->hash, k->buffer, (size_t)n);
    if (sink_write(k->sink, k->buffer, (size_t)n, k->failure) < 0)
      return -1;
    left -= (uint64_t)n;
  }
  return tar_write_padding(k->sink, size, k->failure);
}

static int put_open_file(struct packing *k, int fd, const struct stat *st)
{
  uint8_t content[CONTENT_BYTES];
  uint64_t xattrs;
  if (put_header(k, st, '0', NULL, fd) < 0 || put_contents(k, fd, (uint64_t)st->st_size) < 0)
    return -1;
  content_end(k->hash, content);
  if (content_of_xattrs(fd, &xattrs) < 0)
    return fail(k->failure, "xattr", errno, k->path);
  if (k->manifest)
    manifest_keep(k->manifest, st->st_ino, content, xattrs);
  return 0;
}

/* overlayfs's own ways to say that a file's data or a directory's contents are elsewhere: the layer would not be whole. */
static int refuse_pointer(struct packing *k, int fd)
{
  char value[8];
  for (size_t i = 0; i < 2; i++) {
    const char *name = i == 0 ? "trusted.overlay.redirect" : "trusted.overlay.metacopy";
    if (fgetxattr(fd, name, value, sizeof value) >= 0 || errno == ERANGE)
      return fail(k->failure, "pointer", EXDEV, k->path);
  }
  return 0;
}

static int put_file(struct packing *k, int dir, const char *name, const struct stat *st)
{
  const char *first;
  if (find_link(k, st, &first) < 0)
    return -1;
  if (first)
    return put_header(k, st, '1', first, -1);
  const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
  if (fd < 0)
    return fail(k->failure, "open", errno, k->path);
  const int result = refuse_pointer(k, fd) < 0 ? -1 : put_open_file(k, fd, st);
  close(fd);
  return result;
}

static int put_link(struct packing *k, int dir, const char *name, const struct stat *st)
{
  char target[PATH_LIMIT + 1];
  const ssize_t n = readlinkat(dir, name, target, PATH_LIMIT);
  if (n < 0)
    return fail(k->failure, "readlink", errno, k->path);
  target[n] = 0;
  return put_header(k, st, '2', target, -1);
}

static int walk(struct packing *k, int dir);

static int put_directory(struct packing *k, int dir, const char *name, const struct stat *st)
{
  const int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  if (fd < 0)
    return fail(k->failure, "open", errno, k->path);
  k->path[k->path_len++] = '/';
  k->path[k->path_len] = 0;
  int result = ++k->depth > DEPTH_MAX ? fail(k->failure, "depth", ELOOP, k->path) : refuse_pointer(k, fd);
  if (result == 0)
    result = put_header(k, st, '5', NULL, fd);
  if (result == 0 && is_opaque(fd))
    result = put_mark(k, ".wh..wh..opq", k->path_len);
  if (result == 0)
    result = walk(k, fd);
  k->depth--;
  close(fd);
  return result;
}

static int put_entry(struct packing *k, int dir, const char *name, size_t at)
{
  struct stat st;
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(k->failure, "stat", errno, k->path);
  k->inodes++;
  k->disk_bytes += (uint64_t)st.st_blocks * 512;
  if (is_whiteout(&st))
    return put_mark(k, ".wh.", at);
  int result = 0;
  switch (st.st_mode & S_IFMT) {
  case S_IFREG: result = put_file(k, dir, name, &st); break;
  case S_IFDIR: result = put_directory(k, dir, name, &st); break;
  case S_IFLNK: result = put_link(k, dir, name, &st); break;
  case S_IFCHR: result = put_header(k, &st, '3', NULL, -1); break;
  case S_IFBLK: result = put_header(k, &st, '4', NULL, -1); break;
  case S_IFIFO: result = put_header(k, &st, '6', NULL, -1); break;
  default: return 0; /* a socket is nothing without its server */
  }
  return result < 0 ? -1 : set_back(k, dir, name, &st);
}

/* ---- the walk ---- */

struct names {
  char **all;
  size_t count, slots;
};

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct names *n, const char *name)
{
  if (n->count == n->slots) {
    const size_t slots = n->slots ? n->slots * 2 : 64;
    char **more = reallocarray(n->all, slots, sizeof *more);
    if (!more)
      return -1;
    n->all = more;
    n->slots = slots;
  }
  return (n->all[n->count] = strdup(name)) ? (n->count++, 0) : -1;
}

static int list(struct packing *k, int dir, struct names *n)
{
  const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (!d)
    return fail(k->failure, "open", errno, k->path);
  int result = 0;
  for (struct dirent *e; result == 0 && (e = readdir(d));)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      result = add_name(n, e->d_name) < 0 ? fail(k->failure, "memory", ENOMEM, k->path) : 0;
  closedir(d);
  qsort(n->all, n->count, sizeof *n->all, by_name);
  return result;
}

static int walk(struct packing *k, int dir)
{
  struct names n = {0};
  const size_t at = k->path_len;
  int result = list(k, dir, &n);
  for (size_t i = 0; i < n.count; i++) {
    const size_t len = strlen(n.all[i]);
    if (result == 0 && at + len >= PATH_LIMIT)
      result = fail(k->failure, "name-length", ENAMETOOLONG, k->path);
    if (result == 0) {
      memcpy(k->path + at, n.all[i], len + 1);
      k->path_len = at + len;
      result = put_entry(k, dir, n.all[i], at);
    }
    free(n.all[i]);
  }
  free(n.all);
  k->path_len = at;
  k->path[at] = 0;
  return result;
}

/* The root is an entry only where it is not as it would be made without. */
static int put_root(struct packing *k)
{
  struct stat st;
  if (fstat(k->p->root, &st) < 0)
    return fail(k->failure, "stat", errno, NULL);
  if ((st.st_mode & 07777) == 0755 && st.st_uid == 0 && st.st_gid == 0)
    return 0;
  const uint64_t before = k->entries;
  const int result = put_header(k, &st, '5', NULL, k->p->root);
  k->entries = before; /* a layer of nothing but its root is empty */
  return result;
}

static int pack_all(struct packing *k)
{
  const int opaque = is_opaque(k->p->root);
  if (put_root(k) < 0 || (opaque && put_mark(k, ".wh..wh..opq", 0) < 0) || walk(k, k->p->root) < 0)
    return -1;
  return tar_write_end(k->sink, k->failure);
}

static void print_summary(const struct packing *k, const struct sink_totals *totals)
{
  printf("digest %s\ncompressed-bytes %" PRIu64 "\n", totals->digest, totals->compressed_bytes);
  printf("diff-id %s\nbytes %" PRIu64 "\n", totals->diff_id, totals->bytes);
  printf("entries %" PRIu64 "\ndisk-bytes %" PRIu64 "\ninodes %" PRIu64 "\n", k->entries, k->disk_bytes, k->inodes);
  printf("opaque-root %d\n", is_opaque(k->p->root));
}

/* Memory, threads and descriptors end with the process. */
int pack_layer(const struct pack *p, struct failure *f)
{
  struct packing *k = calloc(1, sizeof *k);
  struct sink_totals totals;
  if (!k)
    return fail(f, "memory", ENOMEM, NULL);
  *k = (struct packing){.p = p, .failure = f, .hash = content_new(), .inodes = 1, .disk_bytes = 4096};
  k->sink = sink_start(p->blob, p->plain);
  k->manifest = p->manifest < 0 ? NULL : manifest_start(p->manifest);
  if (!k->hash || !k->sink || (p->manifest >= 0 && !k->manifest))
    return fail(f, "memory", errno, NULL);
  drop_stubs(k);
  if (pack_all(k) < 0 || sink_finish(k->sink, &totals, f) < 0)
    return -1;
  if (k->manifest && manifest_write(k->manifest, p->root, f) < 0)
    return -1;
  print_summary(k, &totals);
  return fflush(stdout) == 0 ? 0 : fail(f, "summary", errno, NULL);
}
