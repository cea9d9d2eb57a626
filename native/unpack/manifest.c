#define _GNU_SOURCE
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * Contents are remembered by inode: later entries replace files and give them more names, and what counts is what is
 * there at the end. The memory for it is bounded: files beyond it are read again.
 */
struct known {
  ino_t ino; /* 0: free */
  uint64_t xattrs;
  uint8_t content[CONTENT_BYTES];
  uint32_t group;
  int valid;
};

enum { KNOWN_SLOTS_MAX = 2 * 1024 * 1024, NAMES_MAX = 256 * 1024 * 1024, OUT_BYTES = 64 * 1024, LIST_BYTES = 64 * 1024 };

/* A name and a target of 4 KiB, three bytes for one, and the numbers. */
enum { LINE_MAX_BYTES = 3 * (NAME_MAX + PATH_MAX) + 512 };

struct manifest {
  int fd;
  struct failure *failure;
  struct known *known;
  size_t slots, used;
  struct content_hash *hash, *whole;
  uint64_t objects;
  uint32_t groups;
  char *names; /* of directories that are still to be walked */
  size_t names_len, names_size;
  size_t out_len;
  char out[OUT_BYTES];
  char list[LIST_BYTES] __attribute__((aligned(8)));
};

struct manifest *manifest_start(int fd)
{
  struct manifest *m = calloc(1, sizeof *m);
  if (!m)
    return NULL;
  m->fd = fd;
  m->hash = content_new();
  m->whole = content_new();
  if (m->hash && m->whole)
    return m;
  manifest_free(m);
  errno = ENOMEM;
  return NULL;
}

void manifest_free(struct manifest *m)
{
  if (!m)
    return;
  content_free(m->hash);
  content_free(m->whole);
  free(m->known);
  free(m->names);
  free(m);
}

/* ---- what is known ---- */

static struct known *slot_of(struct known *known, size_t slots, ino_t ino)
{
  size_t i = (size_t)((ino * 0x9e3779b97f4a7c15ull) >> 20) & (slots - 1);
  while (known[i].ino != 0 && known[i].ino != ino)
    i = (i + 1) & (slots - 1);
  return &known[i];
}

/* 0 when there is no room for more. */
static int grow(struct manifest *m)
{
  const size_t slots = m->slots ? m->slots * 2 : 4096;
  struct known *bigger = slots > KNOWN_SLOTS_MAX ? NULL : calloc(slots, sizeof *bigger);
  if (!bigger)
    return 0;
  for (size_t i = 0; i < m->slots; i++)
    if (m->known[i].ino != 0)
      *slot_of(bigger, slots, m->known[i].ino) = m->known[i];
  free(m->known);
  m->known = bigger;
  m->slots = slots;
  return 1;
}

void manifest_keep(struct manifest *m, ino_t ino, const uint8_t content[CONTENT_BYTES], uint64_t xattrs)
{
  if (m->used * 4 >= m->slots * 3 && !grow(m)) {
    manifest_forget(m, ino);
    return;
  }
  struct known *k = slot_of(m->known, m->slots, ino);
  m->used += k->ino == 0;
  *k = (struct known){.ino = ino, .xattrs = xattrs, .valid = 1};
  memcpy(k->content, content, CONTENT_BYTES);
}

static struct known *find(struct manifest *m, ino_t ino)
{
  struct known *k = m->slots ? slot_of(m->known, m->slots, ino) : NULL;
  return k && k->ino != 0 ? k : NULL;
}

void manifest_forget(struct manifest *m, ino_t ino)
{
  struct known *k = find(m, ino);
  if (k)
    k->valid = 0;
}

/* ---- text ---- */

static int flush(struct manifest *m)
{
  content_data(m->whole, (const uint8_t *)m->out, m->out_len);
  for (size_t done = 0; done < m->out_len;) {
    ssize_t n = write(m->fd, m->out + done, m->out_len - done);
    if (n < 0 && errno != EINTR)
      return fail(m->failure, "manifest", errno, NULL);
    done += n > 0 ? (size_t)n : 0;
  }
  m->out_len = 0;
  return 0;
}

static void put(struct manifest *m, char c)
{
  m->out[m->out_len++] = c;
}

static void put_number(struct manifest *m, uint64_t value, unsigned base, unsigned width)
{
  char digits[24];
  unsigned n = 0;
  do
    digits[n++] = (char)('0' + value % base);
  while ((value /= base) != 0);
  while (n < width)
    digits[n++] = '0';
  while (n > 0)
    put(m, digits[--n]);
}

static void put_hex(struct manifest *m, const uint8_t *bytes, size_t n)
{
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < n; i++)
    put(m, digits[bytes[i] >> 4]), put(m, digits[bytes[i] & 15]);
}

static void put_escaped(struct manifest *m, const char *text)
{
  for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
    if (*p > ' ' && *p != '%' && *p < 0x7f)
      put(m, (char)*p);
    else
      put(m, '%'), put_hex(m, p, 1);
  }
}

static void put_attributes(struct manifest *m, char type, const struct stat *st, uint64_t xattrs, const char *name)
{
  const int64_t seconds = st->st_mtim.tv_sec;
  put(m, type), put(m, ' ');
  put_number(m, st->st_mode & 07777, 8, 1), put(m, ' ');
  put_number(m, st->st_uid, 10, 1), put(m, ' ');
  put_number(m, st->st_gid, 10, 1), put(m, ' ');
  if (seconds < 0)
    put(m, '-');
  put_number(m, seconds < 0 ? -(uint64_t)seconds : (uint64_t)seconds, 10, 1), put(m, '.');
  put_number(m, (uint64_t)st->st_mtim.tv_nsec, 10, 9), put(m, ' ');
  if (xattrs == 0) {
    put(m, '-');
  } else {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
      bytes[i] = (uint8_t)(xattrs >> (56 - 8 * i));
    put_hex(m, bytes, sizeof bytes);
  }
  put(m, ' ');
  put_escaped(m, name);
}

static int line_begins(struct manifest *m)
{
  m->objects++;
  return m->out_len + LINE_MAX_BYTES > OUT_BYTES ? flush(m) : 0;
}

/* ---- one object ---- */

/* Fills `k` from the file itself. */
static int read_again(struct manifest *m, int dir, const char *name, struct known *k)
{
  uint64_t bytes;
  int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return fail(m->failure, "manifest", errno, name);
  int result = content_of_file(m->hash, fd, k->content, &bytes) < 0 || content_of_xattrs(fd, &k->xattrs) < 0
                   ? fail(m->failure, "manifest", errno, name)
                   : 0;
  close(fd);
  return result;
}

static int put_file(struct manifest *m, int dir, const char *name, const struct stat *st)
{
  struct known fresh = {0}, *k = find(m, st->st_ino);
  if ((!k || !k->valid) && read_again(m, dir, name, k ? k : &fresh) < 0)
    return -1;
  if (k)
    k->valid = 1;
  if (k && st->st_nlink > 1 && k->group == 0)
    k->group = ++m->groups;
  const struct known *is = k ? k : &fresh;
  put_attributes(m, 'f', st, is->xattrs, name);
  put(m, ' '), put_number(m, (uint64_t)st->st_size, 10, 1);
  put(m, ' '), put_hex(m, is->content, CONTENT_BYTES);
  put(m, ' '), put_number(m, st->st_nlink, 10, 1), put(m, ' ');
  if (is->group == 0)
    put(m, '-');
  else
    put_number(m, is->group, 10, 1);
  put(m, '\n');
  return 0;
}

static int put_link(struct manifest *m, int dir, const char *name, const struct stat *st)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
  if (n < 0)
    return fail(m->failure, "manifest", errno, name);
  target[n] = 0;
  put_attributes(m, 'l', st, 0, name);
  put(m, ' '), put_escaped(m, target), put(m, '\n');
  return 0;
}

static int put_special(struct manifest *m, const char *name, const struct stat *st)
{
  const int device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
  put_attributes(m, S_ISCHR(st->st_mode) ? 'c' : S_ISBLK(st->st_mode) ? 'b' : 'p', st, 0, name);
  if (device) {
    put(m, ' '), put_number(m, major(st->st_rdev), 10, 1);
    put(m, ':'), put_number(m, minor(st->st_rdev), 10, 1);
  }
  put(m, '\n');
  return 0;
}

static int put_object(struct manifest *m, int dir, const char *name, const struct stat *st)
{
  if (line_begins(m) < 0)
    return -1;
  if (S_ISREG(st->st_mode))
    return put_file(m, dir, name, st);
  return S_ISLNK(st->st_mode) ? put_link(m, dir, name, st) : put_special(m, name, st);
}

/* ---- the walk ---- */

static int remember_directory(struct manifest *m, const char *name)
{
  const size_t len = strlen(name) + 1;
  if (m->names_len + len > m->names_size) {
    const size_t size = m->names_size ? m->names_size * 2 : 64 * 1024;
    char *more = size > NAMES_MAX ? NULL : realloc(m->names, size);
    if (!more)
      return fail(m->failure, "memory", ENOMEM, name);
    m->names = more;
    m->names_size = size;
  }
  memcpy(m->names + m->names_len, name, len);
  m->names_len += len;
  return 0;
}

static int by_inode(const void *a, const void *b)
{
  const struct dirent64 *x = *(const struct dirent64 *const *)a, *y = *(const struct dirent64 *const *)b;
  return (x->d_ino > y->d_ino) - (x->d_ino < y->d_ino);
}

static int put_listed(struct manifest *m, int dir, const char *name)
{
  struct stat st;
  if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))
    return 0;
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(m->failure, "manifest", errno, name);
  return S_ISDIR(st.st_mode) ? remember_directory(m, name) : put_object(m, dir, name, &st);
}

/* All that is not a directory, by inode: in about the order in which it lies on the disk, which is how it is read later. */
static int put_all_but_directories(struct manifest *m, int dir)
{
  const struct dirent64 *listed[LIST_BYTES / 24];
  for (;;) {
    ssize_t n = getdents64(dir, m->list, LIST_BYTES);
    if (n <= 0)
      return n < 0 ? fail(m->failure, "manifest", errno, NULL) : 0;
    size_t count = 0;
    for (ssize_t at = 0; at < n; at += ((struct dirent64 *)(m->list + at))->d_reclen)
      listed[count++] = (struct dirent64 *)(m->list + at);
    qsort(listed, count, sizeof *listed, by_inode);
    for (size_t i = 0; i < count; i++)
      if (put_listed(m, dir, listed[i]->d_name) < 0)
        return -1;
  }
}

static int put_directory(struct manifest *m, int dir, const char *name, unsigned depth);

static int put_directories(struct manifest *m, int dir, size_t from, unsigned depth)
{
  const size_t to = m->names_len;
  for (size_t at = from; at < to;) {
    char name[NAME_MAX + 1]; /* the list may move while it grows */
    const size_t len = strlen(m->names + at) + 1;
    memcpy(name, m->names + at, len);
    at += len;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
      return fail(m->failure, "manifest", errno, name);
    const int result = put_directory(m, fd, name, depth);
    close(fd);
    if (result < 0)
      return -1;
  }
  m->names_len = from;
  return 0;
}

static int put_directory(struct manifest *m, int fd, const char *name, unsigned depth)
{
  struct stat st;
  uint64_t xattrs;
  const size_t names = m->names_len;
  if (depth >= MANIFEST_DEPTH)
    return fail(m->failure, "manifest", ELOOP, name);
  if (fstat(fd, &st) < 0 || content_of_xattrs(fd, &xattrs) < 0)
    return fail(m->failure, "manifest", errno, name);
  if (line_begins(m) < 0)
    return -1;
  put_attributes(m, 'd', &st, xattrs, name);
  put(m, '\n');
  if (put_all_but_directories(m, fd) < 0 || put_directories(m, fd, names, depth + 1) < 0)
    return -1;
  put(m, 'u'), put(m, '\n');
  return m->out_len + LINE_MAX_BYTES > OUT_BYTES ? flush(m) : 0;
}

int manifest_write(struct manifest *m, int root, struct failure *f)
{
  static const char version[] = "berth-manifest 1\n";
  uint8_t hash[CONTENT_BYTES];
  m->failure = f;
  content_start(m->whole);
  memcpy(m->out, version, sizeof version - 1);
  m->out_len = sizeof version - 1;
  int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return fail(f, "manifest", errno, NULL);
  const int walked = put_directory(m, fd, ".", 0);
  close(fd);
  if (walked < 0 || flush(m) < 0)
    return -1;
  content_end(m->whole, hash);
  memcpy(m->out, "end ", 4);
  m->out_len = 4;
  put_number(m, m->objects, 10, 1), put(m, ' ');
  put_hex(m, hash, CONTENT_BYTES), put(m, '\n');
  return flush(m);
}
