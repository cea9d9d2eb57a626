/*
 * Hooks: programs that change a container while it is being made, or as it starts, as drivers of devices have them.
 * HOOK runs one of the host's in the container's namespaces, where the root is mounted and not yet entered, with init's own
 * rights. START_HOOK runs one of the container's as the container's process will run: a child of init's goes through the
 * same steps up to EXEC (ids, limits, labels, filter, capabilities), and executes the hook there. Init waits for either.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* What a hook says is read for so long once it has ended: what it left running may go on for ever. */
#define READS_AFTER_END 128

/* Our pid as the host counts it: /proc is the host's still. */
static int host_pid(char pid[16])
{
    ssize_t n = readlink("/proc/self", pid, 15);
    if (n <= 0)
        return -1;
    pid[n] = 0;
    return 0;
}

/* The container's state as the hook reads it from stdin, in a file in memory. In the container, our pid is as it counts there. */
static int state_file(const char *before, const char *after, int in_container)
{
    char pid[16];
    int fd = (int)syscall(SYS_memfd_create, "berth-hook-state", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (in_container)
        snprintf(pid, sizeof pid, "%d", getpid());
    if ((!in_container && host_pid(pid)) || dprintf(fd, "%s%s%s", before, pid, after) < 0 || lseek(fd, 0, SEEK_SET)) {
        int failure = errno;
        close(fd);
        errno = failure;
        return -1;
    }
    return fd;
}

/* A hook's stdio: what it is told, and one pipe for all that it says. */
static int take_stdio(int state, int complaints)
{
    return dup2(state, 0) == 0 && dup2(complaints, 1) == 1 && dup2(complaints, 2) == 2 ? 0 : -1;
}

_Noreturn static void become_hook(const char *path, char **argv, char **envp, int state, int complaints)
{
    setsid(); /* what it starts ends with it */
    umask(022); /* not init's, with which all that it makes would be anybody's to write */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (take_stdio(state, complaints) == 0) {
        sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        execve(path, argv, envp);
    }
    dprintf(complaints, "%s", strerror(errno));
    _exit(127);
}

/* ---- the child of START_HOOK ---- */

static void go_on_as_hook(struct launch *launch, const char *path, char **argv, char **envp, int state, int complaints)
{
    if (take_stdio(state, complaints))
        _exit(127);
    close(launch->sync);
    launch->sync = -1;
    launch->hook.path = path;
    launch->hook.argv = argv;
    launch->hook.envp = envp;
}

int hook_skips(uint32_t op)
{
    return op == OP_START_HOOK || op == OP_CONTROLLING_TERMINAL || op == OP_FIRST_PROCESS;
}

_Noreturn void hook_exec(struct launch *launch)
{
    if (!launch->sealed)
        sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(launch->hook.path, launch->hook.argv, launch->hook.envp);
    dprintf(2, "%s", strerror(errno));
    _exit(127);
}

_Noreturn void hook_failed(const struct launch *launch, int error)
{
    dprintf(2, "before it could be run: %s%s%s", launch->detail, *launch->detail ? ": " : "", strerror(error));
    _exit(126);
}

/* ---- waiting ---- */

/*
 * Waits for the hook's end and keeps the beginning of what it says, all of which is read: a full pipe would hold it up.
 * -1 when the time is over.
 */
static int follow(int pidfd, int complaints, uint64_t until, char *said, size_t room)
{
    size_t length = 0, reads = 0;
    struct pollfd watched[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = complaints, .events = POLLIN}};
    while (!(watched[0].revents & POLLIN) || (watched[1].revents & POLLIN && reads++ < READS_AFTER_END)) {
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

/* 0 in the child of START_HOOK, too, which goes on with the plan. */
static int run_hook(struct launch *launch, struct fields *fields, int in_container)
{
    const char *path = field_str(fields);
    char **argv = field_vector(fields), **envp = field_vector(fields);
    const char *before = field_str(fields), *after = field_str(fields);
    uint32_t timeout_ms = field_u32(fields), code = 0, killed_by = 0;
    char said[DETAIL_MAX / 2] = "";
    int complaints[2], pidfd = -1;
    if (!argv || !envp)
        return -1;
    int state = state_file(before, after, in_container);
    if (state < 0)
        return step_fail(launch, "tell it the container's state");
    if (pipe2(complaints, O_CLOEXEC))
        return step_fail(launch, "a pipe");
    int pid = clone_child(0, -1, &pidfd);
    if (pid == 0 && !in_container)
        become_hook(path, argv, envp, state, complaints[1]);
    if (pid == 0)
        go_on_as_hook(launch, path, argv, envp, state, complaints[1]);
    close(state);
    close(complaints[1]);
    if (pid == 0)
        return close(complaints[0]);
    if (pid < 0) {
        close(complaints[0]);
        return step_fail(launch, "start it");
    }
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

/* ---- what hooks find in a user namespace ---- */

/* mkdir -p, each searchable by everybody; all of it lies in our own tmpfs. */
static int make_path(const char *path)
{
    char part[PATH_MAX];
    if (strlen(path) >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(part, path);
    for (char *at = part + 1; at; ) {
        at = strchr(at, '/');
        if (at)
            *at = 0;
        if (mkdir(part, 0711) && errno != EEXIST && errno != EROFS)
            return -1;
        if (at)
            *at++ = '/';
    }
    return 0;
}

static int write_config(const char *bundle, struct bytes config)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", bundle) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, config.data, config.length);
    int failure = n < 0 ? errno : ENOSPC;
    close(fd);
    errno = failure;
    return n == (ssize_t)config.length ? 0 : -1;
}

/*
 * The container's root is nobody on the host, and what berth keeps lies where only the host's root comes to. So the first
 * directory on the way that nobody else may search is covered, in this mount namespace, by one that has the bundle and the
 * root alone: a hook finds both by the paths that it is told. What else is below it, it could not have come to anyhow.
 */
static int show_bundle(struct launch *launch, struct fields *fields)
{
    const char *cover = field_str(fields), *at = field_str(fields), *bundle = field_str(fields);
    struct bytes config = field_bytes(fields);
    if (cover_with_tmpfs(launch, cover, "4m"))
        return -1;
    if (make_path(at) || make_path(bundle))
        return step_fail(launch, "make directories");
    if (write_config(bundle, config))
        return step_fail(launch, "write the bundle");
    return sys_move_mount(AT_FDCWD, ".", AT_FDCWD, at, 0) ? step_fail(launch, "move the stage") : 0;
}

int step_hook(struct launch *launch, uint32_t op, struct fields *fields)
{
    return op == OP_HOOK_VIEW ? show_bundle(launch, fields) : run_hook(launch, fields, op == OP_START_HOOK);
}
