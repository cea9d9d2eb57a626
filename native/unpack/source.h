/*
 * Where the bytes come from: two threads, one that reads and hashes what came,
 * one that decompresses and hashes the result, in front of the caller's, which
 * writes files. Between each two a queue of chunks.
 */
#ifndef BERTH_UNPACK_SOURCE_H
#define BERTH_UNPACK_SOURCE_H

#include "failure.h"
#include "hash.h"

#include <stddef.h>
#include <stdint.h>

struct source;

struct source_options {
  int fd;             /* a pipe, a socket or a file */
  int kept;           /* -1, or a file with the first bytes of the stream; what `fd` brings is added to it */
  unsigned forget_ms; /* the file is emptied and left alone once the stream looks as if all of it came in less; 0: never */
  uint64_t bytes;     /* so many must come, with those kept; others are too-short or too-long */
  uint64_t max_bytes; /* at most so many may they be decompressed */
  enum hash_name digest, diff_id;
  void (*progress)(uint64_t bytes); /* called on another thread, at most ten times a second; may be NULL */
};

struct source_totals {
  char digest[DIGEST_TEXT];
  uint64_t compressed_bytes;
  char diff_id[DIGEST_TEXT]; /* the digest of the tar stream */
  uint64_t bytes;
};

/* Starts reading. NULL with errno set when threads or memory are not to be had. */
struct source *source_start(const struct source_options *options);

/*
 * The bytes that come next, `*len` of them; 0 at the end. They stay valid until
 * they are consumed. NULL when the stream failed (`f` says how).
 */
const uint8_t *source_peek(struct source *s, size_t *len, struct failure *f);

/* Takes `n` bytes that source_peek has shown. */
void source_consume(struct source *s, size_t n);

/* The bytes will be wanted again: the file is not given up from now on. */
void source_keep(struct source *s);

/* Only after source_peek has shown the end. */
void source_totals(const struct source *s, struct source_totals *totals);

/* Waits for the threads: not to be called while a read may take long. */
void source_free(struct source *s);

#endif
