/*
 * Paths below a root that may be hostile: an image's file system. Nothing here
 * leaves the root, whatever links stand in it (openat2 RESOLVE_IN_ROOT), and no
 * path string is used after the root has been opened except through these.
 */
#ifndef BERTH_ROOTED_H
#define BERTH_ROOTED_H

#include <stdint.h>
#include <sys/types.h>

enum rooted_kind { ROOTED_DIRECTORY, ROOTED_FILE };

/* Opens what is there; links are followed inside the root. `flags` as for open(2); O_CLOEXEC is added. */
int rooted_open(int root, const char *path, uint64_t flags);

/* Like rooted_open with O_PATH, but a symbolic link anywhere in the path is ELOOP. */
int rooted_open_nolinks(int root, const char *path);

/*
 * An O_PATH descriptor of `path`, which is made, with its parents (mode 0755),
 * when missing. A dangling link is followed inside the root to where it points.
 */
int rooted_make(int root, const char *path, enum rooted_kind kind, mode_t mode);

/* The directory that holds `path`, made when missing, as an O_PATH descriptor; `name` points at the last component. */
int rooted_parent(int root, const char *path, const char **name);

#endif
