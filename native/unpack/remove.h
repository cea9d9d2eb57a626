#ifndef BERTH_UNPACK_REMOVE_H
#define BERTH_UNPACK_REMOVE_H

#include "failure.h"

/*
 * Removes what `path` is, with all that is below it; nothing there is no failure. A directory is emptied by a child that
 * sees nothing but that directory, and removed by this process. What is mounted below is not touched, and a failure
 * (EBUSY). 0 or -1; when the child failed it has said so on stderr, and this process ends with its status.
 */
int remove_all(const char *path, struct failure *f);

#endif
