/* Says what is in a directory: names, attributes, and on request the digests of what files hold. */
#ifndef BERTH_UNPACK_SCAN_H
#define BERTH_UNPACK_SCAN_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct scan {
  int root;
  const char *const *paths; /* links in them are followed within the root */
  size_t path_count;
  int shallow; /* the paths alone, not what is below */
  int hash;
  uint64_t most; /* names in all; more is a failure, `entries` */
};

/*
 * Confined already. For each path a line `at <path>`, or `missing <path>`, and for it and all that is below a line
 *
 *   <type> <mode> <uid> <gid> <mtime> <size> <inode> <links> <device> <xattrs> <sha256> <name> [<target>]
 *
 * type: f d l c b p s; mode: octal; mtime: seconds.nanoseconds; device: major:minor; xattrs: 16 hexadecimal digits;
 * sha256 of a file or `-`; name: below the path, `.` for itself; target of a link. Names are words (print_as_word).
 * 0 or -1.
 */
int scan_paths(const struct scan *s, struct failure *f);

/* The lines of one path: what they begin with, and one of what is there. `name` empty: itself; `target` NULL: no link. */
void scan_head(const char *word, const char *path);
void scan_line(const struct stat *st, uint64_t xattrs, const char *digest, const char *name, const char *target);

#endif
