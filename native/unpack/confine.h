/* Taking away from this process what reading hostile bytes does not need. */
#ifndef BERTH_UNPACK_CONFINE_H
#define BERTH_UNPACK_CONFINE_H

#include "failure.h"

/*
 * Limits on memory and core dumps, no_new_privs, all but seven capabilities
 * gone, and a seccomp filter without sockets, exec, mounts and the like. Call
 * it before the first byte is read and before any thread is started. 0 or -1.
 */
int confine(struct failure *f);

#endif
