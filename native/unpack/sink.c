#define _GNU_SOURCE
#include "sink.h"
#include "queue.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 256 * 1024, OUT_BYTES = 256 * 1024, STACK_BYTES = 1024 * 1024 };

struct sink {
  int fd, plain;
  pthread_t writer;
  struct queue tar;
  struct chunk *filling; /* the caller's side only */
  struct hash digest, diff_id;
  uint64_t bytes_in, bytes_out;
  struct failure failure; /* the writer's, to be read once it has ended */
  struct isal_zstream deflate;
  uint8_t level_memory[ISAL_DEF_LVL1_DEFAULT];
  uint8_t out[OUT_BYTES];
};

/* ---- the thread ---- */

static int put(struct sink *s, const uint8_t *bytes, size_t len)
{
  hash_update(&s->digest, bytes, len);
  for (size_t done = 0; done < len;) {
    const ssize_t n = write(s->fd, bytes + done, len - done);
    if (n < 0 && errno != EINTR)
      return fail(&s->failure, "blob", errno, NULL);
    done += n > 0 ? (size_t)n : 0;
  }
  s->bytes_out += len;
  return 0;
}

/* Compresses one chunk, or with `last` what there still is, and writes what comes of it. */
static int compress(struct sink *s, const uint8_t *bytes, size_t len, int last)
{
  struct isal_zstream *z = &s->deflate;
  z->next_in = (uint8_t *)bytes; /* it is only read; the library has no const */
  z->avail_in = (uint32_t)len;
  z->end_of_stream = last ? 1 : 0;
  do {
    z->next_out = s->out;
    z->avail_out = OUT_BYTES;
    if (isal_deflate(z) != COMP_OK)
      return fail(&s->failure, "compress", EINVAL, NULL);
    if (put(s, s->out, OUT_BYTES - z->avail_out) < 0)
      return -1;
  } while (z->avail_out == 0 || (last && z->internal_state.state != ZSTATE_END));
  return 0;
}

static int take(struct sink *s, const struct chunk *c)
{
  hash_update(&s->diff_id, c->data, c->len);
  s->bytes_in += c->len;
  return s->plain ? put(s, c->data, c->len) : compress(s, c->data, c->len, 0);
}

static void *run_writer(void *arg)
{
  struct sink *s = arg;
  const struct chunk *c;
  struct failure f = {0};
  int end = 0, result = 0;
  while (result == 0 && (c = queue_first(&s->tar, &end, &f))) {
    result = take(s, c);
    queue_pop(&s->tar);
  }
  if (result == 0 && !s->plain)
    compress(s, NULL, 0, 1);
  queue_abandon(&s->tar);
  return NULL;
}

/* ---- the caller's side ---- */

static int start_thread(struct sink *s)
{
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, STACK_BYTES);
  const int err = pthread_create(&s->writer, &small, run_writer, s);
  pthread_attr_destroy(&small);
  return err;
}

struct sink *sink_start(int fd, int plain)
{
  struct sink *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->fd = fd;
  s->plain = plain;
  hash_start(&s->digest, HASH_SHA256);
  hash_start(&s->diff_id, HASH_SHA256);
  isal_deflate_init(&s->deflate);
  s->deflate.level = 1;
  s->deflate.level_buf = s->level_memory;
  s->deflate.level_buf_size = sizeof s->level_memory;
  s->deflate.gzip_flag = IGZIP_GZIP; /* the header has no time and no name */
  s->deflate.flush = NO_FLUSH;
  int err = queue_init(&s->tar, CHUNK_BYTES) < 0 ? ENOMEM : start_thread(s);
  if (err == 0)
    return s;
  free(s);
  errno = err;
  return NULL;
}

static int failed(struct sink *s, struct failure *f)
{
  pthread_join(s->writer, NULL);
  *f = s->failure;
  return -1;
}

int sink_write(struct sink *s, const void *bytes, size_t len, struct failure *f)
{
  const uint8_t *from = bytes;
  while (len > 0) {
    if (!s->filling && !(s->filling = queue_blank(&s->tar)))
      return failed(s, f);
    const size_t room = CHUNK_BYTES - s->filling->len, n = len < room ? len : room;
    memcpy(s->filling->data + s->filling->len, from, n);
    s->filling->len += n;
    from += n;
    len -= n;
    if (s->filling->len < CHUNK_BYTES)
      continue;
    queue_push(&s->tar);
    s->filling = NULL;
  }
  return 0;
}

int sink_finish(struct sink *s, struct sink_totals *totals, struct failure *f)
{
  if (s->filling)
    queue_push(&s->tar);
  queue_end(&s->tar, NULL);
  pthread_join(s->writer, NULL);
  if (s->failure.step) {
    *f = s->failure;
    return -1;
  }
  hash_finish(&s->digest, totals->digest);
  hash_finish(&s->diff_id, totals->diff_id);
  totals->bytes = s->bytes_in;
  totals->compressed_bytes = s->bytes_out;
  return 0;
}
