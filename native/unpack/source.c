#include "source.h"
#include "sha256.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNKS = 8, CHUNK_BYTES = 256 * 1024, INPUT_BYTES = 128 * 1024, MAGIC_BYTES = 6 };

struct chunk {
  size_t len;
  uint8_t data[CHUNK_BYTES];
};

/*
 *   produced - consumed = chunks in the ring; the thread owns the rest.
 *   chunk i lives in ring[i % CHUNKS].
 */
struct source {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned produced, consumed;
  int ended; /* no chunk follows: the end, or a failure when failed.step is set */
  struct failure failed;

  size_t taken; /* of the oldest chunk; the caller's side only */

  int fd;
  uint64_t max_bytes;
  struct sha256 in_hash, out_hash;
  uint64_t in_bytes, out_bytes;
  struct source_totals totals;
  uint8_t input[INPUT_BYTES];
  struct chunk ring[CHUNKS];
};

/* ---- the thread's side ---- */

static struct chunk *next_free(struct source *s)
{
  pthread_mutex_lock(&s->lock);
  while (s->produced - s->consumed == CHUNKS)
    pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
  struct chunk *c = &s->ring[s->produced % CHUNKS];
  c->len = 0;
  return c;
}

static int publish(struct source *s, struct chunk *c)
{
  if (c->len == 0)
    return 0;
  s->out_bytes += c->len;
  if (s->out_bytes > s->max_bytes)
    return fail(&s->failed, "too-large", EFBIG, NULL);
  sha256_update(&s->out_hash, c->data, c->len);
  pthread_mutex_lock(&s->lock);
  s->produced++;
  pthread_cond_signal(&s->changed);
  pthread_mutex_unlock(&s->lock);
  return 0;
}

/* Bytes read into `to`, 0 at the end, -1. */
static ssize_t read_input(struct source *s, uint8_t *to, size_t len)
{
  ssize_t n;
  do
    n = read(s->fd, to, len);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return fail(&s->failed, "read", errno, NULL);
  sha256_update(&s->in_hash, to, (size_t)n);
  s->in_bytes += (uint64_t)n;
  return n;
}

static int copy_plain(struct source *s, size_t have)
{
  struct chunk *c = next_free(s);
  memcpy(c->data, s->input, have);
  c->len = have;
  for (;;) {
    ssize_t n = read_input(s, c->data + c->len, CHUNK_BYTES - c->len);
    if (n <= 0)
      return n < 0 ? -1 : publish(s, c);
    c->len += (size_t)n;
    if (c->len < CHUNK_BYTES)
      continue;
    if (publish(s, c) < 0)
      return -1;
    c = next_free(s);
  }
}

static int inflate_all(struct source *s, z_stream *z, size_t have)
{
  struct chunk *c = next_free(s);
  int inside = 1; /* a member has begun and not ended */
  z->next_in = s->input;
  z->avail_in = (uInt)have;
  for (;;) {
    if (z->avail_in == 0) {
      ssize_t n = read_input(s, s->input, INPUT_BYTES);
      if (n < 0)
        return -1;
      if (n == 0)
        return inside ? fail(&s->failed, "truncated", EBADMSG, NULL) : publish(s, c);
      z->next_in = s->input;
      z->avail_in = (uInt)n;
    }
    if (!inside) {
      if (inflateReset(z) != Z_OK)
        return fail(&s->failed, "gzip", EINVAL, NULL);
      inside = 1;
    }
    z->next_out = c->data + c->len;
    z->avail_out = (uInt)(CHUNK_BYTES - c->len);
    int status = inflate(z, Z_NO_FLUSH);
    c->len = CHUNK_BYTES - z->avail_out;
    if (status == Z_MEM_ERROR)
      return fail(&s->failed, "gzip", ENOMEM, NULL);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      return fail(&s->failed, "gzip", EBADMSG, NULL);
    if (status == Z_STREAM_END)
      inside = 0;
    if (c->len == CHUNK_BYTES) {
      if (publish(s, c) < 0)
        return -1;
      c = next_free(s);
    }
  }
}

static int copy_gzip(struct source *s, size_t have)
{
  z_stream z = {0};
  if (inflateInit2(&z, 15 + 16) != Z_OK) /* 15: the largest window, + 16: gzip, nothing else */
    return fail(&s->failed, "gzip", ENOMEM, NULL);
  int result = inflate_all(s, &z, have);
  inflateEnd(&z);
  return result;
}

static int copy_by_magic(struct source *s)
{
  static const struct {
    const char *name, *bytes;
    size_t len;
  } others[] = {{"zstd", "\x28\xb5\x2f\xfd", 4}, {"xz", "\xfd" "7zXZ", 5}, {"bzip2", "BZh", 3}};

  size_t have = 0;
  while (have < MAGIC_BYTES) {
    ssize_t n = read_input(s, s->input + have, MAGIC_BYTES - have);
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    have += (size_t)n;
  }
  if (have >= 2 && s->input[0] == 0x1f && s->input[1] == 0x8b)
    return copy_gzip(s, have);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (have >= others[i].len && memcmp(s->input, others[i].bytes, others[i].len) == 0)
      return fail(&s->failed, "compression", EOPNOTSUPP, others[i].name);
  return copy_plain(s, have);
}

static void *run(void *arg)
{
  struct source *s = arg;
  if (copy_by_magic(s) == 0) {
    sha256_final(&s->in_hash, s->totals.compressed_sha256);
    sha256_final(&s->out_hash, s->totals.sha256);
    s->totals.compressed_bytes = s->in_bytes;
    s->totals.bytes = s->out_bytes;
  }
  pthread_mutex_lock(&s->lock);
  s->ended = 1;
  pthread_cond_signal(&s->changed);
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

/* ---- the caller's side ---- */

struct source *source_start(int fd, uint64_t max_bytes)
{
  struct source *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->fd = fd;
  s->max_bytes = max_bytes;
  sha256_init(&s->in_hash);
  sha256_init(&s->out_hash);
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->changed, NULL);
  int err = pthread_create(&s->thread, NULL, run, s);
  if (err == 0)
    return s;
  free(s);
  errno = err;
  return NULL;
}

const uint8_t *source_peek(struct source *s, size_t *len, struct failure *f)
{
  pthread_mutex_lock(&s->lock);
  while (s->produced == s->consumed && !s->ended)
    pthread_cond_wait(&s->changed, &s->lock);
  int empty = s->produced == s->consumed;
  pthread_mutex_unlock(&s->lock);
  if (empty && s->failed.step) {
    *f = s->failed;
    return NULL;
  }
  struct chunk *c = &s->ring[s->consumed % CHUNKS];
  *len = empty ? 0 : c->len - s->taken;
  return c->data + (empty ? 0 : s->taken);
}

void source_consume(struct source *s, size_t n)
{
  s->taken += n;
  if (n == 0 || s->taken < s->ring[s->consumed % CHUNKS].len)
    return;
  s->taken = 0;
  pthread_mutex_lock(&s->lock);
  s->consumed++;
  pthread_cond_signal(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

void source_totals(const struct source *s, struct source_totals *totals)
{
  *totals = s->totals;
}

void source_free(struct source *s)
{
  pthread_join(s->thread, NULL);
  free(s);
}
