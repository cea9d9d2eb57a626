/* A container's upper directory, or any other, becomes a layer: its tar, and the manifest beside its files. */
#ifndef BERTH_UNPACK_PACK_H
#define BERTH_UNPACK_PACK_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

struct pack {
  int root;                /* the directory; its files stay where they are */
  int blob, manifest;      /* files to write; manifest may be -1 */
  int plain;               /* no gzip */
  int has_epoch;
  int64_t epoch;           /* nothing is younger, in the tar, and in the directory unless it is only read */
  int is_read_only;
  const int *lowers;       /* the layers below, top first: only for `stubs` */
  size_t lower_count;
  const char *const *stubs; /* where something was mounted: an empty file or directory there is not the layer's */
  size_t stub_count;
};

/* Confined already. Prints a summary. 0 or -1. */
int pack_layer(const struct pack *p, struct failure *f);

#endif
