/* The threads before the tar reader. The first byte of the input says how much of the rest is kept, and what is announced. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "../unpack/source.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BYTES = 1 << 20 };

/* An unnamed file that holds the first bytes, as after a cut download. */
static int kept_of(const uint8_t *data, size_t size)
{
  const int fd = memfd_create("kept", MFD_CLOEXEC);
  MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
  return fd;
}

/* Takes all that comes, in bites of another size than the chunks. 0 at the end, -1 and a failure. */
static int drain(struct source *s, uint64_t *bytes, struct failure *f)
{
  for (;;) {
    size_t len;
    const uint8_t *p = source_peek(s, &len, f);
    if (!p || len == 0)
      return p ? 0 : -1;
    const size_t n = len > 5000 ? 5000 : len;
    source_consume(s, n);
    *bytes += n;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct failure f = {0};
  struct source_totals totals;
  uint64_t bytes = 0;
  if (size == 0)
    return 0;
  const unsigned how = data[0];
  data++, size--;
  const size_t kept = how & 1 ? size / 3 : 0;
  const int kept_fd = how & 1 ? kept_of(data, kept) : -1;
  const uint64_t announced = how & 2 ? size : how & 4 ? size + 1 : size / 2;
  struct source *s = source_start(&(struct source_options){
      .fd = file_of(data + kept, size - kept), .kept = kept_fd, .bytes = announced, .max_bytes = MAX_BYTES});
  MUST(s);
  const int result = drain(s, &bytes, &f);
  MUST(result == 0 || f.step);
  MUST(bytes <= MAX_BYTES);
  if (result == 0) {
    source_totals(s, &totals);
    MUST(announced == size && totals.compressed_bytes == size && totals.bytes == bytes);
    if (kept_fd >= 0)
      MUST(lseek(kept_fd, 0, SEEK_END) == (off_t)size);
  }
  source_free(s);
  if (kept_fd >= 0)
    close(kept_fd);
  return 0;
}
