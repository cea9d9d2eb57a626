/*
 * Where a layer's tar goes: a thread that hashes it, compresses it, hashes that, and writes it, while the caller goes on
 * reading files. The compressed bytes depend on the tar and on this program alone, not on the time.
 */
#ifndef BERTH_UNPACK_SINK_H
#define BERTH_UNPACK_SINK_H

#include "failure.h"
#include "hash.h"

#include <stddef.h>
#include <stdint.h>

struct sink;

struct sink_totals {
  char digest[DIGEST_TEXT]; /* of what was written */
  uint64_t compressed_bytes;
  char diff_id[DIGEST_TEXT]; /* of the tar */
  uint64_t bytes;
};

/* Writes to the file `fd`, by gzip unless `plain`. NULL with errno set when threads or memory are not to be had. */
struct sink *sink_start(int fd, int plain);

/* Takes the next bytes of the tar. 0 or -1. */
int sink_write(struct sink *s, const void *bytes, size_t len, struct failure *f);

/* Waits until all is written. Nothing may be written afterwards. 0 or -1. */
int sink_finish(struct sink *s, struct sink_totals *totals, struct failure *f);

#endif
