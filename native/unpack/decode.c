#include "decode.h"

#include <bzlib.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/* The longest magic that is looked for; frames of zstd begin with four bytes. */
enum { MAGIC_BYTES = 10, XZ_MAGIC_BYTES = 6, FRAME_MAGIC_BYTES = 4, FRAME_HEADER_MAX = 18 };

/* A header may have names as long as it likes (RFC 1952); a layer's has none, or that of its file. */
enum { GZIP_HEADER_MAX = 256 * 1024 };

enum gzip_part { GZIP_FIXED, GZIP_EXTRA_LENGTH, GZIP_EXTRA, GZIP_NAME, GZIP_COMMENT, GZIP_CRC, GZIP_BODY };
enum gzip_flag { FLAG_CRC = 2, FLAG_EXTRA = 4, FLAG_NAME = 8, FLAG_COMMENT = 16, FLAGS_RESERVED = 0xe0 };

struct gzip_header {
  enum gzip_part part;
  unsigned at; /* bytes of this part that have been read */
  unsigned extra_len, bytes;
  uint8_t flags;
};

typedef int decode_function(struct decoder *d, struct decoder_io *io, struct failure *f);

struct decoder {
  decode_function *decode; /* NULL until the first bytes have been seen */
  uint8_t head[MAGIC_BYTES];
  size_t head_len, head_used; /* held back to be looked at, then decoded before what follows them */
  uint8_t frame[FRAME_HEADER_MAX];
  size_t frame_len; /* what has come of the next frame's header */
  int inside;                 /* a member, frame or stream has begun and not ended */
  struct gzip_header header;  /* of the member */
  struct inflate_state *gzip;
  ZSTD_DStream *zstd;
  lzma_stream xz;
  bz_stream bzip2;
};

struct decoder *decoder_new(void)
{
  return calloc(1, sizeof(struct decoder));
}

void decoder_free(struct decoder *d)
{
  if (!d)
    return;
  free(d->gzip);
  ZSTD_freeDStream(d->zstd);
  lzma_end(&d->xz);
  BZ2_bzDecompressEnd(&d->bzip2);
  free(d);
}

static void advance(struct decoder_io *io, size_t used, size_t made)
{
  if (used > 0) /* at the end there is nothing to point at, and C knows no NULL + 0 */
    io->in += used;
  io->in_len -= used;
  io->out += made;
  io->out_len -= made;
}

/* ---- one function per format: uses up the input or the room ---- */

static int decode_plain(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  (void)d, (void)f;
  const size_t n = io->in_len < io->out_len ? io->in_len : io->out_len;
  if (n > 0)
    memcpy(io->out, io->in, n);
  advance(io, n, n);
  return 0;
}

/* ---- gzip: its headers are read here, since ISA-L forgets a header's flags where its input ends within it ---- */

static int has_part(const struct gzip_header *h, enum gzip_part part)
{
  switch (part) {
  case GZIP_EXTRA_LENGTH: return h->flags & FLAG_EXTRA;
  case GZIP_EXTRA: return h->extra_len > 0;
  case GZIP_NAME: return h->flags & FLAG_NAME;
  case GZIP_COMMENT: return h->flags & FLAG_COMMENT;
  case GZIP_CRC: return h->flags & FLAG_CRC;
  default: return 1;
  }
}

static void end_part(struct gzip_header *h)
{
  do
    h->part++;
  while (!has_part(h, h->part));
  h->at = 0;
}

static int take_fixed(struct gzip_header *h, uint8_t byte)
{
  static const uint8_t begins[] = {0x1f, 0x8b, 8};
  if (h->at < sizeof begins && byte != begins[h->at])
    return -1;
  if (h->at == 3)
    h->flags = byte;
  if (h->at == 9)
    end_part(h);
  else
    h->at++;
  return h->flags & FLAGS_RESERVED ? -1 : 0;
}

/* The header's own checksum is not compared: the layer's digest says more. */
static int take_header_byte(struct gzip_header *h, uint8_t byte)
{
  if (h->bytes++ == GZIP_HEADER_MAX)
    return -1;
  switch (h->part) {
  case GZIP_FIXED: return take_fixed(h, byte);
  case GZIP_EXTRA_LENGTH:
    h->extra_len |= (unsigned)byte << (8 * h->at++);
    if (h->at == 2)
      end_part(h);
    return 0;
  case GZIP_EXTRA:
    if (++h->at == h->extra_len)
      end_part(h);
    return 0;
  case GZIP_CRC:
    if (++h->at == 2)
      end_part(h);
    return 0;
  default:
    if (byte == 0)
      end_part(h);
    return 0;
  }
}

static int read_gzip_header(struct decoder *d, struct decoder_io *io)
{
  while (io->in_len > 0 && d->header.part != GZIP_BODY) {
    if (take_header_byte(&d->header, io->in[0]) < 0)
      return -1;
    advance(io, 1, 0);
  }
  return 0;
}

static void begin_member(struct decoder *d)
{
  d->header = (struct gzip_header){0};
  isal_inflate_reset(d->gzip);
  d->gzip->crc_flag = ISAL_GZIP_NO_HDR_VER; /* checksum and length are verified */
  d->inside = 1;
}

/* 1 when it got on, 0 when it waits for input, -1. What ISA-L leaves behind with an error means nothing. */
static int inflate_some(struct decoder *d, struct decoder_io *io)
{
  struct inflate_state *z = d->gzip;
  z->next_in = (uint8_t *)(uintptr_t)io->in;
  z->avail_in = (uint32_t)io->in_len;
  z->next_out = io->out;
  z->avail_out = (uint32_t)io->out_len;
  const int status = isal_inflate(z);
  if (status != ISAL_DECOMP_OK && status != ISAL_END_INPUT && status != ISAL_OUT_OVERFLOW)
    return -1;
  if (z->avail_in > io->in_len || z->avail_out > io->out_len)
    return -1;
  const size_t used = io->in_len - z->avail_in, made = io->out_len - z->avail_out;
  advance(io, used, made);
  if (z->block_state == ISAL_BLOCK_FINISH)
    d->inside = 0;
  return !d->inside || used > 0 || made > 0;
}

static int decode_gzip(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  int more = 1;
  while (more > 0 && io->out_len > 0 && (d->inside || io->in_len > 0)) {
    if (!d->inside)
      begin_member(d);
    if (read_gzip_header(d, io) < 0)
      return fail(f, "gzip", EBADMSG, NULL);
    if (d->header.part != GZIP_BODY)
      return 0;
    more = inflate_some(d, io);
  }
  return more < 0 || (more == 0 && io->in_len > 0) ? fail(f, "gzip", EBADMSG, NULL) : 0;
}

static int is_zstd_frame(const uint8_t magic[FRAME_MAGIC_BYTES])
{
  static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skippable[] = {0x2a, 0x4d, 0x18};
  return memcmp(magic, frame, 4) == 0 || ((magic[0] & 0xf0) == 0x50 && memcmp(magic + 1, skippable, 3) == 0);
}

static int zstd_failed(size_t status, struct failure *f)
{
  switch (ZSTD_getErrorCode(status)) {
  case ZSTD_error_memory_allocation: return fail(f, "memory", ENOMEM, NULL);
  case ZSTD_error_frameParameter_windowTooLarge: return fail(f, "zstd-window", E2BIG, NULL);
  default: return fail(f, "zstd", EBADMSG, NULL);
  }
}

static int zstd_step(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  ZSTD_inBuffer in = {io->in, io->in_len, 0};
  ZSTD_outBuffer out = {io->out, io->out_len, 0};
  const size_t status = ZSTD_decompressStream(d->zstd, &out, &in);
  advance(io, in.pos, out.pos);
  if (ZSTD_isError(status))
    return zstd_failed(status, f);
  if (status == 0)
    d->inside = 0;
  return in.pos > 0 || out.pos > 0;
}

/* Of the header whose first `len` bytes these are, or what it takes to know that (RFC 8878, 3.1.1.1 and 3.1.2). */
static size_t frame_header_size(const uint8_t *header, size_t len)
{
  static const uint8_t dictionary_bytes[] = {0, 1, 2, 4}, size_bytes[] = {0, 2, 4, 8};
  if (len <= FRAME_MAGIC_BYTES)
    return FRAME_MAGIC_BYTES + 1;
  if (header[0] != 0x28)
    return 8; /* of a skippable frame: its magic and its size */
  const unsigned says = header[FRAME_MAGIC_BYTES], is_single = says >> 5 & 1, of_size = says >> 6;
  const unsigned size = of_size == 0 && is_single ? 1 : size_bytes[of_size];
  return FRAME_MAGIC_BYTES + 1 + !is_single + dictionary_bytes[says & 3] + size;
}

/* 1 when the frame's header is there, 0 when more must come, -1. */
static int read_frame_header(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  while (d->frame_len < frame_header_size(d->frame, d->frame_len)) {
    if (d->frame_len == FRAME_MAGIC_BYTES && !is_zstd_frame(d->frame))
      return fail(f, "zstd", EBADMSG, NULL);
    if (io->in_len == 0)
      return 0;
    d->frame[d->frame_len++] = io->in[0];
    advance(io, 1, 0);
  }
  return 1;
}

/*
 * A frame's header is looked at here, and libzstd gets it in one piece. What it knows beside these two kinds, formats
 * from before zstd 1.0, is not for strangers' bytes. And given half a header it takes the bytes after it for a frame of
 * their own, if they look like one (1.5.4): the stream would mean something else when it comes in other pieces.
 */
static int begin_frame(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  const int found = read_frame_header(d, io, f);
  if (found <= 0)
    return found;
  struct decoder_io header = {d->frame, d->frame_len, io->out, io->out_len};
  d->inside = 1;
  d->frame_len = 0;
  const int result = zstd_step(d, &header, f);
  advance(io, 0, io->out_len - header.out_len);
  return result > 0 && header.in_len > 0 ? fail(f, "zstd", EBADMSG, NULL) : result;
}

static int decode_zstd(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  int more = 1;
  while (more > 0 && io->out_len > 0)
    more = d->inside ? zstd_step(d, io, f) : begin_frame(d, io, f);
  return more < 0 ? -1 : 0;
}

/* ---- xz and bzip2: streams one after the other ---- */

static int xz_failed(lzma_ret status, struct failure *f)
{
  if (status == LZMA_MEM_ERROR)
    return fail(f, "memory", ENOMEM, NULL);
  return status == LZMA_MEMLIMIT_ERROR ? fail(f, "xz-memory", E2BIG, NULL) : fail(f, "xz", EBADMSG, NULL);
}

/* Zeros may stand between streams and behind the last one. */
static int begin_xz(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  while (io->in_len > 0 && io->in[0] == 0)
    advance(io, 1, 0);
  if (io->in_len == 0)
    return 0;
  const lzma_ret status = lzma_stream_decoder(&d->xz, XZ_MEMORY_MAX, LZMA_TELL_UNSUPPORTED_CHECK);
  if (status != LZMA_OK)
    return xz_failed(status, f);
  d->inside = 1;
  return 1;
}

static int xz_step(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  lzma_stream *z = &d->xz;
  z->next_in = io->in;
  z->avail_in = io->in_len;
  z->next_out = io->out;
  z->avail_out = io->out_len;
  const lzma_ret status = lzma_code(z, LZMA_RUN);
  const size_t used = io->in_len - z->avail_in, made = io->out_len - z->avail_out;
  advance(io, used, made);
  if (status == LZMA_STREAM_END)
    d->inside = 0;
  else if (status != LZMA_OK && status != LZMA_BUF_ERROR)
    return xz_failed(status, f);
  return used > 0 || made > 0;
}

static int decode_xz(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  int more = 1;
  while (more > 0 && io->out_len > 0)
    more = d->inside ? xz_step(d, io, f) : begin_xz(d, io, f);
  return more < 0 ? -1 : 0;
}

static int begin_bzip2(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  if (io->in_len == 0)
    return 0;
  BZ2_bzDecompressEnd(&d->bzip2);
  d->bzip2 = (bz_stream){0};
  if (BZ2_bzDecompressInit(&d->bzip2, 0, 0) != BZ_OK)
    return fail(f, "memory", ENOMEM, NULL);
  d->inside = 1;
  return 1;
}

static unsigned at_most(size_t length)
{
  return length < BZIP2_STEP_MAX ? (unsigned)length : BZIP2_STEP_MAX;
}

static int bzip2_step(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  bz_stream *z = &d->bzip2;
  const unsigned in = at_most(io->in_len), out = at_most(io->out_len);
  z->next_in = (char *)(uintptr_t)io->in;
  z->avail_in = in;
  z->next_out = (char *)io->out;
  z->avail_out = out;
  const int status = BZ2_bzDecompress(z);
  const size_t used = in - z->avail_in, made = out - z->avail_out;
  advance(io, used, made);
  if (status == BZ_STREAM_END)
    d->inside = 0;
  else if (status != BZ_OK)
    return status == BZ_MEM_ERROR ? fail(f, "memory", ENOMEM, NULL) : fail(f, "bzip2", EBADMSG, NULL);
  return used > 0 || made > 0;
}

static int decode_bzip2(struct decoder *d, struct decoder_io *io, struct failure *f)
{
  int more = 1;
  while (more > 0 && io->out_len > 0)
    more = d->inside ? bzip2_step(d, io, f) : begin_bzip2(d, io, f);
  return more < 0 ? -1 : 0;
}

/* ---- telling them apart ---- */

static int start_gzip(struct decoder *d, struct failure *f)
{
  d->gzip = malloc(sizeof *d->gzip);
  if (!d->gzip)
    return fail(f, "memory", ENOMEM, NULL);
  isal_inflate_init(d->gzip);
  d->decode = decode_gzip;
  return 0;
}

static int start_zstd(struct decoder *d, struct failure *f)
{
  d->zstd = ZSTD_createDStream();
  if (!d->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
    return fail(f, "memory", ENOMEM, NULL);
  d->decode = decode_zstd;
  return 0;
}

/* Three letters, the size of the blocks in 100 kB, and how a block or the end begins. */
static int is_bzip2(const uint8_t *head, size_t len)
{
  static const uint8_t block[] = {0x31, 0x41, 0x59, 0x26, 0x53, 0x59}, end[] = {0x17, 0x72, 0x45, 0x38, 0x50, 0x90};
  return len == MAGIC_BYTES && memcmp(head, "BZh", 3) == 0 && head[3] >= '1' && head[3] <= '9' &&
         (memcmp(head + 4, block, sizeof block) == 0 || memcmp(head + 4, end, sizeof end) == 0);
}

static int choose(struct decoder *d, struct failure *f)
{
  if (d->head_len >= 2 && d->head[0] == 0x1f && d->head[1] == 0x8b)
    return start_gzip(d, f);
  if (d->head_len >= FRAME_MAGIC_BYTES && is_zstd_frame(d->head))
    return start_zstd(d, f);
  if (d->head_len >= XZ_MAGIC_BYTES && memcmp(d->head, "\xfd" "7zXZ", XZ_MAGIC_BYTES) == 0)
    d->decode = decode_xz;
  else if (is_bzip2(d->head, d->head_len))
    d->decode = decode_bzip2;
  else
    d->decode = decode_plain;
  return 0;
}

/* Sees to it that there is a format; the bytes that decided are the decoder's. 1 when there is, 0 when more must come first. */
static int look_at_head(struct decoder *d, struct decoder_io *io, int last, struct failure *f)
{
  while (io->in_len > 0 && d->head_len < MAGIC_BYTES)
    d->head[d->head_len++] = *io->in++, io->in_len--;
  if (d->head_len < MAGIC_BYTES && !last)
    return 0;
  return choose(d, f) < 0 ? -1 : 1;
}

int decoder_run(struct decoder *d, struct decoder_io *io, int last, struct failure *f)
{
  const int known = d->decode ? 1 : look_at_head(d, io, last, f);
  if (known <= 0)
    return known;
  if (d->head_used < d->head_len) {
    struct decoder_io head = {d->head + d->head_used, d->head_len - d->head_used, io->out, io->out_len};
    if (d->decode(d, &head, f) < 0)
      return -1;
    d->head_used = d->head_len - head.in_len;
    advance(io, 0, io->out_len - head.out_len);
  }
  if (d->decode(d, io, f) < 0)
    return -1;
  const int unfinished = d->inside || d->frame_len > 0;
  return last && unfinished && io->out_len > 0 ? fail(f, "truncated", EBADMSG, NULL) : 0;
}
