#define _GNU_SOURCE
#include "source.h"
#include "decode.h"
#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* What stays in the CPU's caches from one stage to the next is not fetched again. */
/* glibc takes the program's thread-local variables, content.c's buffers among them, out of each thread's stack. */
enum { READ_BYTES = 128 * 1024, WRITE_BYTES = 256 * 1024, STACK_BYTES = 1024 * 1024, PROGRESS_MS = 100 };

/* So many bytes may have come before anybody looked at the clock: into the pipe, and into a socket before it. */
enum { HEAD_START_BYTES = 4 * 1024 * 1024 };

struct source {
  struct source_options options;
  pthread_t reader, inflater;
  struct queue compressed, plain;
  struct hash digest, diff_id;
  uint64_t bytes_in, bytes_out;
  int64_t began_ms, told_ms;
  atomic_bool wanted; /* whatever the clock says */
  size_t taken; /* of the oldest plain chunk; the caller's side only */
};

/* ---- the first thread: reads, keeps, hashes ---- */

static int64_t now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell_progress(struct source *s, int64_t now)
{
  if (!s->options.progress || now - s->told_ms < PROGRESS_MS)
    return;
  s->told_ms = now;
  s->options.progress(s->bytes_in);
}

/*
 * What comes so fast can as well come again: writing it down would take the processor and the disk longer than that,
 * since a sync of the file system meanwhile puts it on disk. What is not written back yet goes with the file's length.
 */
static int forget_if_quick(struct source *s, int64_t now, struct failure *f)
{
  if (s->options.kept < 0 || s->options.forget_ms == 0 || s->bytes_in <= HEAD_START_BYTES || atomic_load(&s->wanted))
    return 0;
  const double so_far = (double)(now - s->began_ms), share = (double)(s->bytes_in - HEAD_START_BYTES) / (double)s->options.bytes;
  if (so_far >= share * s->options.forget_ms)
    return 0;
  if (ftruncate(s->options.kept, 0) < 0)
    return fail(f, "keep", errno, NULL);
  s->options.kept = -1;
  return 0;
}

static int wrong_size(struct source *s, const char *step, struct failure *f)
{
  char got[24];
  snprintf(got, sizeof got, "%" PRIu64, s->bytes_in);
  return fail(f, step, EBADMSG, got);
}

/* Bytes read, 0 at the end, -1. A pipe may be one that does not block. */
static ssize_t read_some(int fd, uint8_t *to, size_t len)
{
  for (;;) {
    const ssize_t n = read(fd, to, len);
    if (n >= 0 || (errno != EINTR && errno != EAGAIN))
      return n;
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (errno == EAGAIN)
      poll(&readable, 1, -1);
  }
}

static int keep(struct source *s, const uint8_t *bytes, size_t len, struct failure *f)
{
  for (size_t done = 0; done < len;) {
    const ssize_t n = pwrite(s->options.kept, bytes + done, len - done, (off_t)(s->bytes_in - len + done));
    if (n < 0 && errno != EINTR)
      return fail(f, "keep", errno, NULL);
    done += n > 0 ? (size_t)n : 0;
  }
  return 0;
}

/* Passes on all that `fd` has. 0 at its end or when nobody wants more, -1. */
static int read_all(struct source *s, int fd, int is_new, struct failure *f)
{
  for (;;) {
    struct chunk *c = queue_blank(&s->compressed);
    const ssize_t n = c ? read_some(fd, c->data, READ_BYTES) : 0;
    if (n <= 0)
      return n < 0 ? fail(f, "read", errno, NULL) : 0;
    s->bytes_in += (uint64_t)n;
    if (s->bytes_in > s->options.bytes)
      return wrong_size(s, "too-long", f);
    if (is_new && s->options.kept >= 0 && keep(s, c->data, (size_t)n, f) < 0)
      return -1;
    hash_update(&s->digest, c->data, (size_t)n);
    c->len = (size_t)n;
    queue_push(&s->compressed);
    const int64_t now = now_ms();
    if (is_new && forget_if_quick(s, now, f) < 0)
      return -1;
    tell_progress(s, now);
  }
}

static void *run_reader(void *arg)
{
  struct source *s = arg;
  struct failure f = {0};
  int result = 0;
  s->began_ms = now_ms();
  if (s->options.kept >= 0)
    result = lseek(s->options.kept, 0, SEEK_SET) < 0 ? fail(&f, "keep", errno, NULL) : read_all(s, s->options.kept, 0, &f);
  if (result == 0)
    result = read_all(s, s->options.fd, 1, &f);
  if (result == 0 && s->bytes_in < s->options.bytes)
    result = wrong_size(s, "too-short", &f);
  queue_end(&s->compressed, result < 0 ? &f : NULL);
  return NULL;
}

/* ---- the second thread: decompresses, hashes ---- */

/* Hands over the chunk that is being filled and takes the next. 0, or -1: too much, or nobody wants more. */
static int pass_on(struct source *s, struct chunk **c, size_t len, struct failure *f)
{
  (*c)->len = len;
  s->bytes_out += len;
  if (s->bytes_out > s->options.max_bytes)
    return fail(f, "too-large", EFBIG, NULL);
  hash_update(&s->diff_id, (*c)->data, len);
  queue_push(&s->plain);
  *c = queue_blank(&s->plain);
  return *c ? 0 : fail(f, "abandoned", ECANCELED, NULL);
}

/* Decodes one compressed chunk, or what the decoder still holds at the end (`last`), into `*c`, `*len` bytes full so far. */
static int decode_chunk(struct source *s, struct decoder *d, const struct chunk *in, struct chunk **c, size_t *len,
                        struct failure *f)
{
  struct decoder_io io = {.in = in ? in->data : NULL, .in_len = in ? in->len : 0};
  for (;;) {
    io.out = (*c)->data + *len;
    io.out_len = WRITE_BYTES - *len;
    if (decoder_run(d, &io, in == NULL, f) < 0)
      return -1;
    *len = WRITE_BYTES - io.out_len;
    if (io.out_len > 0)
      return 0;
    if (pass_on(s, c, *len, f) < 0)
      return -1;
    *len = 0;
  }
}

static int decode_all(struct source *s, struct decoder *d, struct failure *f)
{
  struct chunk *c = queue_blank(&s->plain);
  size_t len = 0;
  int end = 0;
  if (!c)
    return fail(f, "abandoned", ECANCELED, NULL);
  while (!end) {
    const struct chunk *in = queue_first(&s->compressed, &end, f);
    if ((!in && !end) || decode_chunk(s, d, in, &c, &len, f) < 0)
      return -1;
    if (in)
      queue_pop(&s->compressed);
  }
  return len > 0 ? pass_on(s, &c, len, f) : 0;
}

static void *run_inflater(void *arg)
{
  struct source *s = arg;
  struct failure f = {0};
  struct decoder *d = decoder_new();
  const int result = d ? decode_all(s, d, &f) : fail(&f, "memory", ENOMEM, NULL);
  decoder_free(d);
  queue_abandon(&s->compressed);
  queue_end(&s->plain, result < 0 ? &f : NULL);
  return NULL;
}

/* ---- the caller's side ---- */

static int start_thread(pthread_t *thread, void *(*run)(void *), struct source *s)
{
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, STACK_BYTES);
  const int err = pthread_create(thread, &small, run, s);
  pthread_attr_destroy(&small);
  return err;
}

static void free_all(struct source *s)
{
  queue_free(&s->compressed);
  queue_free(&s->plain);
  free(s);
}

struct source *source_start(const struct source_options *options)
{
  struct source *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->options = *options;
  hash_start(&s->digest, options->digest);
  hash_start(&s->diff_id, options->diff_id);
  int err = queue_init(&s->compressed, READ_BYTES) < 0 || queue_init(&s->plain, WRITE_BYTES) < 0 ? ENOMEM : 0;
  if (err == 0)
    err = start_thread(&s->inflater, run_inflater, s);
  if (err == 0 && (err = start_thread(&s->reader, run_reader, s)) != 0) {
    queue_end(&s->compressed, NULL);
    pthread_join(s->inflater, NULL);
  }
  if (err == 0)
    return s;
  free_all(s);
  errno = err;
  return NULL;
}

const uint8_t *source_peek(struct source *s, size_t *len, struct failure *f)
{
  static const uint8_t nothing[1];
  int end;
  const struct chunk *c = queue_first(&s->plain, &end, f);
  *len = c ? c->len - s->taken : 0;
  return c ? c->data + s->taken : end ? nothing : NULL;
}

void source_consume(struct source *s, size_t n)
{
  int end;
  s->taken += n;
  if (n == 0 || s->taken < queue_first(&s->plain, &end, NULL)->len)
    return;
  s->taken = 0;
  queue_pop(&s->plain);
}

void source_keep(struct source *s)
{
  atomic_store(&s->wanted, true);
}

void source_totals(const struct source *s, struct source_totals *totals)
{
  struct hash digest = s->digest, diff_id = s->diff_id;
  hash_finish(&digest, totals->digest);
  hash_finish(&diff_id, totals->diff_id);
  totals->compressed_bytes = s->bytes_in;
  totals->bytes = s->bytes_out;
}

void source_free(struct source *s)
{
  queue_abandon(&s->plain);
  pthread_join(s->inflater, NULL);
  pthread_join(s->reader, NULL);
  free_all(s);
}
