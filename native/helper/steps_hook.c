/*
 * HOOK: a program of the host's that changes a container while it is being made, as drivers of devices have them. It runs
 * in the container's namespaces, where the root is mounted and not yet entered, with init's own rights.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Our pid as the host counts it: /proc is the host's still. */
static int host_pid(char pid[16])
{
    ssize_t n = readlink("/proc/self", pid, 15);
    if (n <= 0)
        return -1;
    pid[n] = 0;
    return 0;
}

/* The container's state as the hook reads it from stdin, in a file in memory. */
static int state_file(const char *before, const char *after)
{
    char pid[16];
    int fd = (int)syscall(SYS_memfd_create, "berth-hook-state", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (host_pid(pid) || dprintf(fd, "%s%s%s", before, pid, after) < 0 || lseek(fd, 0, SEEK_SET)) {
        int failure = errno;
        close(fd);
        errno = failure;
        return -1;
    }
    return fd;
}

_Noreturn static void become_hook(const char *path, char **argv, char **envp, int state, int complaints)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid(); /* what it starts ends with it */
    umask(022); /* not init's, with which all that it makes would be anybody's to write */
    if (nothing >= 0 && dup2(state, 0) == 0 && dup2(nothing, 1) == 1 && dup2(complaints, 2) == 2) {
        sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        execve(path, argv, envp);
    }
    dprintf(complaints, "%s", strerror(errno));
    _exit(127);
}

/*
 * Waits for the hook's end and keeps the beginning of what it says, all of which is read: a full pipe would hold it up.
 * -1 when the time is over.
 */
static int follow(int pidfd, int complaints, uint64_t until, char *said, size_t room)
{
    size_t length = 0;
    struct pollfd watched[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = complaints, .events = POLLIN}};
    while (!(watched[0].revents & POLLIN) || (watched[1].revents & POLLIN)) {
        char more[512];
        uint64_t now = monotonic_ns();
        if (until && now >= until)
            return -1;
        watched[0].revents = watched[1].revents = 0;
        if (poll(watched, 2, until ? (int)((until - now) / 1000000 + 1) : -1) <= 0)
            continue;
        ssize_t n = watched[1].revents ? read(complaints, more, sizeof more) : -1;
        if (n == 0)
            watched[1] = (struct pollfd){.fd = -1};
        size_t kept = n < 0 ? 0 : (size_t)n < room - 1 - length ? (size_t)n : room - 1 - length;
        memcpy(said + length, more, kept);
        said[length += kept] = 0;
    }
    return 0;
}

static int hook_result(struct launch *launch, int late, uint32_t code, uint32_t killed_by, char *said)
{
    said[strcspn(said, "\n")] = 0; /* the rest is for logs */
    errno = late ? ETIMEDOUT : ECANCELED;
    if (late)
        return step_fail(launch, "it did not end in time");
    if (killed_by)
        return step_fail(launch, "it was killed by signal %u%s%s", killed_by, *said ? ": " : "", said);
    if (code)
        return step_fail(launch, "it ended with %u%s%s", code, *said ? ": " : "", said);
    return 0;
}

int step_hook(struct launch *launch, struct fields *fields)
{
    const char *path = field_str(fields);
    char **argv = field_vector(fields), **envp = field_vector(fields);
    const char *before = field_str(fields), *after = field_str(fields);
    uint32_t timeout_ms = field_u32(fields), code = 0, killed_by = 0;
    char said[DETAIL_MAX / 2] = "";
    int complaints[2], pidfd = -1;
    if (!argv || !envp)
        return -1;
    int state = state_file(before, after);
    if (state < 0)
        return step_fail(launch, "tell it the container's state");
    if (pipe2(complaints, O_CLOEXEC))
        return step_fail(launch, "a pipe");
    int pid = clone_child(0, -1, &pidfd);
    if (pid == 0)
        become_hook(path, argv, envp, state, complaints[1]);
    close(state);
    close(complaints[1]);
    if (pid < 0)
        return step_fail(launch, "start it");
    uint64_t until = timeout_ms ? monotonic_ns() + timeout_ms * (uint64_t)1000000 : 0;
    int late = follow(pidfd, complaints[0], until, said, sizeof said);
    kill(-pid, SIGKILL); /* what it has left running, and itself when it is late */
    if (late)
        sys_pidfd_send_signal(pidfd, SIGKILL); /* before its setsid() */
    reap(pidfd, &code, &killed_by);
    close(complaints[0]);
    close(pidfd);
    return hook_result(launch, late, code, killed_by, said);
}
