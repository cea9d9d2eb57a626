/*
 * role exec: runs one more process in a container. The process at FD_TARGET (a
 * pidfd of the container's) lends its namespaces; this process stays outside of
 * its PID namespace and cgroup, waits, and tells how the new process ended. The
 * new process's stdio are pipes or a terminal, and a relay carries them to
 * descriptors 0 to 2.
 */
#include "helper.h"
#include "../lib/sys.h"
#include "../lib/wire.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static struct wire_out out;

static int failed(uint32_t section, uint32_t step, int error, const char *detail)
{
    wire_begin(&out, MSG_FAILED);
    wire_u32(&out, section);
    wire_u32(&out, step);
    wire_u32(&out, (uint32_t)error);
    wire_str(&out, detail);
    wire_send(FD_CONTROL, &out);
    return 1;
}

/* The new process has its own session, so its group is what it started. */
static void forward_kill(const unsigned char *payload, int pid, int pidfd)
{
    int number = (int)(payload[0] | payload[1] << 8);
    if (kill(-pid, number))
        sys_pidfd_send_signal(pidfd, number);
}

static struct {
    int command[3]; /* the command's ends; its stdin is descriptor 0 itself when nothing is to be read */
    int ended_write;
    int relay_pidfd;
    const char *state_dir; /* of ORPHAN, or NULL */
    int is_orphaned;       /* the daemon is gone */
    int master; /* of the command's terminal, or -1 */
    int terminal;
} stdio = {.ended_write = -1, .relay_pidfd = -1, .master = -1, .terminal = -1};

static void resize(const unsigned char *payload)
{
    struct winsize size = {.ws_row = (unsigned short)(payload[0] | payload[1] << 8),
                           .ws_col = (unsigned short)(payload[4] | payload[5] << 8)};
    if (stdio.master >= 0)
        ioctl(stdio.master, TIOCSWINSZ, &size);
}

static int take_messages(struct wire_in *in, int pid, int pidfd)
{
    unsigned char payload[WIRE_MAX_PAYLOAD];
    size_t length;
    if (wire_fill(in, FD_CONTROL) <= 0)
        return -1;
    for (int type; (type = wire_take(in, payload, &length)) != 0;) {
        if (type < 0)
            return -1;
        if (type == MSG_KILL && length == 4)
            forward_kill(payload, pid, pidfd);
        else if (type == MSG_RESIZE && length == 8)
            resize(payload);
    }
    return 0;
}

static struct wire_in in; /* what the daemon says */

/* The relay carries it; this process keeps both sides, for its size and so that the command may close its own. */
static void take_terminal(const int fds[FDS_MAX])
{
    stdio.master = fds[0];
    stdio.terminal = fds[1];
    send_fds(stdio.ended_write, "", 1, &stdio.master, 1);
}

/* 0 when the process runs, 1 when it reported a failed step. */
static int await_exec(int sync, int pid, int pidfd)
{
    static struct report report;
    int fds[FDS_MAX];
    struct pollfd watched[2] = {{.fd = sync, .events = POLLIN}, {.fd = FD_CONTROL, .events = POLLIN}};
    for (;;) {
        watched[0].revents = 0;
        while (!watched[0].revents) /* whatever the new process waits for, a kill reaches it */
            if (poll(watched, 2, -1) > 0 && watched[1].revents && take_messages(&in, pid, pidfd))
                watched[1].fd = -1;
        ssize_t n = receive_fds(sync, &report, sizeof report, fds, 0);
        if (n == (ssize_t)sizeof report && report.kind == REPORT_FAILED)
            return failed(report.section, report.step, report.error, report.detail);
        if (n != (ssize_t)sizeof report || report.kind != REPORT_TERMINAL)
            return 0;
        take_terminal(fds);
    }
}

static void announce(uint32_t type, uint64_t value)
{
    wire_begin(&out, type);
    wire_u64(&out, value);
    wire_send(FD_CONTROL, &out);
}

/* ---- stdio ---- */

#define RELAY_WITHIN_MS 3000 /* after that it is its new parent that reaps it */

/* Whether the daemon's descriptor is the relay's, and the command gets another. */
static int is_carried(int mode, int i)
{
    return i > 0 || mode & (STDIN_OPEN | STDIN_TERMINAL);
}

static int make_pipes(struct relay *relay)
{
    for (int i = 0; i < 3; i++) {
        int ends[2];
        stdio.command[i] = i;
        relay->pipes[i] = -1;
        if (relay->mode & STDIN_TERMINAL || !is_carried(relay->mode, i))
            continue;
        if (pipe2(ends, O_CLOEXEC))
            return -1;
        stdio.command[i] = ends[i == 0 ? 0 : 1];
        relay->pipes[i] = ends[i == 0 ? 1 : 0];
    }
    return 0;
}

/* Leaves this process with the command's ends alone; the relay is born before any namespace is entered. */
static int start_relay(int mode)
{
    struct relay relay = {.mode = mode, .state_dir = stdio.state_dir};
    int ended[2];
    if (make_pipes(&relay) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ended))
        return -1;
    int pid = clone_child(0, -1, &stdio.relay_pidfd);
    if (pid < 0)
        return -1;
    if (pid == 0) {
        relay.ended = ended[0];
        for (int i = 0; i < 3; i++)
            if (stdio.command[i] > 2)
                close(stdio.command[i]);
        close(ended[1]);
        close(FD_CONTROL);
        close(FD_TARGET);
        role_relay(&relay);
    }
    close(ended[0]);
    stdio.ended_write = ended[1];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++) {
        if (relay.pipes[i] >= 0)
            close(relay.pipes[i]);
        if (is_carried(mode, i))
            dup2(null, i); /* not closed: the next descriptor opened would be one of these */
    }
    return null < 0 ? -1 : close(null);
}

/* In the command's process. */
static void take_stdio(void)
{
    for (int i = 0; i < 3; i++)
        dup2(stdio.command[i], i);
}

/* In this process, once the command has it. */
static void leave_stdio(void)
{
    for (int i = 0; i < 3; i++)
        if (stdio.command[i] > 2)
            close(stdio.command[i]);
}

/* The command has ended: so will the relay, once all is carried. Whoever reads slowly has it for longer than this process. */
static void end_relay(void)
{
    char orphaned = RELAY_ORPHANED;
    uint32_t exit_code, sig;
    if (stdio.relay_pidfd < 0)
        return;
    if (stdio.terminal >= 0)
        close(stdio.terminal);
    if (stdio.is_orphaned)
        (void)!send(stdio.ended_write, &orphaned, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(stdio.ended_write);
    struct pollfd relay = {.fd = stdio.relay_pidfd, .events = POLLIN};
    if (poll(&relay, 1, RELAY_WITHIN_MS) > 0)
        reap(stdio.relay_pidfd, &exit_code, &sig);
}

/* ---- the command ---- */

static int supervise(int pid, int pidfd)
{
    uint32_t exit_code, sig;
    struct pollfd watched[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = FD_CONTROL, .events = POLLIN}};
    while (!(watched[0].revents & POLLIN)) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (watched[1].revents && take_messages(&in, pid, pidfd))
            watched[1].fd = -1; /* the daemon is gone; the process goes on */
    }
    reap(pidfd, &exit_code, &sig);
    wire_begin(&out, MSG_EXITED);
    wire_u32(&out, exit_code);
    wire_u32(&out, sig);
    wire_u64(&out, realtime_ns());
    wire_u64(&out, 0);
    stdio.is_orphaned = wire_send(FD_CONTROL, &out) != 0;
    return 0;
}

/*
 * What the child joins when it is in the container's cgroup. Whoever clones into a cgroup must see its own and that one in its
 * cgroup namespace where v2 is mounted with nsdelegate, as systemd does (cgroup_procs_write_permission(): ENOENT). The user
 * namespace comes with it, since from inside the host's cgroup namespace cannot be left any more.
 */
static struct {
    int fd, types;
} late;

static int join_by_pidfd(int fd, int types)
{
    if (types & CLONE_NEWCGROUP) {
        late.fd = fd;
        late.types = types & (CLONE_NEWCGROUP | CLONE_NEWUSER);
    }
    return setns(fd, types & ~late.types);
}

static void join_late(int sync)
{
    if (late.types == 0 || setns(late.fd, late.types) == 0)
        return;
    struct report report = {.kind = REPORT_FAILED, .section = SECTION_OUTER, .step = UINT32_MAX, .error = errno};
    snprintf(report.detail, sizeof report.detail, "setns");
    send(sync, &report, sizeof report, MSG_NOSIGNAL);
    _exit(1);
}

static int take(struct launch *launch, struct cgroups *cgroups, uint32_t op, struct fields *fields)
{
    int fd, taken;
    switch (op) {
    case OP_ORPHAN:
        stdio.state_dir = field_str(fields);
        return 0;
    case OP_STDIN:
        return start_relay((int)field_u32(fields));
    case OP_STDIO_OWNER: {
        uint32_t uid = field_u32(fields);
        give_pipes(stdio.command, uid, field_u32(fields));
        return 0;
    }
    case OP_JOIN_PIDFD:
        fd = (int)field_u32(fields);
        return join_by_pidfd(fd, (int)field_u32(fields));
    default:
        taken = cgroups_take(cgroups, op, fields);
        return taken == 0 ? step_host(launch, op, fields) : taken < 0 ? -1 : 0;
    }
}

int role_exec(void)
{
    static struct launch launch = {.root = -1, .stage = -1, .sync = -1, .devnull = -1, .empty = -1, .nodes = -1};
    struct cgroups cgroups = {.v2 = -1, .kill = -1};
    struct plan plan;
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;
    int sync[2], pidfd;

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (load_plan(&plan))
        return failed(SECTION_OUTER, NO_STEP, errno, "");
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        if (take(&launch, &cgroups, op, &fields))
            return failed(SECTION_OUTER, step, errno, launch.detail);
    }
    /* After the relay is born: its copy of the command's end would keep the socket open. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync))
        return failed(SECTION_OUTER, NO_STEP, errno, "socketpair");
    int pid = clone_child(0, cgroups.v2, &pidfd);
    if (pid < 0)
        return failed(SECTION_OUTER, NO_STEP, errno, "clone");
    if (pid == 0) {
        cgroups_enter(&cgroups, sync[1]); /* first: FD_PLAN may be one of its files */
        join_late(sync[1]);
        take_stdio();
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* nobody could tell of it any more */
        int kept = dup2(sync[1], FD_PLAN);
        fcntl(kept, F_SETFD, FD_CLOEXEC);
        sys_close_range(FD_CONTROL, ~0U, 0);
        role_init(&plan, kept);
    }
    close(sync[1]);
    cgroups_left(&cgroups);
    leave_stdio();
    int result = await_exec(sync[0], pid, pidfd);
    if (result == 0) {
        announce(MSG_RUNNING, realtime_ns());
        result = supervise(pid, pidfd);
    }
    end_relay();
    return result;
}
