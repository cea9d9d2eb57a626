/*
 * A helper that is there before it is needed, so that nobody waits for its clone and execve. It has nothing but stdio and
 * its control socket, and waits for one message: the role and the name, with all descriptors that the role is started
 * with but the control socket. From then on it is as one that was started in that role. When the daemon ends before, so
 * does it.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <string.h>
#include <sys/prctl.h>

/* Puts the role and the name where the process list has the words of the spare, as far as there is room. */
static void show(char *words, size_t room, const char *role, const char *name)
{
    size_t length = strlen(role) + 1;
    memset(words, 0, room);
    if (length >= room)
        return;
    memcpy(words, role, length);
    strncpy(words + length, name, room - length);
}

/* They come as the lowest that are free, which is above all that they become; the last one's number may be another's till then. */
static int place(const int fds[FDS_MAX])
{
    static const int numbers[FDS_MAX] = {0, 1, 2, FD_PLAN, FD_STATE_DIR};
    for (int i = 0; i < FDS_MAX; i++)
        if (fds[i] >= 0 ? dup2(fds[i], numbers[i]) < 0 : numbers[i] <= FD_PLAN)
            return -1;
    return sys_close_range(fds[FDS_MAX - 1] < 0 ? FD_STATE_DIR : FD_STATE_DIR + 1, ~0U, 0);
}

int await_role(int argc, char **argv)
{
    char message[256];
    int fds[FDS_MAX];
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    ssize_t n = receive_fds(FD_CONTROL, message, sizeof message - 1, fds, 0);
    if (n <= 0)
        return -1;
    message[n] = 0;
    size_t role = strnlen(message, (size_t)n);
    if (role == (size_t)n || place(fds))
        return -1;
    char *end = argv[argc - 1] + strlen(argv[argc - 1]);
    show(argv[1], (size_t)(end - argv[1]), message, message + role + 1);
    return 0;
}
