/* The tar reader: what it hands out is what tar.h promises, and the same however the bytes come. */
#include "archive.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct result {
  uint64_t entries, hash;
  const char *step;
};

static void check_segments(const struct tar_entry *e)
{
  uint64_t end = 0;
  MUST(e->sparse || e->segment_count == 0);
  for (size_t i = 0; i < e->segment_count; i++) {
    MUST(e->segments[i].at >= end && e->segments[i].at <= e->size && e->segments[i].len <= e->size - e->segments[i].at);
    end = e->segments[i].at + e->segments[i].len;
  }
}

static void check_entry(const struct tar_entry *e)
{
  MUST(memchr(e->path, 0, sizeof e->path) && memchr(e->link, 0, sizeof e->link));
  MUST((e->mode & ~07777u) == 0 && e->uid != UINT32_MAX && e->gid != UINT32_MAX);
  MUST(e->type == TAR_FILE || e->size == 0);
  MUST(e->size <= INT64_MAX && e->mtime_ns >= 0 && e->mtime_ns < 1000000000);
  MUST(e->major <= 0xfffff && e->minor <= 0xfffff && e->xattr_count <= TAR_XATTRS_MAX);
  check_segments(e);
}

static uint64_t hash_entry(const struct tar_entry *e, uint64_t hash)
{
  const uint64_t numbers[] = {e->type, e->mode, e->uid,   e->gid,   e->size,        (uint64_t)e->sparse, (uint64_t)e->mtime_seconds,
                              (uint64_t)e->mtime_ns, e->major, e->minor, e->segment_count, e->xattr_count};
  hash = XXH64(numbers, sizeof numbers, hash);
  hash = XXH64(e->path, strlen(e->path), hash);
  hash = XXH64(e->link, strlen(e->link), hash);
  for (size_t i = 0; i < e->xattr_count; i++)
    hash = XXH64(e->xattrs[i].value, e->xattrs[i].len, XXH64(e->xattrs[i].name, strlen(e->xattrs[i].name), hash));
  if (e->segment_count > 0)
    hash = XXH64(e->segments, e->segment_count * sizeof *e->segments, hash);
  return hash;
}

/* Every second entry's contents are left for the reader to skip. -1 when they are not all there. */
static int read_contents(struct tar *t, const struct tar_entry *e)
{
  uint64_t want = e->sparse ? 0 : e->size, got = 0;
  for (size_t i = 0; i < e->segment_count; i++)
    want += e->segments[i].len;
  for (;;) {
    size_t len;
    const uint8_t *p = tar_peek(t, &len);
    if (!p)
      return -1;
    if (len == 0)
      break;
    tar_consume(t, len);
    got += len;
  }
  MUST(got == want);
  return 0;
}

static struct result read_all(const uint8_t *data, size_t size, size_t piece)
{
  static struct tar_entry entry;
  struct archive archive = {data, size, piece};
  struct result r = {0};
  struct failure f = {0};
  struct tar t;
  int more;
  tar_start(&t, archive_input(&archive), &f);
  while ((more = tar_next(&t, &entry)) == 1) {
    check_entry(&entry);
    r.hash = hash_entry(&entry, r.hash);
    if (r.entries++ % 2 == 0 && (more = read_contents(&t, &entry)) < 0)
      break;
  }
  MUST(more == 0 || f.step);
  r.step = more < 0 ? f.step : NULL;
  tar_end(&t);
  return r;
}

static void read_both_ways(const uint8_t *data, size_t size)
{
  const struct result whole = read_all(data, size, SIZE_MAX), pieces = read_all(data, size, 1 + size % 701);
  MUST(whole.entries == pieces.entries && whole.hash == pieces.hash);
  MUST(!whole.step == !pieces.step && (!whole.step || strcmp(whole.step, pieces.step) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  uint8_t *copy = with_checksums(data, size);
  read_both_ways(data, size);
  read_both_ways(copy, size);
  free(copy);
  return 0;
}
