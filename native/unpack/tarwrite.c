#define _GNU_SOURCE
#include "tarwrite.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { BLOCK = 512, NAME_BYTES = 100, OCTAL_7_MAX = 07777777, PAX_BYTES_MAX = 1024 * 1024 };
static const uint64_t octal_11_max = 077777777777ull;

/* As it lies in the file: 512 bytes, no padding. */
struct block {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, target[100];
  char magic[8], owner[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct block) == BLOCK, "a tar header is 512 bytes long");

struct pax {
  char *text;
  size_t len, size;
  int failed;
};

static void pax_add_bytes(struct pax *p, const char *key, const void *value, size_t len)
{
  /* The length counts its own digits. */
  size_t rest = strlen(key) + len + 3, total = rest + 1;
  char digits[24];
  while (total != rest + (size_t)snprintf(digits, sizeof digits, "%zu", total))
    total = rest + strlen(digits);
  if (p->failed || p->len + total > PAX_BYTES_MAX) {
    p->failed = 1;
    return;
  }
  if (p->len + total + 1 > p->size) {
    char *more = realloc(p->text, p->len + total + 4096);
    if (!more) {
      p->failed = 1;
      return;
    }
    p->text = more;
    p->size = p->len + total + 4096;
  }
  const int head = sprintf(p->text + p->len, "%zu %s=", total, key);
  memcpy(p->text + p->len + head, value, len);
  p->len += total;
  p->text[p->len - 1] = '\n';
}

static void pax_add_text(struct pax *p, const char *key, const char *value)
{
  pax_add_bytes(p, key, value, strlen(value));
}

static void pax_add_number(struct pax *p, const char *key, int64_t value)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, value);
  pax_add_text(p, key, text);
}

int tar_keeps_xattr(const char *name)
{
  return strcmp(name, "security.capability") == 0 ||
         (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0);
}

static int by_text(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of their names: a file system has them in its own. */
static int pax_add_xattrs(struct pax *p, int fd)
{
  static char names[64 * 1024], value[64 * 1024], key[16 + 256]; /* XATTR_LIST_MAX, XATTR_SIZE_MAX, XATTR_NAME_MAX */
  static const char *sorted[32 * 1024];
  size_t count = 0;
  const ssize_t len = fd < 0 ? 0 : flistxattr(fd, names, sizeof names);
  if (len < 0)
    return errno == ENOTSUP ? 0 : -1;
  for (const char *name = names; name < names + len; name += strlen(name) + 1)
    if (tar_keeps_xattr(name))
      sorted[count++] = name;
  qsort(sorted, count, sizeof *sorted, by_text);
  for (size_t i = 0; i < count; i++) {
    const ssize_t n = fgetxattr(fd, sorted[i], value, sizeof value);
    if (n < 0)
      return -1;
    snprintf(key, sizeof key, "SCHILY.xattr.%s", sorted[i]);
    pax_add_bytes(p, key, value, (size_t)n);
  }
  return 0;
}

static void octal(char *field, size_t size, uint64_t value)
{
  for (size_t i = size - 1; i-- > 0; value >>= 3)
    field[i] = (char)('0' + (value & 7));
}

static void finish_block(struct block *b)
{
  unsigned sum = 0;
  memcpy(b->magic, "ustar\0" "00", 8);
  memset(b->checksum, ' ', sizeof b->checksum);
  for (size_t i = 0; i < BLOCK; i++)
    sum += ((const uint8_t *)b)[i];
  snprintf(b->checksum, 7, "%06o", sum);
}

static int fits(const char *text)
{
  return strlen(text) <= NAME_BYTES;
}

/* What a header has no room for. */
static int make_pax(struct pax *p, const struct tar_header *h)
{
  if (!fits(h->path))
    pax_add_text(p, "path", h->path);
  if (h->target && !fits(h->target))
    pax_add_text(p, "linkpath", h->target);
  if (h->uid > OCTAL_7_MAX)
    pax_add_number(p, "uid", h->uid);
  if (h->gid > OCTAL_7_MAX)
    pax_add_number(p, "gid", h->gid);
  if (h->size > octal_11_max)
    pax_add_number(p, "size", (int64_t)h->size);
  if (h->mtime < 0 || (uint64_t)h->mtime > octal_11_max)
    pax_add_number(p, "mtime", h->mtime);
  return pax_add_xattrs(p, h->xattrs_of);
}

static int write_pax(struct sink *s, const struct pax *p, struct failure *f)
{
  struct block b = {.name = "PaxHeader", .type = 'x'};
  octal(b.mode, sizeof b.mode, 0644);
  octal(b.uid, sizeof b.uid, 0);
  octal(b.gid, sizeof b.gid, 0);
  octal(b.size, sizeof b.size, p->len);
  octal(b.mtime, sizeof b.mtime, 0);
  finish_block(&b);
  if (sink_write(s, &b, BLOCK, f) < 0 || sink_write(s, p->text, p->len, f) < 0)
    return -1;
  return tar_write_padding(s, p->len, f);
}

static int write_block(struct sink *s, const struct tar_header *h, struct failure *f)
{
  struct block b = {.type = h->type};
  memcpy(b.name, h->path, strnlen(h->path, NAME_BYTES));
  if (h->target)
    memcpy(b.target, h->target, strnlen(h->target, NAME_BYTES));
  octal(b.mode, sizeof b.mode, h->mode & 07777);
  octal(b.uid, sizeof b.uid, h->uid > OCTAL_7_MAX ? 0 : h->uid);
  octal(b.gid, sizeof b.gid, h->gid > OCTAL_7_MAX ? 0 : h->gid);
  octal(b.size, sizeof b.size, h->size > octal_11_max ? 0 : h->size);
  octal(b.mtime, sizeof b.mtime, h->mtime < 0 || (uint64_t)h->mtime > octal_11_max ? 0 : (uint64_t)h->mtime);
  octal(b.major, sizeof b.major, major(h->device));
  octal(b.minor, sizeof b.minor, minor(h->device));
  finish_block(&b);
  return sink_write(s, &b, BLOCK, f);
}

int tar_write_header(struct sink *s, const struct tar_header *h, struct failure *f)
{
  struct pax p = {0};
  int result = 0;
  if (make_pax(&p, h) < 0)
    result = fail(f, "xattr", errno, h->path);
  else if (p.failed)
    result = fail(f, "extension-size", E2BIG, h->path);
  else if (p.len > 0)
    result = write_pax(s, &p, f);
  free(p.text);
  return result < 0 ? -1 : write_block(s, h, f);
}

int tar_write_padding(struct sink *s, uint64_t size, struct failure *f)
{
  static const char zeros[BLOCK];
  return sink_write(s, zeros, (BLOCK - size % BLOCK) % BLOCK, f);
}

int tar_write_end(struct sink *s, struct failure *f)
{
  static const char zeros[2 * BLOCK];
  return sink_write(s, zeros, sizeof zeros, f);
}
