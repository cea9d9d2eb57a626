/*
 * Decompresses a stream piece by piece, from memory to memory: gzip by ISA-L,
 * zstd by libzstd, xz by liblzma, bzip2 by libbz2, or bytes as they are; told
 * apart by the first bytes.
 *
 * gzip may have any number of members, xz and bzip2 of streams, zstd of frames
 * and skippable frames between them; the checksums and lengths of all are verified. Nothing
 * else may follow. Memory is bounded, whatever the bytes say: see WINDOW_LOG_MAX
 * and XZ_MEMORY_MAX.
 */
#ifndef BERTH_UNPACK_DECODE_H
#define BERTH_UNPACK_DECODE_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

/* zstd frames that need a larger window (128 MiB) are refused: `zstd --ultra -22` needs no more, only --long=28 and up. */
enum { WINDOW_LOG_MAX = 27 };

/* xz streams whose decoder needs more are refused: `xz -9e` needs 65 MiB. bzip2 needs 4 MB at most. */
enum { XZ_MEMORY_MAX = 128 << 20, BZIP2_STEP_MAX = 1 << 30 };

struct decoder;

/* NULL when the memory is not to be had. */
struct decoder *decoder_new(void);
void decoder_free(struct decoder *d);

/* What is left to read, and the room left to write: both advance. */
struct decoder_io {
  const uint8_t *in;
  size_t in_len;
  uint8_t *out;
  size_t out_len;
};

/*
 * Goes on until the input is used up or the room is: with room left, all that
 * came is written. `last`: no input follows what is here; with room left then, the
 * stream was whole. 0, or -1 with one of the steps truncated, gzip, zstd,
 * zstd-window, xz, xz-memory, bzip2, memory.
 */
int decoder_run(struct decoder *d, struct decoder_io *io, int last, struct failure *f);

#endif
