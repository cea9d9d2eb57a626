/* overlayfs over directories, mounted nowhere: it goes with the process. */
#ifndef BERTH_UNPACK_OVERLAY_H
#define BERTH_UNPACK_OVERLAY_H

#include "failure.h"

#include <stddef.h>

struct overlay {
  const char *const *lowers; /* top first; at least two where nothing is written */
  size_t lower_count;
  const char *upper, *work; /* NULL: nothing is written */
};

/* A descriptor of its root directory: no set-id programs, no devices, nothing to execute. -1. */
int overlay_mount(const struct overlay *o, struct failure *f);

#endif
