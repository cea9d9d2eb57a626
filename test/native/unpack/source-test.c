/* Tests of what decompresses a layer and what reads it; run under the address and UB sanitizers. */
#define _GNU_SOURCE
#include "decode.h"
#include "source.h"

#include <bzlib.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

static int wrong; /* in the test that runs */

static void check(int ok, const char *what, const char *detail)
{
  if (ok)
    return;
  wrong++;
  printf("not ok: %s: %s\n", what, detail);
}

/* ---- streams ---- */

enum { TEXT = 90 * 1000, STREAM = 4 << 20 };

static uint8_t text[TEXT]; /* what everything below decompresses to */

struct bytes {
  size_t len;
  uint8_t data[STREAM];
};

/* Words that repeat, at distances up to the whole window, and noise that does not. */
static void make_text(void)
{
  unsigned seed = 7;
  for (size_t i = 0; i < TEXT; i++)
    text[i] = i > 40000 && rand_r(&seed) % 16 ? text[i - 30000 - i / 1000 % 7] : (uint8_t)rand_r(&seed);
}

static void append(struct bytes *to, const void *data, size_t len)
{
  memcpy(to->data + to->len, data, len);
  to->len += len;
}

static void append_member(struct bytes *to, const void *data, size_t len)
{
  struct isal_zstream z;
  isal_deflate_stateless_init(&z);
  z.gzip_flag = IGZIP_GZIP;
  z.end_of_stream = 1;
  z.next_in = (uint8_t *)(uintptr_t)data, z.avail_in = (uint32_t)len;
  z.next_out = to->data + to->len, z.avail_out = (uint32_t)(STREAM - to->len);
  if (isal_deflate_stateless(&z) != COMP_OK)
    abort();
  to->len += z.total_out;
}

/* A member whose header has everything that RFC 1952 allows. */
static void append_decorated_member(struct bytes *to, const void *data, size_t len)
{
  static const uint8_t extra[] = {3, 0, 'a', 'b', 'c', 'n', 'a', 'm', 'e', 0, 'c', 'o', 'm', 'm', 'e', 'n', 't', 0};
  struct bytes *plain = calloc(1, sizeof *plain);
  append_member(plain, data, len);
  plain->data[3] = 2 | 4 | 8 | 16;
  const uint8_t *header = to->data + to->len;
  append(to, plain->data, 10);
  append(to, extra, sizeof extra);
  const uint32_t crc = crc32_gzip_refl(0, header, 10 + sizeof extra);
  append(to, (uint8_t[]){(uint8_t)crc, (uint8_t)(crc >> 8)}, 2);
  append(to, plain->data + 10, plain->len - 10);
  free(plain);
}

static void append_frame(struct bytes *to, const void *data, size_t len, int checksum)
{
  ZSTD_CCtx *z = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, checksum);
  to->len += ZSTD_compress2(z, to->data + to->len, STREAM - to->len, data, len);
  ZSTD_freeCCtx(z);
}

static void append_skippable(struct bytes *to, unsigned kind, uint32_t len)
{
  const uint8_t header[] = {(uint8_t)(0x50 + kind), 0x2a, 0x4d, 0x18, (uint8_t)len, (uint8_t)(len >> 8), 0, 0};
  append(to, header, sizeof header);
  memset(to->data + to->len, 'x', len);
  to->len += len;
}

/* ---- the decoder ---- */

static struct failure failure;

/* Decodes `in` in pieces. Bytes written, or -1. */
static ssize_t decode(const struct bytes *in, size_t in_piece, size_t out_piece, uint8_t *out, size_t out_max)
{
  struct decoder *d = decoder_new();
  size_t at = 0, made = 0;
  memset(&failure, 0, sizeof failure);
  for (int last = 0; !last;) {
    const size_t n = in_piece < in->len - at ? in_piece : in->len - at;
    uint8_t *copy = malloc(n ? n : 1); /* so that reading past a piece is seen */
    memcpy(copy, in->data + at, n);
    struct decoder_io io = {.in = copy, .in_len = n, .out_len = 0};
    at += n;
    last = n == 0;
    while (io.out_len == 0) {
      const size_t room = out_piece < out_max - made ? out_piece : out_max - made;
      io.out = out + made, io.out_len = room;
      if (room == 0 || decoder_run(d, &io, last, &failure) < 0) {
        free(copy);
        decoder_free(d);
        return -1;
      }
      made += room - io.out_len;
    }
    check(io.in_len == 0, "with room left", "all input is used");
    free(copy);
  }
  decoder_free(d);
  return (ssize_t)made;
}

/* How much comes and goes at once; the last two are slow in ISA-L, which moves its window for every call. */
static const size_t pieces[][2] = {{65536, 65536}, {1 << 22, 1 << 20}, {977, 1000}, {1, 1 << 20}, {1 << 20, 7}};
enum { PIECES = sizeof pieces / sizeof *pieces, QUICK_PIECES = 3 };

/* `in` decodes to `want`, whatever the pieces. */
static void decodes(const struct bytes *in, const uint8_t *want, size_t want_len, const char *what)
{
  uint8_t *out = malloc(3 * TEXT);
  for (int i = 0; i < PIECES; i++) {
    char detail[64];
    const ssize_t n = decode(in, pieces[i][0], pieces[i][1], out, 3 * TEXT);
    snprintf(detail, sizeof detail, "in %zu, out %zu: %zd, %s", pieces[i][0], pieces[i][1], n,
             failure.step ? failure.step : "");
    check(n == (ssize_t)want_len && memcmp(out, want, want_len) == 0, what, detail);
  }
  free(out);
}

/* `in` is refused at `step`. */
static void refuses(const struct bytes *in, const char *step, const char *what)
{
  uint8_t *out = malloc(3 * TEXT);
  for (int i = 0; i < QUICK_PIECES; i++) {
    const ssize_t n = decode(in, pieces[i][0], pieces[i][1], out, 3 * TEXT);
    check(n == -1 && failure.step && strcmp(failure.step, step) == 0, what, failure.step ? failure.step : "accepted");
  }
  free(out);
}

static struct bytes *new_bytes(void)
{
  return calloc(1, sizeof(struct bytes));
}

static void test_plain(void)
{
  struct bytes *b = new_bytes();
  decodes(b, text, 0, "nothing");
  for (size_t len = 1; len < 8; len++) {
    b->len = 0;
    append(b, "plain text", len);
    decodes(b, b->data, len, "a few plain bytes");
  }
  b->len = 0;
  append(b, text, TEXT);
  decodes(b, text, TEXT, "plain");
  memcpy(b->data, "BZh91AY&S.", 10);
  decodes(b, b->data, TEXT, "nearly bzip2");
  free(b);
}

static void append_xz(struct bytes *b, const uint8_t *data, size_t len)
{
  size_t at = b->len;
  if (lzma_easy_buffer_encode(3, LZMA_CHECK_CRC64, NULL, data, len, b->data, &at, sizeof b->data) != LZMA_OK)
    abort();
  b->len = at;
}

static void append_bzip2(struct bytes *b, const uint8_t *data, size_t len)
{
  unsigned room = (unsigned)(sizeof b->data - b->len);
  if (BZ2_bzBuffToBuffCompress((char *)b->data + b->len, &room, (char *)(uintptr_t)data, (unsigned)len, 1, 0, 0) != BZ_OK)
    abort();
  b->len += room;
}

static void test_streams(const char *format, void (*append_stream)(struct bytes *, const uint8_t *, size_t))
{
  struct bytes *b = new_bytes();
  append_stream(b, text, TEXT);
  decodes(b, text, TEXT, format);
  const size_t whole = b->len;
  b->len = whole - 5;
  refuses(b, "truncated", format);
  b->len = whole;
  b->data[whole / 2] ^= 0x10;
  refuses(b, format, "damaged in the middle");
  b->data[whole / 2] ^= 0x10;
  append_stream(b, text, TEXT);
  uint8_t *twice = malloc(2 * TEXT);
  memcpy(twice, text, TEXT);
  memcpy(twice + TEXT, text, TEXT);
  decodes(b, twice, 2 * TEXT, "two streams");
  free(twice);
  append(b, "something else", 14);
  refuses(b, format, "something else behind it");
  b->len = 0;
  append_stream(b, text, 0);
  decodes(b, text, 0, "a stream of nothing");
  free(b);
}

/* Zeros may follow; what needs too much memory is refused before any is taken. */
static void test_xz(void)
{
  test_streams("xz", append_xz);
  struct bytes *b = new_bytes();
  append_xz(b, text, TEXT);
  append(b, "\0\0\0\0", 4);
  decodes(b, text, TEXT, "xz with padding");
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 0);
  options.dict_size = 512u << 20;
  lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
  b->len = 0;
  /* An encoder of so large a window takes gigabytes: the block's header is written for it, the data is not. */
  lzma_stream_flags flags = {.version = 0, .check = LZMA_CHECK_CRC32};
  lzma_block block = {.version = 0, .check = LZMA_CHECK_CRC32, .compressed_size = LZMA_VLI_UNKNOWN,
                      .uncompressed_size = LZMA_VLI_UNKNOWN, .filters = filters};
  if (lzma_stream_header_encode(&flags, b->data) != LZMA_OK || lzma_block_header_size(&block) != LZMA_OK ||
      lzma_block_header_encode(&block, b->data + LZMA_STREAM_HEADER_SIZE) != LZMA_OK)
    abort();
  b->len = LZMA_STREAM_HEADER_SIZE + block.header_size;
  refuses(b, "xz-memory", "a window of 512 MiB");
  free(b);
}

static void test_bzip2(void)
{
  test_streams("bzip2", append_bzip2);
}

static void test_gzip(void)
{
  struct bytes *b = new_bytes();
  append_member(b, text, TEXT);
  decodes(b, text, TEXT, "gzip");
  const size_t whole = b->len;
  for (size_t cut = 1; cut < 40; cut++) {
    b->len = cut < 20 ? whole - cut : cut - 18;
    refuses(b, "truncated", "gzip that ends early");
  }
  b->len = whole;
  for (size_t at = whole - 8; at < whole; at++) {
    b->data[at] ^= 0x10;
    refuses(b, "gzip", at < whole - 4 ? "a wrong checksum" : "a wrong length");
    b->data[at] ^= 0x10;
  }
  b->data[2] = 7;
  refuses(b, "gzip", "a method that is not deflate");
  b->data[2] = 8;
  append(b, "garbage", 7);
  refuses(b, "gzip", "garbage after gzip");
  b->len = whole;
  append(b, "\0\0\0", 3);
  refuses(b, "gzip", "zeros after gzip");
  b->len = 0;
  append_member(b, text, 0);
  decodes(b, text, 0, "gzip of nothing");
  free(b);
}

static void test_members(void)
{
  struct bytes *b = new_bytes();
  append_member(b, text, 50000);
  const size_t first = b->len;
  append_member(b, text, 0);
  append_decorated_member(b, text + 50000, 1);
  append_decorated_member(b, text + 50001, TEXT - 50001);
  decodes(b, text, TEXT, "four members, two with names and comments");
  b->data[first - 8] ^= 1;
  refuses(b, "gzip", "a wrong checksum in the first member");
  b->data[first - 8] ^= 1;
  b->data[first - 1] ^= 1;
  refuses(b, "gzip", "a wrong length in the first member");
  b->data[first - 1] ^= 1;
  for (size_t extra = 1; extra < 18; extra++) {
    b->len = first + extra;
    refuses(b, "truncated", "a second member that ends early");
  }
  b->len = first;
  append(b, (uint8_t[]){0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3}, 10);
  memset(b->data + b->len, 'n', 300 * 1024);
  b->len += 300 * 1024;
  refuses(b, "gzip", "a name of 300 KiB");
  b->len = first + 10;
  b->data[first + 3] = 0x80;
  refuses(b, "gzip", "a flag that nobody has defined");
  free(b);
}

static void test_zstd(void)
{
  struct bytes *b = new_bytes();
  append_frame(b, text, TEXT, 1);
  decodes(b, text, TEXT, "zstd");
  const size_t whole = b->len;
  for (size_t cut = 1; cut < 40; cut++) {
    b->len = cut < 20 ? whole - cut : cut - 16;
    refuses(b, "truncated", "zstd that ends early");
  }
  b->len = whole;
  b->data[whole - 1] ^= 1;
  refuses(b, "zstd", "a wrong checksum");
  b->data[whole - 1] ^= 1;
  append(b, "garbage", 7);
  refuses(b, "zstd", "garbage after zstd");
  b->len = whole;
  append(b, "\x28\xb5", 2);
  refuses(b, "truncated", "half a magic number");
  b->len = whole;
  append(b, "\x25\xb5\x2f\xfd\0\0\0\0\0", 9);
  refuses(b, "zstd", "a frame in a format from before zstd 1.0");
  free(b);
}

static void test_frames(void)
{
  struct bytes *b = new_bytes();
  append_skippable(b, 0, 100);
  append_frame(b, text, 50000, 0);
  append_skippable(b, 15, 0);
  append_frame(b, text, 0, 1);
  append_frame(b, text + 50000, TEXT - 50000, 1);
  append_skippable(b, 7, 3000);
  decodes(b, text, TEXT, "frames and skippable frames");
  b->len -= 1;
  refuses(b, "truncated", "a skippable frame that ends early");
  free(b);
}

/* A frame that asks for a window of 2^log bytes and has one raw block of five. */
static void append_window(struct bytes *to, int log)
{
  const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0, (uint8_t)((log - 10) << 3), 5 << 3 | 1, 0, 0};
  append(to, frame, sizeof frame);
  append(to, "hello", 5);
}

static void test_windows(void)
{
  struct bytes *b = new_bytes();
  append_window(b, 27);
  decodes(b, (const uint8_t *)"hello", 5, "the largest window");
  for (int log = 28; log <= 41; log++) {
    b->len = 0;
    append_window(b, log);
    refuses(b, "zstd-window", "a window that is too large");
  }
  free(b);
}

/* Whatever the bytes, nothing may crash or go on for ever. */
static void test_damage(void)
{
  struct bytes *gzip = new_bytes(), *zstd = new_bytes(), *b = new_bytes();
  uint8_t *out = malloc(3 * TEXT);
  unsigned seed = 1;
  append_member(gzip, text, 20000);
  append_decorated_member(gzip, text, 20000);
  append_frame(zstd, text, 20000, 1);
  append_skippable(zstd, 1, 10);
  append_frame(zstd, text, 20000, 0);
  for (int round = 0; round < 2000; round++) {
    const struct bytes *from = round % 2 ? gzip : zstd;
    b->len = 0;
    append(b, from->data, from->len);
    for (int i = 0; i < 3; i++)
      b->data[(size_t)rand_r(&seed) % (round % 4 < 2 ? 64 : b->len)] = (uint8_t)rand_r(&seed);
    decode(b, 500 + (size_t)rand_r(&seed) % 30000, 500 + (size_t)rand_r(&seed) % 30000, out, 3 * TEXT);
  }
  check(1, "damaged streams", "");
  free(out), free(gzip), free(zstd), free(b);
}

/* ---- the source ---- */

static int file_with(const void *data, size_t len)
{
  int fd = memfd_create("berth-test", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, len) != (ssize_t)len)
    abort();
  lseek(fd, 0, SEEK_SET);
  return fd;
}

static struct source_totals totals;
static uint64_t told;

static void remember(uint64_t bytes)
{
  told = bytes;
}

/* Reads the whole source; bytes that came out, or -1. */
static ssize_t read_source(struct source_options o, const uint8_t *want)
{
  memset(&failure, 0, sizeof failure);
  o.progress = remember;
  struct source *s = source_start(&o);
  size_t len, done = 0, piece = 0;
  const uint8_t *p;
  if (!s)
    abort();
  while ((p = source_peek(s, &len, &failure)) && len > 0) {
    piece = piece * 3 % 5003 + 1; /* taken as a reader of headers would */
    if (len > piece)
      len = piece;
    if (memcmp(p, want + done, len) != 0)
      check(0, "a source", "other bytes");
    done += len;
    source_consume(s, len);
  }
  if (p)
    source_totals(s, &totals);
  source_free(s);
  return p ? (ssize_t)done : -1;
}

static void digest_of(const void *data, size_t len, enum hash_name name, char out[DIGEST_TEXT])
{
  struct hash h;
  hash_start(&h, name);
  hash_update(&h, data, len);
  hash_finish(&h, out);
}

/* Some bytes kept from before, the rest comes: the same digests, and afterwards all is kept. */
static void test_resume(const struct bytes *b, enum hash_name name, size_t kept)
{
  char digest[DIGEST_TEXT], diff_id[DIGEST_TEXT], detail[40];
  int blob = file_with(b->data, kept), fd = file_with(b->data + kept, b->len - kept);
  digest_of(b->data, b->len, name, digest);
  digest_of(text, TEXT, name, diff_id);
  snprintf(detail, sizeof detail, "%zu of %zu bytes kept", kept, b->len);
  const struct source_options o = {
      .fd = fd, .kept = blob, .bytes = b->len, .max_bytes = TEXT, .digest = name, .diff_id = name};
  check(read_source(o, text) == TEXT && strcmp(totals.digest, digest) == 0 && strcmp(totals.diff_id, diff_id) == 0 &&
            totals.bytes == TEXT && totals.compressed_bytes == b->len && told > 0 && told <= b->len,
        "resuming", detail);
  uint8_t *all = malloc(b->len + 1);
  check(pread(blob, all, b->len + 1, 0) == (ssize_t)b->len && memcmp(all, b->data, b->len) == 0, "the kept file", detail);
  free(all);
  close(blob);
  close(fd);
}

static void test_sizes(const struct bytes *b)
{
  struct source_options o = {.fd = file_with(b->data, b->len), .kept = -1, .bytes = b->len, .max_bytes = TEXT};
  check(read_source(o, text) == TEXT, "the right size", "");
  lseek(o.fd, 0, SEEK_SET);
  o.bytes = b->len + 1;
  char got[24];
  snprintf(got, sizeof got, "%zu", b->len);
  check(read_source(o, text) == -1 && strcmp(failure.step, "too-short") == 0 && strcmp(failure.path, got) == 0,
        "one byte too few", failure.path);
  lseek(o.fd, 0, SEEK_SET);
  o.bytes = b->len - 1;
  o.kept = file_with("", 0);
  check(read_source(o, text) == -1 && strcmp(failure.step, "too-long") == 0, "one byte too many", failure.step);
  check(lseek(o.kept, 0, SEEK_END) <= (off_t)o.bytes, "one byte too many", "is not kept");
  close(o.kept);
  o.kept = file_with(b->data, b->len);
  check(read_source(o, text) == -1 && strcmp(failure.step, "too-long") == 0, "too much is kept", failure.step);
  close(o.kept);
  lseek(o.fd, 0, SEEK_SET);
  o.kept = -1, o.bytes = b->len, o.max_bytes = TEXT - 1;
  check(read_source(o, text) == -1 && strcmp(failure.step, "too-large") == 0, "more than may come out", failure.step);
  close(o.fd);
  o.max_bytes = TEXT;
  check(read_source(o, text) == -1 && strcmp(failure.step, "read") == 0 && failure.err == EBADF, "no such descriptor", "");
}

/* A pipe whose reading end does not block, as the daemon makes them, and a writer that dawdles. */
static void test_pipe(const struct bytes *b)
{
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0)
    abort();
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  const pid_t writer = fork();
  if (writer == 0) {
    for (size_t at = 0; at < b->len; at += 10000) {
      usleep(1000);
      if (write(ends[1], b->data + at, b->len - at < 10000 ? b->len - at : 10000) < 0)
        _exit(1);
    }
    _exit(0);
  }
  close(ends[1]);
  check(read_source((struct source_options){.fd = ends[0], .kept = -1, .bytes = b->len, .max_bytes = TEXT}, text) == TEXT,
        "a slow pipe", failure.step ? failure.step : "");
  close(ends[0]);
}

/* Whoever wants no more leaves while the threads are at work. */
static void test_leaving(const struct bytes *b)
{
  struct source_options o = {.fd = file_with(b->data, b->len), .kept = -1, .bytes = b->len, .max_bytes = 1 << 30};
  for (int i = 0; i < 20; i++) {
    size_t len;
    lseek(o.fd, 0, SEEK_SET);
    struct source *s = source_start(&o);
    if (i % 2)
      source_peek(s, &len, &failure);
    source_free(s);
  }
  check(1, "leaving early", "");
  close(o.fd);
}

enum { QUICK = 6 << 20 }; /* more than may have come before there was a clock */

/* What comes by a pipe, of which all is wanted again or not. Bytes that the file has in the end. */
static off_t kept_of_quick(unsigned forget_ms, int wanted)
{
  uint8_t *all = calloc(1, QUICK);
  int ends[2], blob = file_with("", 0);
  if (pipe2(ends, O_CLOEXEC) < 0)
    abort();
  const struct source_options o = {
      .fd = ends[0], .kept = blob, .forget_ms = forget_ms, .bytes = QUICK, .max_bytes = QUICK};
  struct source *s = source_start(&o);
  if (!s)
    abort();
  if (wanted)
    source_keep(s);
  const pid_t writer = fork();
  if (writer == 0) {
    for (size_t at = 0; at < QUICK; at += 1 << 20)
      if (write(ends[1], all + at, 1 << 20) < 0)
        _exit(1);
    _exit(0);
  }
  close(ends[1]);
  size_t len, done = 0;
  for (; source_peek(s, &len, &failure) && len > 0; done += len)
    source_consume(s, len);
  source_totals(s, &totals);
  check(done == QUICK && totals.compressed_bytes == QUICK, "a quick stream", "comes whole, kept or not");
  source_free(s);
  waitpid(writer, NULL, 0);
  const off_t kept = lseek(blob, 0, SEEK_END);
  close(ends[0]), close(blob), free(all);
  return kept;
}

static void test_quick(void)
{
  check(kept_of_quick(3600 * 1000, 0) == 0, "a quick stream", "is forgotten");
  check(kept_of_quick(3600 * 1000, 1) == QUICK, "a quick stream", "is kept where it is wanted again");
  check(kept_of_quick(0, 0) == QUICK, "a quick stream", "is kept where nothing is to be forgotten");
}

static void test_sources(void)
{
  struct bytes *kinds[] = {new_bytes(), new_bytes(), new_bytes()};
  append(kinds[0], text, TEXT);
  append_member(kinds[1], text, 1000);
  append_member(kinds[1], text + 1000, TEXT - 1000);
  append_frame(kinds[2], text, TEXT, 1);
  for (int i = 0; i < 3; i++) {
    const size_t len = kinds[i]->len, offsets[] = {0, 1, 5, len / 2, len - 1, len};
    for (size_t at = 0; at < sizeof offsets / sizeof *offsets; at++)
      test_resume(kinds[i], at % 2 ? HASH_SHA512 : HASH_SHA256, offsets[at]);
    test_sizes(kinds[i]);
    test_pipe(kinds[i]);
  }
  struct bytes *zeros = new_bytes();
  uint8_t *nothing = calloc(1, 64 << 20);
  append_member(zeros, nothing, 64 << 20);
  test_leaving(zeros);
  test_quick();
  free(nothing), free(zeros), free(kinds[0]), free(kinds[1]), free(kinds[2]);
}

int main(void)
{
  static void (*const tests[])(void) = {test_plain, test_gzip, test_members, test_xz, test_bzip2, test_zstd, test_frames, test_windows, test_damage, test_sources};
  int passed = 0, failed = 0;
  make_text();
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
    wrong = 0;
    tests[i]();
    *(wrong ? &failed : &passed) += 1;
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
