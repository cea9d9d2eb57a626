/*
 * Writes tar entries below a directory, as one layer of an overlay.
 *
 * No path of an archive is ever handed to the kernel as a whole, but for
 * openat2 with RESOLVE_IN_ROOT; everything else works on one name in a directory
 * that is held open, and never follows a link there.
 *
 * Alone, a layer is written as if nothing were below it, and `implied` and
 * `links_below` say whether that was right. With `lowers` the directories of the
 * layers below are consulted: directories that the archive only implies get the
 * attributes they have there, and targets of hard links are copied up.
 */
#ifndef BERTH_UNPACK_TREE_H
#define BERTH_UNPACK_TREE_H

#include "failure.h"
#include "manifest.h"
#include "tar.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct dir_time {
  size_t path; /* offset in dir_paths */
  struct timespec mtime;
};

struct tree {
  int root;
  const int *lowers; /* directories of the layers below, top first */
  size_t lower_count;
  int is_base; /* nothing is below: a link target that is missing is an error */
  struct failure *failure;

  /* what the layer turned out to be */
  uint64_t entries, disk_bytes, inodes;
  int links_below;
  int opaque_root;
  size_t implied; /* directories no entry has described yet */

  /* private */
  struct manifest *manifest; /* NULL: none is kept */
  struct content_hash *hash;
  char parent_path[PATH_LIMIT + 1];
  int parent; /* of parent_path, or -1 */
  int parent_stale;
  ino_t *implied_set;
  size_t implied_slots, implied_used;
  struct dir_time *dir_times;
  size_t dir_time_count, dir_time_slots;
  char *dir_paths;
  size_t dir_paths_len, dir_paths_size;
};

/* DEPTH_MAX: of directories below the root. Whoever walks a tree holds a descriptor for each level. */
enum { ENTRIES_MAX = 10 * 1000 * 1000, DEPTH_MAX = 512, DIR_PATHS_MAX = 256 * 1024 * 1024 };

/* `root` must be empty; it becomes 0755 root:root unless the archive says otherwise. The fds stay the caller's. */
int tree_start(struct tree *t, int root, const int *lowers, size_t lower_count, int is_base, struct failure *failure);

/* Applies one entry; takes its contents from `tar`. 0 or -1. Stops early with links_below set. */
int tree_apply(struct tree *t, struct tar *tar, const struct tar_entry *e);

/* Before the first entry: tree_finish is to write the layer's manifest to `fd`. 0 or -1. */
int tree_keep_manifest(struct tree *t, int fd);

/* Sets the directories' times, which writing into them has changed, and writes the manifest. */
int tree_finish(struct tree *t);

void tree_end(struct tree *t);

/* Removes what `name` in `dir` is, with all that is below it. 0, also when it is not there, or -1 and errno. */
int remove_tree(int dir, const char *name);

/* ---- between the files of this program ---- */

/* `in` without empty and `.` components and with `..` applied, no slash at either end; -1 if it leaves the root. */
int clean_path(const char *in, char out[PATH_LIMIT + 1]);

/* The directory that holds `path` (clean), made if it is missing; *name is the last component. An fd of the tree's, or -1. */
int tree_parent(struct tree *t, const char *path, const char **name);
/* The same, but never makes anything: -1 with errno, and no failure is recorded. The caller closes it. */
int tree_find_parent(struct tree *t, const char *path, const char **name);
void tree_forget_parent(struct tree *t);

int tree_remember_time(struct tree *t, const char *path, struct timespec mtime);
void tree_described(struct tree *t, ino_t directory);

/*
 * What the layers below show at `path` (clean): an fd of the directory that holds it, -1 with errno ENOENT when
 * nothing is there or a layer hides it. The caller closes it.
 */
int lower_find(const struct tree *t, const char *path, struct stat *st);
/* Gives the directory `fd` (new, at `path`) what the same directory has in the layers below. 1 if there is one, 0, or -1. */
int lower_adopt(struct tree *t, const char *path, int fd);
/* Copies what the layers below show at `path` to the same place in the tree. 1, 0 if there is nothing, or -1. */
int lower_copy_up(struct tree *t, const char *path);

int is_whiteout(const struct stat *st);
/* Sets trusted.overlay.opaque on a directory. 0, or -1 and errno. */
int make_opaque(int dir);
int is_opaque(int dir);

#endif
