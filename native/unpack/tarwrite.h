/*
 * Headers of tar entries: POSIX.1-1988 (ustar) as far as that goes, and a PAX header before it for what does not fit.
 * What an entry becomes depends on the entry alone.
 */
#ifndef BERTH_UNPACK_TARWRITE_H
#define BERTH_UNPACK_TARWRITE_H

#include "sink.h"

#include <sys/stat.h>

struct tar_header {
  const char *path;   /* with a slash at its end for a directory */
  const char *target; /* of a link, else NULL */
  char type;          /* the type flag of POSIX: 0 1 2 3 4 5 6 */
  mode_t mode;        /* without the type */
  uid_t uid;
  gid_t gid;
  int64_t mtime; /* seconds */
  uint64_t size;
  dev_t device;
  int xattrs_of; /* -1, or a descriptor whose user.* and security.capability go along */
};

/* Writes the headers. 0 or -1. */
int tar_write_header(struct sink *s, const struct tar_header *h, struct failure *f);
/* What follows `size` bytes of contents. */
int tar_write_padding(struct sink *s, uint64_t size, struct failure *f);
/* The end of the archive. */
int tar_write_end(struct sink *s, struct failure *f);

/* Whether an extended attribute is part of an image: others would speak to overlayfs, or to the host's policy. */
int tar_keeps_xattr(const char *name);

#endif
