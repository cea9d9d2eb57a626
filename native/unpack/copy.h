/*
 * Copies files from one directory to another, by a list that was made elsewhere. It is a file of texts, each with its
 * NUL; an operation is a letter and its fields:
 *
 *   o user group                          owner of what follows and names none: names or numbers, looked up in the target
 *   d path mode uid gid mtime from        a directory, unless there is one already
 *   f path mode uid gid mtime from        a file, with what `from` in the source holds
 *   l path target uid gid mtime           a symbolic link
 *   h path existing                       one more name of a file that this list has made
 *   n path mode uid gid mtime major:minor a device or FIFO; its mode has the type
 *
 * Modes are octal. uid and gid are both empty for the owner of `o`; mtime, `seconds.nanoseconds`, may be empty for now. Extended
 * attributes come from `from`, which may be empty for a directory. Links on the way to a path are followed within the
 * target; what is there under its last name is replaced, unless it is a directory.
 */
#ifndef BERTH_UNPACK_COPY_H
#define BERTH_UNPACK_COPY_H

#include "failure.h"

struct copy {
  int source, target; /* directories; source may be -1 when no operation has a `from` */
  int list;           /* the file of operations */
};

/* Confined already. 0 or -1. */
int copy_files(const struct copy *c, struct failure *f);

#endif
