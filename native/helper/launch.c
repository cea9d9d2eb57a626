/* What monitor, exec and pin have in common: the plan, the child, its cgroups. */
#include "helper.h"
#include "../lib/sys.h"

#include <linux/keyctl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int step_fail(struct launch *launch, const char *format, ...)
{
    int failure = errno;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(launch->detail, sizeof launch->detail, format, arguments);
    va_end(arguments);
    errno = failure;
    return -1;
}

int step_run(struct launch *launch, uint32_t op, struct fields *fields)
{
    if (op == OP_TERMINAL || op == OP_CONTROLLING_TERMINAL)
        return step_terminal(launch, op, fields);
    if (op == OP_EXEC_LABEL)
        return step_label(launch, fields);
    if (op == OP_KEYRING)
        return step_keyring(launch, fields);
    if (op < OP_PROPAGATION)
        return step_host(launch, op, fields);
    if (op <= OP_PIVOT_ROOT || op == OP_MOUNT_ATTR || op == OP_SHARE || op == OP_ROOT_LABEL || op == OP_QUEUE_LABEL)
        return step_mount(launch, op, fields);
    if (op >= OP_HOLD_SOURCE && op < OP_MOUNT_ATTR)
        return step_source(launch, op, fields);
    if (op >= OP_USERNS && op < OP_USERNS + 10)
        return step_userns(launch, op, fields);
    if (op == OP_FIRST_PROCESS)
        return step_first_process(launch);
    if (op == OP_HOOK || op == OP_START_HOOK || op == OP_HOOK_VIEW)
        return step_hook(launch, op, fields);
    if (op == OP_COPY_STAT)
        return step_copy_stat(launch, fields);
    if (op == OP_COPY_OUT)
        return step_copy_out(launch, fields);
    if (op == OP_COPY_IN)
        return step_copy_in(launch, fields);
    if (op == OP_EXEC)
        return step_exec(launch, fields);
    return step_identity(launch, op, fields);
}

int load_plan(struct plan *plan)
{
    struct stat st;
    if (fstat(FD_PLAN, &st))
        return -1;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, FD_PLAN, 0);
    if (data == MAP_FAILED)
        return -1;
    close(FD_PLAN);
    if (plan_check(plan, data, (size_t)st.st_size)) {
        errno = EBADMSG;
        return -1;
    }
    return 0;
}

int own_keyring(void)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0)
        return 0;
    /* A kernel without keys; or a filter that this process is under, and so all that it starts. */
    return errno == ENOSYS || errno == EPERM ? 0 : -1;
}

uint64_t realtime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void steps_begin(struct step_times *times)
{
    times->began = times->since = monotonic_ns();
    times->count = 0;
}

void step_ended(struct step_times *times)
{
    uint64_t now = monotonic_ns(), took = now - times->since;
    uint32_t *at = &times->ns[times->count < STEPS_MAX ? times->count : STEPS_MAX - 1];
    uint64_t sum = took + (times->count < STEPS_MAX ? 0 : *at);
    *at = sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
    if (times->count < STEPS_MAX)
        times->count++;
    times->since = now;
}

uint64_t process_start_time(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

/* CLONE_CLEAR_SIGHAND leaves what is ignored: SIGPIPE by a monitor, and whatever the daemon's parent ignored. */
static void default_signals(void)
{
    sigset_t none;
    /* The kernel's struct, all zero: the default. libc keeps three numbers to itself, which may be ignored all the same. */
    const unsigned long action[5] = {0};
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, action, NULL, 8); /* SIGKILL and SIGSTOP have nothing else */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int clone_child(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone3_args args = {
        .flags = flags | BERTH_CLONE_PIDFD | BERTH_CLONE_CLEAR_SIGHAND,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
    };
    if (cgroup >= 0) {
        args.flags |= BERTH_CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    int pid = sys_fork3(&args);
    if (pid == 0)
        default_signals();
    return pid;
}

void reap(int pidfd, uint32_t *exit_code, uint32_t *sig)
{
    siginfo_t info = {0};
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    int killed = info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
    *sig = killed ? (uint32_t)info.si_status : 0;
    *exit_code = killed ? 128u + (uint32_t)info.si_status : (uint32_t)info.si_status;
}

int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int failure = errno;
    close(fd);
    errno = failure;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

int cgroups_take(struct cgroups *cgroups, uint32_t op, struct fields *fields)
{
    int fd;
    if (op != OP_CGROUP_V2 && op != OP_CGROUP_V1 && op != OP_CGROUP_KILL)
        return 0; /* and its fields are still to be read */
    const char *path = field_str(fields);
    switch (op) {
    case OP_CGROUP_V2:
        cgroups->v2 = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return cgroups->v2 < 0 ? -1 : 1;
    case OP_CGROUP_V1:
        if (cgroups->v1_count == CGROUPS_V1_MAX) {
            errno = E2BIG;
            return -1;
        }
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return -1;
        cgroups->v1[cgroups->v1_count].path = path;
        cgroups->v1[cgroups->v1_count++].tasks = fd;
        return 1;
    default:
        cgroups->kill = open(path, O_WRONLY | O_CLOEXEC);
        return 1; /* a kernel without the file (before 5.14) is the daemon's to deal with */
    }
}

/*
 * "0" in `tasks` moves the writing thread and takes no lock but cgroup_mutex. Any
 * other way into a v1 cgroup locks all of the system's forks and exits out,
 * which waits for RCU, 7 to 14 ms (cgroup_procs_write_start(), Linux 5.5).
 */
void cgroups_enter(const struct cgroups *cgroups, int sync)
{
    for (int i = 0; i < cgroups->v1_count; i++) {
        if (write(cgroups->v1[i].tasks, "0", 1) == 1)
            continue;
        struct report report = {.kind = REPORT_FAILED, .section = SECTION_OUTER, .step = UINT32_MAX, .error = errno};
        snprintf(report.detail, sizeof report.detail, "%s", cgroups->v1[i].path);
        send(sync, &report, sizeof report, MSG_NOSIGNAL);
        _exit(1);
    }
}

void cgroups_left(struct cgroups *cgroups)
{
    for (int i = 0; i < cgroups->v1_count; i++)
        close(cgroups->v1[i].tasks);
    cgroups->v1_count = 0;
    if (cgroups->v2 >= 0)
        close(cgroups->v2);
    cgroups->v2 = -1;
}
