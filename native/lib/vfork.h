/* clone3 with shared memory: the child never returns from the call, since its caller's frame is the parent's. */
#ifndef BERTH_VFORK_H
#define BERTH_VFORK_H

#include "sys.h"

/*
 * Runs `child(argument)` in a new process that shares this one's memory, and
 * returns its pid once it has called execve or _exit; -1 and errno otherwise.
 * CLONE_VM and CLONE_VFORK are added; without `args->stack` and `stack_size` the child uses what is free of the caller's
 * stack. The child must not allocate, lock, or touch thread-local state but errno; what it returns is its exit code.
 */
int vfork_into(struct clone3_args *args, int (*child)(void *), void *argument);

#endif
