/*
 * Taking away from this process what reading hostile bytes does not need.
 *
 * Four walls, each of which stands when another falls: its file system is the directory it works on (mounts of its own,
 * and chroot), Landlock lets it open nothing else and use no network, seccomp knows only the system calls of its role,
 * and of root's capabilities it has a few. native/README.md has the contract.
 */
#ifndef BERTH_UNPACK_CONFINE_H
#define BERTH_UNPACK_CONFINE_H

#include "failure.h"

#include <stddef.h>

/* What the process is for; a bit each. */
enum role {
  ROLE_UNPACK = 1, /* writes files below its directory, reads the layers below */
  ROLE_VERIFY = 2, /* reads its directory */
  ROLE_REMOVE = 4, /* lists and deletes what is in its directory */
  ROLE_PACK = 8,   /* reads its directory, sets times in it, and takes mount points away; reads the layers below */
  ROLE_SCAN = 16,  /* reads its directory */
  ROLE_COPY = 32,  /* reads one directory, writes files below another */
};

struct confinement {
  enum role role;
  int *root;         /* the directory to work on; becomes another descriptor of the same directory */
  int *lowers;       /* directories that are only read; so do these */
  size_t lower_count;
  int files[2];      /* descriptors that stay open beside 0 to 2; -1: none */
  /*
   * NULL: `root` and `lowers` are open, and get mounts of their own. Else this makes mounts that are attached nowhere and
   * sets `root` and `lowers` to their directories, once all other descriptors are closed. 0 or -1.
   */
  int (*make_mounts)(const struct confinement *c, struct failure *f);
  const void *with; /* for make_mounts */
};

/*
 * Call it as root before the first hostile byte is read and before any thread is started. After it the root directory
 * and working directory are `*c->root`, and no other descriptor is open but those that `c` names. 0 or -1.
 */
int confine(const struct confinement *c, struct failure *f);

/* ---- the walls one by one, for confine() and its tests ---- */

/* Sets memory, core dumps, descriptors, umask. */
int confine_limits(struct failure *f);
/* Closes all descriptors above 2 that `c` does not name. */
int confine_descriptors(const struct confinement *c, struct failure *f);
/* Gives every directory of `c` a mount of its own, out of which no `..` leads, and makes c->root the root. */
int confine_mounts(const struct confinement *c, struct failure *f);
/* Gives the directory `*fd` a mount of its own, read-only where asked; *fd becomes another descriptor of it. 0 or -1. */
int confine_directory(int *fd, int readonly);
/* Landlock; does nothing on a kernel that has none, or one too old to allow hard links (before 5.19). */
int confine_landlock(const struct confinement *c, struct failure *f);
/* Keeps the role's capabilities, for good: no_new_privs. */
int confine_capabilities(enum role role, struct failure *f);
/* An allow list: EPERM for what the role does not need, SIGSYS for what only an attacker tries. */
int confine_syscalls(enum role role, struct failure *f);

#endif
