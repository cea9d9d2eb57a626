/*
 * role exec: runs one more process in a container. The process at FD_TARGET (a
 * pidfd of the container's) lends its namespaces; this process stays outside of
 * them and of the cgroup, waits, and tells how the new process ended. The new
 * process's stdio are pipes or a terminal, and what they carry goes from and to
 * descriptors 0 to 2.
 *
 * While the command runs, only a relay touches its pipes, since it may be held
 * up there (relay.c); this process must hear of a kill. A command without input
 * gets its relay once it has written something and runs on. Most print nothing
 * or end at once: what those leave in their pipes, this process carries itself,
 * after it has told of the end.
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
static void kill_command(int number, int pid, int pidfd)
{
    if (kill(-pid, number))
        sys_pidfd_send_signal(pidfd, number);
}

static struct {
    int command[3];     /* the command's ends; its stdin is descriptor 0 itself when nothing is to be read */
    struct relay relay; /* the other ends, while they are this process's */
    int has_output;     /* there is something for a relay, which is not there yet */
    int ended_write;
    int relay_pidfd; /* -1: there is none */
    int relay_runs;  /* as far as is known */
    int is_orphaned; /* the daemon is gone */
    int master;      /* of the command's terminal, or -1 */
    int terminal;
} stdio = {.relay = {.pipes = {-1, -1, -1}}, .ended_write = -1, .relay_pidfd = -1, .master = -1, .terminal = -1};

static void resize(const unsigned char *payload)
{
    struct winsize size = {.ws_row = (unsigned short)(payload[0] | payload[1] << 8),
                           .ws_col = (unsigned short)(payload[4] | payload[5] << 8)};
    if (stdio.master >= 0)
        ioctl(stdio.master, TIOCSWINSZ, &size);
}

static struct wire_in in; /* what the daemon says */

static int take_messages(int pid, int pidfd)
{
    unsigned char payload[WIRE_MAX_PAYLOAD];
    size_t length;
    if (wire_fill(&in, FD_CONTROL) <= 0)
        return -1;
    for (int type; (type = wire_take(&in, payload, &length)) != 0;) {
        if (type < 0)
            return -1;
        if (type == MSG_KILL && length == 4)
            kill_command((int)(payload[0] | payload[1] << 8), pid, pidfd);
        else if (type == MSG_RESIZE && length == 8)
            resize(payload);
    }
    return 0;
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
        if (relay->mode & STDIN_TERMINAL || !is_carried(relay->mode, i))
            continue;
        if (pipe2(ends, O_CLOEXEC))
            return -1;
        stdio.command[i] = ends[i == 0 ? 0 : 1];
        relay->pipes[i] = ends[i == 0 ? 1 : 0];
    }
    return 0;
}

/* What the command has, or its launcher alone, is not the relay's. */
_Noreturn static void become_relay(int sync, int pidfd)
{
    for (int i = 0; i < 3; i++)
        if (stdio.command[i] > 2)
            close(stdio.command[i]);
    if (sync >= 0)
        close(sync);
    if (pidfd >= 0)
        close(pidfd);
    close(stdio.ended_write);
    close(FD_CONTROL);
    close(FD_TARGET);
    role_relay(&stdio.relay);
}

/* Its pidfd, or -1: a clone that fails late has set one all the same. */
static int clone_relay(int sync, int pidfd)
{
    int relay_pidfd = -1;
    int pid = clone_child(0, -1, &relay_pidfd);
    if (pid == 0)
        become_relay(sync, pidfd);
    return pid < 0 ? -1 : relay_pidfd;
}

/*
 * Gives descriptors 0 to 2 to a relay; `sync` and `pidfd` are the command's, or -1 before there is one. Whoever tries again
 * after a failure finds all as it was: what can fail comes before the relay.
 */
static int start_relay(int sync, int pidfd)
{
    int ended[2];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ended))
        return close(null), -1;
    stdio.relay.ended = ended[0];
    stdio.ended_write = ended[1];
    stdio.relay_pidfd = clone_relay(sync, pidfd);
    close(ended[0]);
    stdio.relay_runs = stdio.relay_pidfd >= 0;
    if (stdio.relay_pidfd < 0)
        close(ended[1]);
    for (int i = 0; i < 3 && stdio.relay_pidfd >= 0; i++)
        if (is_carried(stdio.relay.mode, i))
            dup2(null, i); /* not closed: the next descriptor opened would be one of these */
    close(null);
    if (stdio.relay_pidfd < 0)
        return -1;
    wire_begin(&out, MSG_OUTPUT);
    wire_send(FD_CONTROL, &out);
    return 0;
}

/* Before there is a command: its pipes need not stay open here. */
static int start_early_relay(void)
{
    if (start_relay(-1, -1))
        return -1;
    for (int i = 0; i < 3; i++) {
        if (stdio.relay.pipes[i] >= 0)
            close(stdio.relay.pipes[i]);
        stdio.relay.pipes[i] = -1;
    }
    return 0;
}

static int make_stdio(int mode)
{
    stdio.relay.mode = mode;
    if (make_pipes(&stdio.relay))
        return -1;
    return mode & (STDIN_OPEN | STDIN_TERMINAL) ? start_early_relay() : 0;
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
    for (int i = 0; i < 3; i++) {
        if (stdio.command[i] > 2)
            close(stdio.command[i]);
        stdio.command[i] = i;
    }
}

/* The command has ended: so will the relay, once all is carried. Whoever reads slowly has it for longer than this process. */
static void end_relay(void)
{
    char orphaned = RELAY_ORPHANED;
    uint32_t exit_code, sig;
    if (stdio.terminal >= 0)
        close(stdio.terminal);
    if (stdio.is_orphaned)
        (void)!send(stdio.ended_write, &orphaned, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(stdio.ended_write);
    struct pollfd relay = {.fd = stdio.relay_pidfd, .events = POLLIN};
    if (stdio.relay_runs && poll(&relay, 1, RELAY_WITHIN_MS) > 0)
        reap(stdio.relay_pidfd, &exit_code, &sig);
}

/* The daemon has heard of the end, and nothing of it need wait for a pipe that somebody holds. */
static void end_stdio(void)
{
    if (stdio.relay_pidfd >= 0) {
        end_relay();
        return;
    }
    close(FD_CONTROL);
    relay_rest(&stdio.relay, stdio.is_orphaned);
}

/* ---- the command ---- */

/* A command that has written something and ends within this time needs no relay. */
#define NO_RELAY_WITHIN_MS 1

/*
 * It has ended before the command, as it does when nobody can write any more. Killed (there was no memory), it has lost output
 * that nobody could tell the end of; the command, whose pipes are open here, would wait for it for ever.
 */
static void relay_ended(int pid, int pidfd)
{
    uint32_t exit_code, sig;
    reap(stdio.relay_pidfd, &exit_code, &sig);
    stdio.relay_runs = 0;
    if (sig)
        kill_command(SIGKILL, pid, pidfd);
}

/*
 * Waits for what the command does: for `fd`, which is its sync socket or its pidfd. Meanwhile a kill reaches it. Read ends
 * stay open here: somebody may hold their pipes by then, and a close would wait for him, too.
 */
static void await_command(int fd, int pid, int pidfd)
{
    static int control = FD_CONTROL;
    enum { COMMAND, CONTROL, RELAY, OUTPUT, COUNT = OUTPUT + 2 };
    for (;;) {
        struct pollfd watched[COUNT] = {{.fd = fd, .events = POLLIN},
                                        {.fd = control, .events = POLLIN},
                                        {.fd = stdio.relay_runs ? stdio.relay_pidfd : -1, .events = POLLIN}};
        int is_waiting = stdio.has_output || stdio.relay_pidfd >= 0;
        for (int i = 0; i < 2; i++)
            watched[OUTPUT + i] = (struct pollfd){.fd = is_waiting ? -1 : stdio.relay.pipes[1 + i], .events = POLLIN};
        int happened = poll(watched, COUNT, stdio.has_output ? NO_RELAY_WITHIN_MS : -1);
        if (happened < 0)
            continue;
        if (watched[CONTROL].revents && take_messages(pid, pidfd))
            control = -1; /* the daemon is gone; the process goes on */
        if (watched[COMMAND].revents)
            return;
        if (watched[RELAY].revents)
            relay_ended(pid, pidfd);
        if (happened == 0 && stdio.has_output && start_relay(fd == pidfd ? -1 : fd, pidfd) == 0)
            stdio.has_output = 0;
        if (watched[OUTPUT].revents || watched[OUTPUT + 1].revents)
            stdio.has_output = 1;
    }
}

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
    for (;;) {
        await_command(sync, pid, pidfd);
        ssize_t n = receive_fds(sync, &report, sizeof report, fds, 0);
        if (n == (ssize_t)sizeof report && report.kind == REPORT_FAILED)
            return failed(report.section, report.step, report.error, report.detail);
        if (n != (ssize_t)sizeof report || report.kind != REPORT_TERMINAL)
            return 0;
        take_terminal(fds);
    }
}

static void supervise(int pid, int pidfd)
{
    uint32_t exit_code, sig;
    await_command(pidfd, pid, pidfd);
    reap(pidfd, &exit_code, &sig);
    wire_begin(&out, MSG_EXITED);
    wire_u32(&out, exit_code);
    wire_u32(&out, sig);
    wire_u64(&out, realtime_ns());
    wire_u64(&out, 0);
    stdio.is_orphaned = wire_send(FD_CONTROL, &out) != 0;
}

/* ---- its birth ---- */

/*
 * What the child joins when it is in the container's cgroup. Whoever clones into a cgroup must see its own and that one in its
 * cgroup namespace where v2 is mounted with nsdelegate, as systemd does (cgroup_procs_write_permission(): ENOENT). The user
 * namespace comes with it, since from inside the host's cgroup namespace cannot be left any more.
 */
static struct {
    int fd;
    int types; /* 0: none */
    int late;
    uint32_t step; /* of the plan */
} joined;

static void join_by_pidfd(int fd, int types, uint32_t step)
{
    joined.fd = fd;
    joined.late = types & CLONE_NEWCGROUP ? types & (CLONE_NEWCGROUP | CLONE_NEWUSER) : 0;
    joined.types = types & ~joined.late;
    joined.step = step;
}

static void join_late(int sync)
{
    if (joined.late == 0 || setns(joined.fd, joined.late) == 0)
        return;
    struct report report = {.kind = REPORT_FAILED, .section = SECTION_OUTER, .step = UINT32_MAX, .error = errno};
    snprintf(report.detail, sizeof report.detail, "setns");
    send(sync, &report, sizeof report, MSG_NOSIGNAL);
    _exit(1);
}

/* How ready the kernel is to kill the command when memory is short. This process and its relay stay as the daemon is. */
static struct {
    struct fields fields;
    int is_given;
    uint32_t step;   /* of the plan */
    char before[16]; /* this process's own */
} score;

#define SCORE_FILE "/proc/self/oom_score_adj"

/* For the command to inherit, from the host's /proc: the container's may be anything. */
static int take_score(void)
{
    static struct launch launch;
    if (!score.is_given)
        return 0;
    int fd = open(SCORE_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, score.before, sizeof score.before - 1);
    if (fd >= 0)
        close(fd);
    score.before[n > 0 ? n : 0] = 0;
    return n < 0 ? -1 : step_host(&launch, OP_OOM_SCORE_ADJ, &score.fields);
}

/* What it was, this process may always have again. */
static void give_score_back(void)
{
    if (score.is_given)
        write_file(SCORE_FILE, score.before);
}

struct birth {
    const struct plan *plan;
    const struct cgroups *cgroups;
    int sync; /* the command's end */
    int pid;
    int pidfd;
    uint32_t step; /* that failed */
    const char *what;
};

_Noreturn static void become_command(const struct birth *birth)
{
    cgroups_enter(birth->cgroups, birth->sync); /* first: FD_PLAN may be one of its files */
    join_late(birth->sync);
    take_stdio();
    int kept = dup2(birth->sync, FD_PLAN);
    fcntl(kept, F_SETFD, FD_CLOEXEC);
    sys_close_range(FD_CONTROL, ~0U, 0);
    role_init(birth->plan, kept, LAUNCHER_EXEC);
}

static int birth_failed(struct birth *birth, uint32_t step, const char *what)
{
    birth->step = step;
    birth->what = what;
    return -1;
}

static int clone_command(struct birth *birth)
{
    birth->pid = clone_child(0, birth->cgroups->v2, &birth->pidfd);
    if (birth->pid == 0)
        become_command(birth);
    return birth->pid < 0 ? birth_failed(birth, NO_STEP, "clone") : 0;
}

static const struct {
    int type;
    const char *path;
} kinds[] = {
    {CLONE_NEWNET, "/proc/self/ns/net"}, {CLONE_NEWIPC, "/proc/self/ns/ipc"}, {CLONE_NEWUTS, "/proc/self/ns/uts"},
    {CLONE_NEWPID, "/proc/self/ns/pid"}, {CLONE_NEWNS, "/proc/self/ns/mnt"},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static int open_home(int home[KINDS])
{
    for (size_t i = 0; i < KINDS; i++)
        if (joined.types & kinds[i].type && (home[i] = open(kinds[i].path, O_RDONLY | O_CLOEXEC)) < 0)
            return -1;
    return 0;
}

static int go_home(const int home[KINDS])
{
    for (size_t i = 0; i < KINDS; i++)
        if (joined.types & kinds[i].type && (setns(home[i], kinds[i].type) || close(home[i])))
            return -1;
    return 0;
}

/*
 * Whoever is born into a PID namespace can be looked at from there, so it must have the container's root by then: this
 * process enters all namespaces, and leaves them when it has given birth. From a user namespace nobody comes back.
 */
static int give_birth(struct birth *birth)
{
    int home[KINDS], comes_back = joined.types && !(joined.types & CLONE_NEWUSER);
    if (take_score())
        return birth_failed(birth, score.step, "");
    if (comes_back && open_home(home))
        return birth_failed(birth, NO_STEP, "namespaces");
    if (joined.types && setns(joined.fd, joined.types))
        return birth_failed(birth, joined.step, "");
    if (clone_command(birth))
        return -1;
    if (comes_back && go_home(home)) {
        int failure = errno;
        sys_pidfd_send_signal(birth->pidfd, SIGKILL);
        errno = failure;
        return birth_failed(birth, NO_STEP, "namespaces");
    }
    give_score_back();
    return 0;
}

static int take(struct launch *launch, struct cgroups *cgroups, uint32_t step, uint32_t op, struct fields *fields)
{
    int fd, taken;
    switch (op) {
    case OP_ORPHAN:
        stdio.relay.state_dir = field_str(fields);
        return 0;
    case OP_STDIN:
        return make_stdio((int)field_u32(fields));
    case OP_STDIO_OWNER: {
        uint32_t uid = field_u32(fields);
        give_pipes(stdio.command, uid, field_u32(fields));
        return 0;
    }
    case OP_OOM_SCORE_ADJ:
        score.fields = *fields;
        score.is_given = 1;
        score.step = step;
        return 0;
    case OP_JOIN_PIDFD:
        fd = (int)field_u32(fields);
        join_by_pidfd(fd, (int)field_u32(fields), step);
        return 0;
    default:
        taken = cgroups_take(cgroups, op, fields);
        return taken == 0 ? step_run(launch, op, fields) : taken < 0 ? -1 : 0;
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
    int sync[2];

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (own_keyring())
        return failed(SECTION_OUTER, NO_STEP, errno, "a session keyring");
    if (load_plan(&plan))
        return failed(SECTION_OUTER, NO_STEP, errno, "");
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        if (take(&launch, &cgroups, step, op, &fields))
            return failed(SECTION_OUTER, step, errno, launch.detail);
    }
    /* One that is born in another user namespace would not be the host's. */
    if (joined.types & CLONE_NEWUSER && stdio.relay_pidfd < 0 && start_early_relay())
        return failed(SECTION_OUTER, NO_STEP, errno, "relay");
    /* After a relay is born: its copy of the command's end would keep the socket open. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync))
        return failed(SECTION_OUTER, NO_STEP, errno, "socketpair");
    struct birth birth = {.plan = &plan, .cgroups = &cgroups, .sync = sync[1]};
    if (give_birth(&birth))
        return failed(SECTION_OUTER, birth.step, errno, birth.what);
    close(sync[1]);
    cgroups_left(&cgroups);
    leave_stdio();
    int result = await_exec(sync[0], birth.pid, birth.pidfd);
    close(sync[0]);
    if (result == 0) {
        announce(MSG_RUNNING, realtime_ns());
        supervise(birth.pid, birth.pidfd);
    }
    end_stdio();
    return result;
}
