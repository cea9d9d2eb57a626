#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

struct content_hash {
  XXH3_state_t state;
  int hashing;      /* `state` has been begun */
  int gap;          /* zeros were left out since the last block that was hashed */
  uint64_t at;      /* where `partial` begins: a multiple of the block size */
  size_t partial_len;
  uint8_t partial[CONTENT_BLOCK];
};

struct content_hash *content_new(void)
{
  void *h = NULL;
  const int err = posix_memalign(&h, 64, sizeof(struct content_hash));
  errno = err;
  return err ? NULL : h;
}

void content_free(struct content_hash *h)
{
  free(h);
}

void content_start(struct content_hash *h)
{
  h->hashing = h->gap = 0;
  h->at = h->partial_len = 0;
}

static int is_zero(const uint8_t *p, size_t n)
{
  return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Blocks that follow one another; what comes after a gap is told by where it is. */
static void hash_run(struct content_hash *h, const uint8_t *p, size_t n, uint64_t at)
{
  if (n == 0)
    return;
  if (!h->hashing)
    XXH3_128bits_reset(&h->state);
  h->hashing = 1;
  if (h->gap) {
    uint8_t where[8];
    for (int i = 0; i < 8; i++)
      where[i] = (uint8_t)(at >> (8 * i));
    XXH3_128bits_update(&h->state, where, sizeof where);
  }
  h->gap = 0;
  XXH3_128bits_update(&h->state, p, n);
}

/* Whole blocks that begin at h->at; only the last of a file may be shorter. */
static void hash_blocks(struct content_hash *h, const uint8_t *p, size_t n)
{
  size_t from = 0;
  for (size_t i = 0; i < n; i += CONTENT_BLOCK) {
    const size_t len = n - i < CONTENT_BLOCK ? n - i : CONTENT_BLOCK;
    if (!is_zero(p + i, len))
      continue;
    hash_run(h, p + from, i - from, h->at + from);
    h->gap = 1;
    from = i + len;
  }
  hash_run(h, p + from, n - from, h->at + from);
  h->at += n;
}

void content_data(struct content_hash *h, const uint8_t *p, size_t n)
{
  if (h->partial_len > 0 || n < CONTENT_BLOCK) {
    const size_t room = CONTENT_BLOCK - h->partial_len, take = n < room ? n : room;
    memcpy(h->partial + h->partial_len, p, take);
    h->partial_len += take;
    if (h->partial_len < CONTENT_BLOCK)
      return;
    h->partial_len = 0;
    hash_blocks(h, h->partial, CONTENT_BLOCK);
    p += take, n -= take;
  }
  const size_t whole = n & ~(size_t)(CONTENT_BLOCK - 1);
  hash_blocks(h, p, whole);
  memcpy(h->partial, p + whole, n - whole);
  h->partial_len = n - whole;
}

void content_hole(struct content_hash *h, uint64_t n)
{
  static const uint8_t zeros[CONTENT_BLOCK];
  if (h->partial_len > 0) {
    const size_t room = CONTENT_BLOCK - h->partial_len, take = n < room ? (size_t)n : room;
    content_data(h, zeros, take);
    n -= take;
  }
  const uint64_t whole = n & ~(uint64_t)(CONTENT_BLOCK - 1);
  h->gap |= whole > 0;
  h->at += whole;
  content_data(h, zeros, (size_t)(n - whole));
}

void content_end(struct content_hash *h, uint8_t out[CONTENT_BYTES])
{
  XXH128_hash_t hash;
  if (!h->hashing && !h->gap && (h->partial_len == 0 || !is_zero(h->partial, h->partial_len))) {
    hash = XXH3_128bits(h->partial, h->partial_len); /* the same, and small files are most of them */
  } else {
    hash_blocks(h, h->partial, h->partial_len);
    if (!h->hashing)
      XXH3_128bits_reset(&h->state);
    hash = XXH3_128bits_digest(&h->state);
  }
  XXH128_canonicalFromHash((XXH128_canonical_t *)out, hash);
}

/* ---- a file ---- */

enum { READ_BYTES = 256 * 1024 };

/* Reads from where `fd` is to `end`, or to the end of the file. */
static int hash_range(struct content_hash *h, int fd, uint8_t *buffer, off_t at, off_t end, uint64_t *bytes)
{
  while (at < end) {
    const size_t want = end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES;
    ssize_t n = pread(fd, buffer, want, at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return (int)n;
    content_data(h, buffer, (size_t)n);
    *bytes += (uint64_t)n;
    at += n;
  }
  return 0;
}

/* Holes are looked for only where there must be some. */
static int hash_ranges(struct content_hash *h, int fd, uint8_t *buffer, const struct stat *st, uint64_t *bytes)
{
  if (st->st_blocks >= st->st_size / 512)
    return hash_range(h, fd, buffer, 0, st->st_size, bytes);
  for (off_t at = 0; at < st->st_size;) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
      return errno == EINVAL ? hash_range(h, fd, buffer, at, st->st_size, bytes) : -1;
    if (data < 0 || data > st->st_size)
      data = st->st_size;
    content_hole(h, (uint64_t)(data - at));
    off_t end = data < st->st_size ? lseek(fd, data, SEEK_HOLE) : data;
    if (end < 0 || hash_range(h, fd, buffer, data, end, bytes) < 0)
      return -1;
    at = end;
  }
  return 0;
}

int content_of_file(struct content_hash *h, int fd, uint8_t out[CONTENT_BYTES], uint64_t *bytes)
{
  static _Thread_local uint8_t buffer[READ_BYTES];
  struct stat st;
  *bytes = 0;
  content_start(h);
  if (fstat(fd, &st) < 0 || hash_ranges(h, fd, buffer, &st, bytes) < 0)
    return -1;
  content_end(h, out);
  return 0;
}

/* ---- attributes and names ---- */

static int is_ours(const char *name)
{
  return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 || strcmp(name, "security.capability") == 0;
}

int content_of_xattrs(int fd, uint64_t *out)
{
  static _Thread_local char names[64 * 1024], pair[256 + 64 * 1024]; /* XATTR_LIST_MAX; XATTR_NAME_MAX, XATTR_SIZE_MAX */
  ssize_t len = flistxattr(fd, names, sizeof names);
  *out = 0;
  if (len < 0)
    return errno == ENOTSUP ? 0 : -1;
  for (const char *name = names; name < names + len; name += strlen(name) + 1) {
    const size_t name_len = strlen(name) + 1;
    if (!is_ours(name))
      continue;
    memcpy(pair, name, name_len);
    ssize_t n = fgetxattr(fd, name, pair + name_len, sizeof pair - name_len);
    if (n < 0)
      return -1;
    *out += XXH3_64bits(pair, name_len + (size_t)n);
  }
  return 0;
}

uint64_t content_of_name(const char *name, size_t len)
{
  return XXH3_64bits(name, len);
}
