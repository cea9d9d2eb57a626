/*
 * Being in another network namespace. setns(2) moves the thread that calls it, and no thread of the pool ever enters one: what
 * it would leave behind if it could not return is a daemon with a foot in a pod. A thread is made for it, and ends with the call.
 */
#ifndef BERTH_NETWORK_H
#define BERTH_NETWORK_H

/* Runs `work` in a thread of its own, without signals, to its end. 0, or the errno of why there is no thread. */
int run_in_own_thread(void *(*work)(void *), void *data);

/* Moves this thread into the namespace at `path`: in `run_in_own_thread` alone. -1 with errno. */
int enter_network(const char *path);

#endif
