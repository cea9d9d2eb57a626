/*
 * The manifest of a layer: what its directory held when it was unpacked, so that damage is found later.
 *
 *   berth-manifest 1
 *   d <mode> <uid> <gid> <mtime> <xattrs> .
 *   f <mode> <uid> <gid> <mtime> <xattrs> <name> <size> <content> <links> <group>
 *   l <mode> <uid> <gid> <mtime> - <name> <target>
 *   c|b <mode> <uid> <gid> <mtime> - <name> <major>:<minor>
 *   p <mode> <uid> <gid> <mtime> - <name>
 *   u
 *   end <objects> <hash of all bytes before this line>
 *
 * A `d` goes into a directory and a `u` out of it; in a directory all else comes before its directories. Modes are
 * octal; times are seconds and nine digits; `xattrs` is 16 hexadecimal digits or `-`, `content` 32 (content.h). `links`
 * is the number of names; files with more than one have a group, counted from 1 in the order of the first names, or `-`
 * when it was not worth remembering. In names and targets %XX stands for blanks, `%`, and what is not printable ASCII.
 */
#ifndef BERTH_UNPACK_MANIFEST_H
#define BERTH_UNPACK_MANIFEST_H

#include "content.h"
#include "failure.h"

#include <stdint.h>
#include <sys/types.h>

/* No deeper tree is unpacked: paths end at PATH_LIMIT. */
enum { MANIFEST_DEPTH = PATH_LIMIT / 2 + 2 };

struct manifest;

/* Writes to `fd`. NULL with errno set. */
struct manifest *manifest_start(int fd);
void manifest_free(struct manifest *m);

/* The file `ino`, which has just been written, holds this. What is not known at the end is read again. */
void manifest_keep(struct manifest *m, ino_t ino, const uint8_t content[CONTENT_BYTES], uint64_t xattrs);
void manifest_forget(struct manifest *m, ino_t ino);

/* Walks the finished directory and writes the manifest. 0 or -1. */
int manifest_write(struct manifest *m, int root, struct failure *f);

/* Compares `root` with the manifest in `fd`, a regular file, and prints what differs, then a summary. 0, or -1 when it could not. */
int manifest_verify(int root, int fd, struct failure *f);

#endif
