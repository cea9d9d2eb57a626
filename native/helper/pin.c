/*
 * role pin: makes a pod's namespaces, sets them up and leaves them behind as bind mounts. It ends with the daemon: what
 * it did after that, the next daemon would not find when it undoes the rest. Namespaces that belong to a user namespace
 * are made by a child, born in all of them; this process, which stays the host's root, gives it its ids and pins them.
 */
#include "helper.h"
#include "../lib/sys.h"
#include "../lib/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static int failed(struct launch *launch, uint32_t section, uint32_t step, int error)
{
    static struct wire_out out;
    wire_begin(&out, MSG_FAILED);
    wire_u32(&out, section);
    wire_u32(&out, step);
    wire_u32(&out, (uint32_t)error);
    wire_str(&out, launch->detail);
    wire_send(FD_CONTROL, &out);
    return 1;
}

/* ---- with a user namespace: what is inside of it is done by a child in it ---- */

/* Its own failure as a report; else the pid of the pod's init. It stays, so that its namespaces can be pinned. */
_Noreturn static void be_inside(const struct plan *plan, int sync)
{
    static struct launch launch;
    launch = (struct launch){.root = -1, .stage = -1, .sync = -1, .devnull = -1};
    struct report report = {.kind = REPORT_FAILED, .section = SECTION_INNER, .step = NO_STEP};
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;
    char word;

    if (recv(sync, &word, 1, 0) != 1) /* once it has ids */
        _exit(1);
    int failed_step = become_root();
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after it: a change of ids takes it away */
    for (; !failed_step && plan_next(plan, SECTION_INNER, &offset, &op, &fields); step++) {
        report.step = step;
        failed_step = step_host(&launch, op, &fields);
    }
    report.error = errno;
    if (!failed_step)
        report = (struct report){.kind = REPORT_READY, .pid = launch.pause_pid};
    memcpy(report.detail, launch.detail, sizeof report.detail);
    send(sync, &report, sizeof report, MSG_NOSIGNAL);
    (void)!recv(sync, &word, 1, 0);
    _exit(0);
}

static int write_map(struct launch *launch, int pid, const char *kind, uint32_t first, uint32_t count)
{
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/%s_map", pid, kind);
    snprintf(line, sizeof line, "0 %u %u\n", first, count);
    return write_file(path, line) ? step_fail(launch, "map %u ids from %u on", count, first) : 0;
}

static int start_inside(struct launch *launch, const struct plan *plan, struct fields *fields, struct report *report)
{
    const char *path = field_str(fields);
    uint64_t namespaces = field_u64(fields);
    int sync[2], pidfd;
    char word = SYNC_GO;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync))
        return -1;
    int pid = clone_child(BERTH_CLONE_NEWUSER | namespaces, -1, &pidfd);
    if (pid < 0)
        return step_fail(launch, "clone");
    if (pid == 0) {
        close(sync[0]);
        be_inside(plan, sync[1]);
    }
    close(sync[1]);
    launch->inside_pid = pid;
    uint32_t uid = field_u32(fields), uids = field_u32(fields), gid = field_u32(fields), gids = field_u32(fields);
    if (write_map(launch, pid, "uid", uid, uids) || write_map(launch, pid, "gid", gid, gids))
        return -1;
    if (*path && pin_namespace(launch, "user", path))
        return -1;
    if (send(sync[0], &word, 1, MSG_NOSIGNAL) != 1 || recv(sync[0], report, sizeof *report, 0) != (ssize_t)sizeof *report) {
        errno = ECHILD;
        return step_fail(launch, "the process in it ended");
    }
    launch->pause_pid = report->pid;
    return 0;
}

int role_pin(void)
{
    static struct launch launch = {.root = -1, .stage = -1, .sync = -1, .devnull = -1, .empty = -1, .nodes = -1};
    static struct wire_out out;
    static struct report report;
    struct plan plan;
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;
    struct pollfd control = {.fd = FD_CONTROL, .events = POLLIN};

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (poll(&control, 1, 0) > 0 && control.revents & POLLHUP)
        return 1; /* it had ended before */
    if (own_keyring()) /* the pod's init keeps it */
        return failed(&launch, SECTION_OUTER, NO_STEP, errno);
    if (load_plan(&plan))
        return failed(&launch, SECTION_OUTER, NO_STEP, errno);
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        launch.detail[0] = 0;
        report.kind = REPORT_READY;
        if (op == OP_USERNS ? start_inside(&launch, &plan, &fields, &report) : step_run(&launch, op, &fields))
            return failed(&launch, SECTION_OUTER, step, errno);
        if (report.kind == REPORT_FAILED) {
            memcpy(launch.detail, report.detail, sizeof launch.detail);
            return failed(&launch, report.section, report.step, report.error);
        }
    }
    wire_begin(&out, MSG_DONE);
    wire_u32(&out, (uint32_t)launch.pause_pid);
    wire_u64(&out, launch.pause_pid ? process_start_time(launch.pause_pid) : 0);
    return wire_send(FD_CONTROL, &out) ? 1 : 0;
}
