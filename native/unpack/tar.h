/*
 * Reads tar: v7, ustar, GNU and PAX, sparse files in all four forms, entry by entry, without touching a file.
 *
 * The bytes come from a peek/consume pair, so that file contents are never
 * copied, and so that tests feed it from memory.
 */
#ifndef BERTH_UNPACK_TAR_H
#define BERTH_UNPACK_TAR_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tar_input {
  void *from;
  const uint8_t *(*peek)(void *from, size_t *len, struct failure *f);
  void (*consume)(void *from, size_t n);
};

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_DIR, TAR_FIFO };

/* PAX records of one entry, kept as they stand in the header. */
struct tar_xattr {
  const char *name; /* without the SCHILY.xattr. prefix, ends in NUL */
  const uint8_t *value;
  size_t len;
};

/* A piece of a sparse file that has contents; what is between them is a hole. */
struct tar_segment {
  uint64_t at, len;
};

enum { TAR_XATTRS_MAX = 128, TAR_PAX_MAX = 1024 * 1024, TAR_SEGMENTS_MAX = 1024 * 1024 };

struct tar_entry {
  enum tar_type type;
  char path[PATH_LIMIT + 1]; /* as written: may be absolute, may hold `..` */
  char link[PATH_LIMIT + 1];
  mode_t mode; /* permission bits, 07777 */
  uid_t uid;
  gid_t gid;
  uint64_t size; /* 0 for everything but files; of a sparse file with its holes */
  int sparse;    /* the contents are those of `segments`, one after the other; else all of the file's */
  const struct tar_segment *segments; /* in order, apart, and within the size; the tar's, until the next entry */
  size_t segment_count;
  int64_t mtime_seconds;
  long mtime_ns;
  unsigned major, minor;
  struct tar_xattr xattrs[TAR_XATTRS_MAX];
  size_t xattr_count;
};

struct tar {
  struct tar_input in;
  struct failure *failure;
  uint64_t data_left;
  unsigned padding;
  char *pax; /* the PAX header that the current entry's xattrs point into */
  size_t pax_len;
  struct tar_segment *segments;
  size_t segment_count, segment_slots;
};

void tar_start(struct tar *t, struct tar_input in, struct failure *failure);

/* 1: `e` is the next entry; 0: the archive is over and nothing but zeros followed; -1: see failure. */
int tar_next(struct tar *t, struct tar_entry *e);

/* The next piece of the entry's contents, without copying; `*len` 0 at its end. Take it with tar_consume. */
const uint8_t *tar_peek(struct tar *t, size_t *len);
void tar_consume(struct tar *t, size_t n);

void tar_end(struct tar *t);

#endif
