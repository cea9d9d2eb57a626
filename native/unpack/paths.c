/* Finding and making the directories that entries go into. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINKS_MAX = 40, DIR_FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC };

int clean_path(const char *in, char out[PATH_LIMIT + 1])
{
  size_t len = 0;
  for (const char *p = in; *p;) {
    const size_t n = strcspn(p, "/");
    if (n == 2 && p[0] == '.' && p[1] == '.') {
      if (len == 0)
        return -1;
      while (len > 0 && out[--len] != '/')
        ;
    } else if (n > 0 && !(n == 1 && p[0] == '.')) {
      if (len > 0)
        out[len++] = '/';
      memmove(out + len, p, n); /* never longer than what was read */
      len += n;
    }
    p += n;
    p += *p == '/';
  }
  out[len] = 0;
  return 0;
}

static int open_resolved(int root, const char *path, uint64_t resolve)
{
  struct open_how how = {.flags = DIR_FLAGS, .resolve = resolve | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
  int fd, tries = 0;
  do /* EAGAIN: something was renamed on this machine while `..` was walked; openat2(2) says to try again */
    fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
  while (fd < 0 && (errno == EINTR || (errno == EAGAIN && tries++ < 1000)));
  return fd;
}

static int open_in_root(int root, const char *path)
{
  return open_resolved(root, path, RESOLVE_IN_ROOT);
}

/* ---- walking by hand, for parents that are not all there, or behind links ---- */

struct walk {
  int fd;                     /* of the directory reached */
  char real[PATH_LIMIT + 1];  /* where that is, without links */
  char todo[PATH_LIMIT + 1];  /* what is left to walk */
  int links;
};

static void walk_move(struct walk *w, int fd)
{
  close(w->fd);
  w->fd = fd;
}

static int walk_to_root(struct tree *t, struct walk *w)
{
  int fd = openat(t->root, ".", DIR_FLAGS);
  if (fd < 0)
    return -1;
  walk_move(w, fd);
  w->real[0] = 0;
  return 0;
}

static int walk_up(struct tree *t, struct walk *w)
{
  char *slash = strrchr(w->real, '/');
  if (!slash)
    return walk_to_root(t, w); /* `..` of the root is the root */
  *slash = 0;
  int fd = open_in_root(t->root, w->real);
  if (fd >= 0)
    walk_move(w, fd);
  return fd < 0 ? -1 : 0;
}

static int walk_link(struct tree *t, struct walk *w, const char *name)
{
  char text[2 * PATH_LIMIT + 2];
  ssize_t n = readlinkat(w->fd, name, text, PATH_LIMIT);
  if (n < 0)
    return -1;
  const size_t rest = strlen(w->todo);
  if (++w->links > LINKS_MAX || (size_t)n + 1 + rest > PATH_LIMIT) {
    errno = w->links > LINKS_MAX ? ELOOP : ENAMETOOLONG;
    return -1;
  }
  text[n] = '/';
  memcpy(text + n + 1, w->todo, rest + 1);
  memcpy(w->todo, text, (size_t)n + 1 + rest + 1);
  return text[0] == '/' ? walk_to_root(t, w) : 0;
}

static int implied_add(struct tree *t, ino_t directory);

/* Makes the directory `name`, which no entry has described; `hides` when it must cover what is below. Its fd or -1. */
static int make_implied(struct tree *t, struct walk *w, const char *name, int hides)
{
  struct stat st;
  if (mkdirat(w->fd, name, 0755) < 0)
    return -1;
  int fd = openat(w->fd, name, DIR_FLAGS | O_NOFOLLOW);
  if (fd < 0)
    return -1;
  t->inodes++;
  t->disk_bytes += 4096;
  int adopted = hides ? make_opaque(fd) : lower_adopt(t, w->real, fd);
  if (adopted < 0 || fstat(fd, &st) < 0 || (!hides && implied_add(t, st.st_ino) < 0)) {
    close(fd);
    return -1;
  }
  return fd;
}

static unsigned depth_of(const char *path)
{
  unsigned depth = path[0] != 0;
  for (; *path; path++)
    depth += *path == '/';
  return depth;
}

static int too_deep(struct tree *t, const char *path)
{
  return fail(t->failure, "depth", ELOOP, path);
}

/* One step: into `name`, which is followed if it is a link and made if it is missing. */
static int walk_into(struct tree *t, struct walk *w, const char *name)
{
  struct stat st;
  const size_t at = strlen(w->real), len = strlen(name);
  if (at + 1 + len > PATH_LIMIT) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int fd = openat(w->fd, name, DIR_FLAGS | O_NOFOLLOW);
  if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
    if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return -1;
    if (S_ISLNK(st.st_mode))
      return walk_link(t, w, name);
    if (!is_whiteout(&st)) {
      errno = ENOTDIR;
      return -1;
    }
  }
  const int gone = fd < 0 && errno == ENOENT, hidden = fd < 0 && errno == ENOTDIR;
  if (fd < 0 && !gone && !hidden)
    return -1;
  if (at > 0)
    w->real[at] = '/';
  memcpy(w->real + at + (at > 0), name, len + 1);
  if (depth_of(w->real) >= DEPTH_MAX) { /* also where it exists: links make another way to it, and it could grow there */
    if (fd >= 0)
      close(fd);
    return too_deep(t, w->real);
  }
  if (hidden && unlinkat(w->fd, name, 0) < 0)
    return -1;
  if (fd < 0)
    fd = make_implied(t, w, name, hidden);
  if (fd < 0)
    return -1;
  walk_move(w, fd);
  return 0;
}

/* The directory at `path`, with what is missing made. Its fd or -1. */
static int make_path(struct tree *t, const char *path)
{
  struct walk w = {.fd = openat(t->root, ".", DIR_FLAGS)};
  if (w.fd < 0)
    return -1;
  memcpy(w.todo, path, strlen(path) + 1);
  while (w.todo[0]) {
    char name[PATH_LIMIT + 1];
    const size_t n = strcspn(w.todo, "/");
    memcpy(name, w.todo, n);
    name[n] = 0;
    const size_t next = n + (w.todo[n] == '/');
    memmove(w.todo, w.todo + next, strlen(w.todo + next) + 1);
    if (n == 0 || strcmp(name, ".") == 0)
      continue;
    if ((strcmp(name, "..") == 0 ? walk_up(t, &w) : walk_into(t, &w, name)) < 0) {
      const int err = errno;
      close(w.fd);
      errno = err;
      return -1;
    }
  }
  return w.fd;
}

/* ---- parents ---- */

static const char *split(const char *path, char dir[PATH_LIMIT + 1])
{
  const char *slash = strrchr(path, '/');
  const size_t n = slash ? (size_t)(slash - path) : 0;
  memcpy(dir, path, n);
  dir[n] = 0;
  return slash ? slash + 1 : path;
}

void tree_forget_parent(struct tree *t)
{
  if (t->parent >= 0)
    close(t->parent);
  t->parent = -1;
  t->parent_stale = 0;
}

int tree_parent(struct tree *t, const char *path, const char **name)
{
  char dir[PATH_LIMIT + 1];
  *name = split(path, dir);
  if (t->parent >= 0 && !t->parent_stale && strcmp(dir, t->parent_path) == 0)
    return t->parent;
  if (depth_of(dir) >= DEPTH_MAX)
    return too_deep(t, path);
  tree_forget_parent(t);
  t->failure->step = NULL;
  /* Behind a link the way is walked by hand, which holds every directory to PATH_LIMIT however links are chained. */
  int fd = open_resolved(t->root, dir[0] ? dir : ".", RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
    fd = make_path(t, dir);
  if (fd < 0)
    return t->failure->step ? -1 : fail(t->failure, "parent", errno, path);
  memcpy(t->parent_path, dir, strlen(dir) + 1);
  return t->parent = fd;
}

int tree_find_parent(struct tree *t, const char *path, const char **name)
{
  char dir[PATH_LIMIT + 1];
  *name = split(path, dir);
  return open_in_root(t->root, dir[0] ? dir : ".");
}

/* ---- directories that are only implied, by inode ---- */

static size_t implied_slot(const struct tree *t, ino_t ino)
{
  size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ull) & (t->implied_slots - 1);
  while (t->implied_set[i] != 0 && t->implied_set[i] != ino)
    i = (i + 1) & (t->implied_slots - 1);
  return i;
}

static int implied_grow(struct tree *t)
{
  struct tree bigger = {.implied_slots = t->implied_slots ? t->implied_slots * 2 : 64};
  bigger.implied_set = calloc(bigger.implied_slots, sizeof *bigger.implied_set);
  if (!bigger.implied_set)
    return -1;
  for (size_t i = 0; i < t->implied_slots; i++)
    if (t->implied_set[i] > 1)
      bigger.implied_set[implied_slot(&bigger, t->implied_set[i])] = t->implied_set[i];
  free(t->implied_set);
  t->implied_set = bigger.implied_set;
  t->implied_slots = bigger.implied_slots;
  t->implied_used = t->implied;
  return 0;
}

static int implied_add(struct tree *t, ino_t directory)
{
  if (t->implied_used * 2 >= t->implied_slots && implied_grow(t) < 0)
    return -1;
  t->implied_set[implied_slot(t, directory)] = directory;
  t->implied_used++;
  t->implied++;
  return 0;
}

void tree_described(struct tree *t, ino_t directory)
{
  if (t->implied == 0)
    return;
  const size_t i = implied_slot(t, directory);
  if (t->implied_set[i] != directory)
    return;
  t->implied_set[i] = 1; /* a tombstone: no directory of a disk file system has inode 1 but its root */
  t->implied--;
}
