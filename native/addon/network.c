#define _GNU_SOURCE
#include "network.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

int run_in_own_thread(void *(*work)(void *), void *data)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* it inherits this: Node's handlers are for Node's threads */
    int failure = pthread_create(&thread, NULL, work, data);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failure)
        pthread_join(thread, NULL);
    return failure;
}

int enter_network(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int failed = setns(fd, CLONE_NEWNET);
    int failure = errno;
    close(fd);
    errno = failure;
    return failed;
}
