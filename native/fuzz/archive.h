/* A tar reader over bytes in memory. */
#ifndef BERTH_FUZZ_ARCHIVE_H
#define BERTH_FUZZ_ARCHIVE_H

#include "../unpack/tar.h"

struct archive {
  const uint8_t *at;
  size_t left;
  size_t piece; /* how much a peek shows at most */
};

struct tar_input archive_input(struct archive *a);

/* A copy in which every block that says ustar has the checksum of a header; free() it. */
uint8_t *with_checksums(const uint8_t *bytes, size_t size);

#endif
