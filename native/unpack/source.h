/*
 * The layer's bytes: read from a descriptor, hashed, inflated, hashed again.
 *
 * A thread of its own does that and fills a ring of chunks, so that inflating
 * and writing files run side by side; the caller's thread only takes chunks.
 */
#ifndef BERTH_UNPACK_SOURCE_H
#define BERTH_UNPACK_SOURCE_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

struct source;

struct source_totals {
  uint8_t compressed_sha256[32];
  uint64_t compressed_bytes;
  uint8_t sha256[32]; /* of the tar stream: the diff id */
  uint64_t bytes;
};

/*
 * Starts reading `fd`: gzip (any number of members) or a plain stream, told
 * apart by the first bytes; at most `max_bytes` come out. NULL with errno set
 * when the thread or the memory is not to be had.
 */
struct source *source_start(int fd, uint64_t max_bytes);

/*
 * The bytes that come next, `*len` of them; 0 at the end. They stay valid until
 * they are consumed. NULL when the stream failed (`f` says how).
 */
const uint8_t *source_peek(struct source *s, size_t *len, struct failure *f);

/* Takes `n` bytes that source_peek has shown. */
void source_consume(struct source *s, size_t n);

/* Only after source_peek has shown the end. */
void source_totals(const struct source *s, struct source_totals *totals);

/* Waits for the thread; only after the end or a failure was shown. */
void source_free(struct source *s);

#endif
