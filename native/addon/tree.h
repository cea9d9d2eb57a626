/* What a directory and all below it take on the disk. */
#ifndef BERTH_TREE_H
#define BERTH_TREE_H

#include <stdint.h>

struct tree_usage {
    uint64_t bytes;  /* blocks on the disk; of a file with several names once */
    uint64_t inodes; /* the directory itself among them */
};

/*
 * Of one file system, in whatever depth: whoever fills the tree must not be able to hide what he wrote. What goes away
 * meanwhile counts for nothing. -1 with errno when the directory is not there, cannot be read, memory is out, or all of it
 * was stopped.
 */
int tree_measure(const char *directory, struct tree_usage *usage);

/* Those under way end at once, and so do all that begin later: for a process that ends. */
void tree_stop(void);

#endif
