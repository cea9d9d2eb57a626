#define _GNU_SOURCE
#include "scan.h"
#include "content.h"
#include "hash.h"
#include "tree.h"
#include "../lib/rooted.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct scanning {
  const struct scan *s;
  struct failure *failure;
  unsigned depth;
  uint64_t entries;
  char name[PATH_LIMIT + 1]; /* below the path that is scanned */
  uint8_t buffer[256 * 1024];
};

static char letter_of(mode_t mode)
{
  switch (mode & S_IFMT) {
  case S_IFREG: return 'f';
  case S_IFDIR: return 'd';
  case S_IFLNK: return 'l';
  case S_IFCHR: return 'c';
  case S_IFBLK: return 'b';
  case S_IFIFO: return 'p';
  default: return 's';
  }
}

static int digest_of(struct scanning *k, int fd, char digest[DIGEST_TEXT])
{
  struct hash hash;
  hash_start(&hash, HASH_SHA256);
  for (;;) {
    const ssize_t n = read(fd, k->buffer, sizeof k->buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(k->failure, "read", errno, k->name);
    if (n == 0)
      break;
    hash_update(&hash, k->buffer, (size_t)n);
  }
  hash_finish(&hash, digest);
  return 0;
}

void scan_line(const struct stat *st, uint64_t xattrs, const char *digest, const char *name, const char *target)
{
  printf("%c %o %u %u %" PRId64 ".%09ld %" PRId64 " %" PRIu64 " %" PRIu64 " %u:%u %016" PRIx64 " %s ", letter_of(st->st_mode),
         st->st_mode & 07777, st->st_uid, st->st_gid, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
         (int64_t)st->st_size, (uint64_t)st->st_ino, (uint64_t)st->st_nlink, major(st->st_rdev), minor(st->st_rdev), xattrs,
         digest);
  print_as_word(stdout, name[0] ? name : ".");
  if (target) {
    putchar(' ');
    print_as_word(stdout, target);
  }
  putchar('\n');
}

static int put_line(struct scanning *k, const struct stat *st, uint64_t xattrs, const char *digest, const char *target)
{
  if (k->entries++ == k->s->most)
    return fail(k->failure, "entries", E2BIG, NULL);
  scan_line(st, xattrs, digest, k->name, target);
  return 0;
}

static int describe(struct scanning *k, int dir, const char *name, const struct stat *st);

/* One descriptor a level; names are read as they come, since the reader sorts. */
static int walk(struct scanning *k, int fd)
{
  const size_t at = strlen(k->name);
  DIR *d = fdopendir(fd);
  if (!d) {
    close(fd);
    return fail(k->failure, "open", errno, k->name);
  }
  int result = ++k->depth > DEPTH_MAX ? fail(k->failure, "depth", ELOOP, k->name) : 0;
  for (struct dirent *e; result == 0 && (e = readdir(d));) {
    const size_t len = strlen(e->d_name);
    struct stat st;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
      continue;
    if (at + 1 + len > PATH_LIMIT) {
      result = fail(k->failure, "name-length", ENAMETOOLONG, k->name);
      break;
    }
    if (at > 0)
      k->name[at] = '/';
    memcpy(k->name + at + (at > 0), e->d_name, len + 1);
    if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      result = fail(k->failure, "stat", errno, k->name);
    else
      result = describe(k, dirfd(d), e->d_name, &st);
    k->name[at] = 0;
  }
  k->depth--;
  closedir(d);
  return result;
}

/* Takes `fd` over. */
static int describe_open(struct scanning *k, int fd, const struct stat *st)
{
  char digest[DIGEST_TEXT] = "-";
  uint64_t xattrs;
  int result = content_of_xattrs(fd, &xattrs) < 0 ? fail(k->failure, "xattr", errno, k->name) : 0;
  if (result == 0 && S_ISREG(st->st_mode) && k->s->hash)
    result = digest_of(k, fd, digest);
  if (result == 0)
    result = put_line(k, st, xattrs, digest, NULL);
  if (result == 0 && S_ISDIR(st->st_mode) && !k->s->shallow)
    return walk(k, fd);
  close(fd);
  return result;
}

static int describe(struct scanning *k, int dir, const char *name, const struct stat *st)
{
  char target[PATH_LIMIT + 1];
  if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) {
    const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? fail(k->failure, "open", errno, k->name) : describe_open(k, fd, st);
  }
  if (!S_ISLNK(st->st_mode))
    return put_line(k, st, 0, "-", NULL);
  const ssize_t n = readlinkat(dir, name, target, PATH_LIMIT);
  if (n < 0)
    return fail(k->failure, "readlink", errno, k->name);
  target[n] = 0;
  return put_line(k, st, 0, "-", target);
}

void scan_head(const char *word, const char *path)
{
  printf("%s ", word);
  print_as_word(stdout, path);
  putchar('\n');
}

static int scan_path(struct scanning *k, const char *path)
{
  struct stat st;
  const int seen = rooted_open(k->s->root, path, O_PATH);
  if (seen < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
    scan_head("missing", path);
    return 0;
  }
  if (seen < 0 || fstat(seen, &st) < 0)
    return fail(k->failure, "open", errno, path);
  close(seen);
  scan_head("at", path);
  k->name[0] = 0;
  if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
    return put_line(k, &st, 0, "-", NULL);
  const int fd = rooted_open(k->s->root, path, O_RDONLY | O_NONBLOCK);
  return fd < 0 ? fail(k->failure, "open", errno, path) : describe_open(k, fd, &st);
}

int scan_paths(const struct scan *s, struct failure *f)
{
  static struct scanning k;
  k.s = s;
  k.failure = f;
  for (size_t i = 0; i < s->path_count; i++)
    if (scan_path(&k, s->paths[i]) < 0)
      return -1;
  return fflush(stdout) == 0 ? 0 : fail(f, "summary", errno, NULL);
}
