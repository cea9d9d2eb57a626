/* clone3 with shared memory needs a stack of the child's own, and so a call that never returns in the child. */
#ifndef BERTH_VFORK_H
#define BERTH_VFORK_H

#include "sys.h"

/*
 * Runs `child(argument)` in a new process that shares this one's memory, and
 * returns its pid once it has called execve or _exit; -1 and errno otherwise.
 * `args->stack` and `stack_size` must be set; CLONE_VM and CLONE_VFORK are added.
 * The child must not return, allocate, lock, or touch thread-local state but errno.
 */
int vfork_into(struct clone3_args *args, int (*child)(void *), void *argument);

#endif
