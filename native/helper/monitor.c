/*
 * role monitor: stays beside one container for its whole life, whatever happens
 * to the daemon. It starts init, writes the container's output to its log,
 * answers whoever connects to its socket, and makes the exit record durable
 * before the last connection closes. One poll loop, no threads, fixed buffers;
 * once the container runs, no error of this process ends it.
 */
#include "../lib/sys.h"
#include "attach.h"
#include "helper.h"
#include "log.h"
#include "../lib/wire.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#define CLIENTS 12
#define DRAIN_MS 5000

enum phase { PHASE_CREATING, PHASE_CREATED, PHASE_STARTING, PHASE_RUNNING, PHASE_ENDED };

struct client {
    int fd;
    struct wire_in *in;
};
static struct wire_in inputs[CLIENTS]; /* a page each, and most are never touched */

static struct {
    enum phase phase;
    int pid;
    int pidfd;
    uint64_t pid_start;
    uint64_t started_at;
    uint64_t finished_at;
    uint32_t exit_code;
    uint32_t signal;
    int sync;
    int listener;
    struct cgroups cgroups;
    int stdin_mode;
    int output[2]; /* read ends of stdout and stderr, or a terminal's master and nothing */
    int terminal;  /* its other side, kept open so that the container may close its own for a while; or -1 */
    struct client clients[CLIENTS];
    struct report ready;
    struct step_times times; /* of the outer section */
    uint64_t began_ns;
    uint64_t cloned_ns;
    struct wire_out out;
    /* Only with OP_OCI_RUNTIME: another program makes the container, and its process becomes this one's child. */
    struct {
        int is_used;
        uint32_t step;
        const char *pid_file;
        char **start;
        char **envp;
        int starter_pid;
        int starter; /* pidfd of the program that starts it, or -1 */
    } oci;
    uint32_t orphans; /* commands of a daemon that was gone when they ended, of which no daemon has heard */
    uint64_t orphans_lost;
    int awaits_hooks;       /* init does, until PROCEED */
    sigset_t *while_polling; /* no signal is blocked but SIGCHLD, and that only outside of poll; or NULL */
} m;

/* ---- messages ---- */

static void drop_client(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

static void broadcast(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (m.clients[i].fd >= 0 && wire_send(m.clients[i].fd, &m.out))
            drop_client(&m.clients[i]);
}

static void message_created(void)
{
    wire_begin(&m.out, MSG_CREATED);
    wire_u32(&m.out, (uint32_t)m.pid);
    wire_u64(&m.out, m.pid_start);
    wire_u32(&m.out, m.ready.uid);
    wire_u32(&m.out, m.ready.gid);
    wire_bytes(&m.out, m.ready.groups, m.ready.group_count * sizeof m.ready.groups[0]);
}

static void message_times(void)
{
    wire_begin(&m.out, MSG_TIMES);
    wire_u64(&m.out, m.began_ns);
    wire_bytes(&m.out, m.times.ns, m.times.count * sizeof m.times.ns[0]);
    wire_u64(&m.out, m.cloned_ns);
    wire_u64(&m.out, m.ready.times.began);
    wire_bytes(&m.out, m.ready.times.ns, m.ready.times.count * sizeof m.ready.times.ns[0]);
    wire_u64(&m.out, monotonic_ns());
}

static void message_prepared(void)
{
    wire_begin(&m.out, MSG_PREPARED);
    wire_u32(&m.out, m.ready.uid);
    wire_u32(&m.out, m.ready.gid);
    wire_str(&m.out, m.ready.home);
    wire_bytes(&m.out, m.ready.groups, m.ready.group_count * sizeof m.ready.groups[0]);
}

static void message_hooks(void)
{
    wire_begin(&m.out, MSG_HOOKS);
    wire_u32(&m.out, (uint32_t)m.pid);
}

static void message_running(void)
{
    wire_begin(&m.out, MSG_RUNNING);
    wire_u64(&m.out, m.started_at);
}

static void message_exited(void)
{
    wire_begin(&m.out, MSG_EXITED);
    wire_u32(&m.out, m.exit_code);
    wire_u32(&m.out, m.signal);
    wire_u64(&m.out, m.finished_at);
    wire_u64(&m.out, log_dropped());
}

static void message_failed(uint32_t section, uint32_t step, int error, const char *detail)
{
    wire_begin(&m.out, MSG_FAILED);
    wire_u32(&m.out, section);
    wire_u32(&m.out, step);
    wire_u32(&m.out, (uint32_t)error);
    wire_str(&m.out, detail);
}

static void message_orphans(void)
{
    wire_begin(&m.out, MSG_ORPHANS);
    wire_u32(&m.out, m.orphans);
    wire_u64(&m.out, m.orphans_lost);
}

/* ---- records for a daemon that comes later ---- */

/* Puts a small file into the container's state directory, whole or not at all. */
static void write_record(const char *name, const char *text)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int fd = openat(FD_STATE_DIR, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    size_t length = strlen(text);
    int whole = write(fd, text, length) == (ssize_t)length;
    close(fd);
    if (whole)
        renameat(FD_STATE_DIR, temporary, FD_STATE_DIR, name);
}

static void record_exit(void)
{
    char text[128];
    snprintf(text, sizeof text, "%u %u %llu %llu %llu\n", m.exit_code, m.signal, (unsigned long long)m.started_at,
             (unsigned long long)m.finished_at, (unsigned long long)log_dropped());
    write_record("exit", text);
}

static void record_failure(uint32_t section, uint32_t step, int error, const char *detail)
{
    char text[64 + DETAIL_MAX];
    snprintf(text, sizeof text, "%u %u %d %s\n", section, step, error, detail);
    write_record("failed", text);
}

static int fail(uint32_t section, uint32_t step, int error, const char *detail)
{
    record_failure(section, step, error, detail);
    message_failed(section, step, error, detail);
    broadcast();
    return 1;
}

/* ---- output ---- */

#define TELL_DROPPED_MS 1000

static void reopen_log(struct client *client)
{
    wire_begin(&m.out, MSG_LOG_REOPENED);
    wire_u32(&m.out, (uint32_t)log_reopen());
    if (wire_send(client->fd, &m.out))
        drop_client(client);
}

static void message_dropped(void)
{
    wire_begin(&m.out, MSG_LOG_DROPPED);
    wire_u64(&m.out, log_dropped());
    wire_u32(&m.out, (uint32_t)log_error());
}

/* Output that the log has lost is told of, but not a loss at a time; how long poll may wait for that, in ms, or -1. */
static int watch_log(void)
{
    static uint64_t told, told_at;
    int wait = log_watch();
    if (log_dropped() == told)
        return wait;
    uint64_t now = monotonic_ns(), next = told_at + TELL_DROPPED_MS * 1000000ull;
    if (told_at > 0 && now < next)
        return (int)((next - now) / 1000000) + 1;
    told = log_dropped();
    told_at = now;
    message_dropped();
    broadcast();
    return wait;
}

#define PIPE_BYTES 65536
#define BUSY_PIPE_BYTES (1 << 20)

static struct {
    _Alignas(4096) char data[LOG_READ_BYTES];
    size_t touched;
    int has_large_pipe[2];
} input;

/* A container that fills its pipe gets a larger one, so that the two of them need not wait for each other. */
static void note_busy(int which, size_t length)
{
    if (length > input.touched)
        input.touched = length;
    if (length < PIPE_BYTES || input.has_large_pipe[which])
        return;
    input.has_large_pipe[which] = 1;
    fcntl(m.output[which], F_SETPIPE_SZ, BUSY_PIPE_BYTES); /* it stays as it is where the kernel does not allow that */
}

/* A page may stay. */
static int is_large(void)
{
    return input.touched > 4096 || log_is_large() || attach_is_large();
}

/* Nothing has come for a while: an idle monitor is small. */
static void rest(void)
{
    for (int i = 0; i < 2; i++) {
        if (input.has_large_pipe[i] && m.output[i] >= 0)
            fcntl(m.output[i], F_SETPIPE_SZ, PIPE_BYTES);
        input.has_large_pipe[i] = 0;
    }
    madvise(input.data, sizeof input.data, MADV_DONTNEED);
    input.touched = 0;
    log_rest();
    attach_rest();
}

/* Takes what is there once; 0 when there is nothing more now. */
static int read_once(int which)
{
    size_t limit = attach_has_clients(which) ? ATTACH_CHUNK : sizeof input.data;
    ssize_t n = read(m.output[which], input.data, limit);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n > 0) {
        note_busy(which, (size_t)n);
        log_feed(which, input.data, (size_t)n);
        attach_feed(which, input.data, (size_t)n);
        return 1;
    }
    log_end(which);
    attach_close(which);
    close(m.output[which]);
    m.output[which] = -1;
    return 0;
}

/* More often than once, since a poll costs as much as a line; and not for long, since others wait, too. */
#define READS 16

static void read_output(int which)
{
    for (int i = 0; i < READS && attach_is_ready(which) && read_once(which); i++)
        ;
}

/* ---- start ---- */

static int listen_in_state_dir(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/sock", FD_STATE_DIR);
    m.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (m.listener < 0)
        return -1;
    return bind(m.listener, (struct sockaddr *)&address, sizeof address) || listen(m.listener, CLIENTS) ? -1 : 0;
}

/* A daemon that died before the socket was there could never find this process again. */
static int daemon_is_gone(void)
{
    struct pollfd control = {.fd = FD_CONTROL, .events = POLLIN};
    return poll(&control, 1, 0) > 0 && control.revents & POLLHUP;
}

struct start {
    uint64_t namespaces;
    int child_stdio[3];
    struct {
        const char *path; /* NULL: none */
        uint32_t line_max;
        uint32_t step; /* of the plan */
    } log;
};

static int join_pid(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int failed = setns(fd, CLONE_NEWPID);
    close(fd);
    return failed;
}

static void on_child(int signal)
{
    (void)signal; /* poll ends, that is all */
}

/* The runtime's processes end, and what they leave becomes this one's: the container, and strays. */
static int use_runtime(struct fields *fields)
{
    static sigset_t none;
    sigset_t child;
    struct sigaction action = {.sa_handler = on_child};
    m.oci.is_used = 1;
    m.oci.pid_file = field_str(fields);
    m.oci.start = field_vector(fields);
    m.oci.envp = field_vector(fields);
    sigemptyset(&none);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    m.while_polling = &none;
    if (!m.oci.start || !m.oci.envp || sigaction(SIGCHLD, &action, NULL) || sigprocmask(SIG_BLOCK, &child, NULL))
        return -1;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static int take(struct start *start, uint32_t step, uint32_t op, struct fields *fields)
{
    int taken;
    switch (op) {
    case OP_CLONE_FLAGS:
        start->namespaces = field_u64(fields);
        return 0;
    case OP_LOG:
        start->log.path = field_str(fields);
        start->log.line_max = field_u32(fields);
        start->log.step = step;
        return 0;
    case OP_STDIN:
        m.stdin_mode = (int)field_u32(fields);
        return 0;
    case OP_OCI_RUNTIME:
        return use_runtime(fields);
    case OP_JOIN_PID:
        return join_pid(field_str(fields));
    default:
        taken = cgroups_take(&m.cgroups, op, fields);
        errno = taken == 0 ? ENOSYS : errno;
        return taken == 1 ? 0 : -1;
    }
}

/* What the daemon has given this process: a /dev/null that is not the host's. */
static int no_stdio(struct start *start, int i)
{
    return (start->child_stdio[i] = fcntl(0, F_DUPFD_CLOEXEC, 3)) < 0 ? -1 : 0;
}

/* Without a log, too, somebody may attach. */
static int make_output(struct start *start, int which)
{
    int ends[2];
    if (m.stdin_mode & STDIN_TERMINAL)
        return no_stdio(start, 1 + which);
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    m.output[which] = ends[0];
    start->child_stdio[1 + which] = ends[1];
    return 0;
}

static int make_stdin(struct start *start)
{
    int ends[2];
    if (m.stdin_mode == 0 || m.stdin_mode & STDIN_TERMINAL)
        return no_stdio(start, 0);
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    start->child_stdio[0] = ends[0];
    attach_input(ends[1], m.stdin_mode);
    return 0;
}

/* In the child: its own stdio and the sync socket, nothing else of ours. */
_Noreturn static void become_init(const struct plan *plan, struct start *start, int sync)
{
    cgroups_enter(&m.cgroups, sync); /* first: a number below may be that of one of its files */
    for (int i = 0; i < 3; i++)
        dup2(start->child_stdio[i], i);
    dup2(sync, FD_PLAN);
    fcntl(FD_PLAN, F_SETFD, FD_CLOEXEC);
    sys_close_range(FD_PLAN + 1, ~0U, 0);
    role_init(plan, FD_PLAN, LAUNCHER_MONITOR);
}

static int start_init(const struct plan *plan, struct start *start, const char **which)
{
    int sync[2];
    *which = "stdio";
    if (make_stdin(start) || make_output(start, 0) || make_output(start, 1))
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync))
        return -1;
    *which = "clone";
    m.cloned_ns = monotonic_ns();
    m.pid = clone_child(start->namespaces, m.cgroups.v2, &m.pidfd);
    if (m.pid < 0)
        return -1;
    if (m.pid == 0)
        become_init(plan, start, sync[1]);
    close(sync[1]);
    m.sync = sync[0];
    for (int i = 0; i < 3; i++)
        close(start->child_stdio[i]);
    m.pid_start = process_start_time(m.pid);
    cgroups_left(&m.cgroups);
    return 0;
}

/* For a daemon that must end this process although it does not answer. */
static void record_self(void)
{
    char text[64];
    snprintf(text, sizeof text, "%d %llu\n", getpid(), (unsigned long long)process_start_time(getpid()));
    write_record("monitor", text);
}

/* Most of what a launch takes is the mount of its root: it is made here while init is at its first steps. */
static void send_root(const struct plan *plan)
{
    static struct launch launch;
    struct fields fields;
    size_t offset = 0;
    uint32_t op;
    while (plan_next(plan, SECTION_INNER, &offset, &op, &fields)) {
        if (op == OP_ROOT_LABEL)
            launch.root_label = field_str(&fields);
        if (op != OP_ROOT_OVERLAY)
            continue;
        (void)field_str(&fields); /* the stage is init's */
        int mount = make_root(&launch, &fields);
        struct root_report report = {.error = mount < 0 ? errno : 0};
        memcpy(report.detail, launch.detail, sizeof report.detail);
        if (mount < 0) {
            send(m.sync, &report, sizeof report, MSG_NOSIGNAL);
            return;
        }
        send_fds(m.sync, &report, sizeof report, &mount, 1);
        close(mount);
        return;
    }
}

/* Init, which has done nothing that would stay, is not to go on; when the daemon hears of it, its cgroup is empty. */
static void give_init_up(void)
{
    int failure = errno;
    sys_pidfd_send_signal(m.pidfd, SIGKILL);
    reap(m.pidfd, &m.exit_code, &m.signal);
    errno = failure;
}

/* What need not be there before init is. 0 to go on. */
static int accompany(const struct plan *plan, const struct start *start)
{
    if (listen_in_state_dir()) {
        give_init_up();
        return fail(SECTION_OUTER, NO_STEP, errno, "bind the monitor's socket");
    }
    if (daemon_is_gone()) {
        give_init_up();
        return 1;
    }
    record_self();
    send_root(plan);
    if (start->log.path && log_open(start->log.path, start->log.line_max)) {
        give_init_up();
        return fail(SECTION_OUTER, start->log.step, errno, "");
    }
    return 0;
}

static int begin(void)
{
    struct plan plan;
    struct start start = {0};
    struct fields fields;
    const char *which = "";
    size_t offset = 0;
    uint32_t op, step = 0;

    if (own_keyring())
        return fail(SECTION_OUTER, NO_STEP, errno, "a session keyring");
    if (load_plan(&plan))
        return fail(SECTION_OUTER, NO_STEP, errno, "load the plan");
    steps_begin(&m.times);
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        if (op == OP_OCI_RUNTIME)
            m.oci.step = step;
        if (take(&start, step, op, &fields))
            return fail(SECTION_OUTER, step, errno, "");
        step_ended(&m.times);
    }
    if (start_init(&plan, &start, &which))
        return fail(SECTION_OUTER, step, errno, which);
    if (accompany(&plan, &start))
        return 1;
    if (!m.oci.is_used) /* its words are needed for the start */
        munmap((void *)(uintptr_t)(plan.section[0] - sizeof(struct plan_header)),
               sizeof(struct plan_header) + plan.bytes[0] + plan.bytes[1]);
    return 0;
}

/* ---- a container that an OCI runtime makes ---- */

static int runtime_failed(const char *what, uint32_t exit_code, uint32_t sig)
{
    char detail[128];
    if (sig)
        snprintf(detail, sizeof detail, "%s was ended by signal %u", what, sig);
    else
        snprintf(detail, sizeof detail, "%s ended with status %u", what, exit_code);
    return fail(SECTION_OUTER, m.oci.step, ECANCELED, detail);
}

static int read_pid(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? atoi(text) : -1;
}

/* Its create has ended: 0 when there is a container now, which has become a child of this process. */
static int runtime_created(void)
{
    uint32_t exit_code, sig;
    reap(m.pidfd, &exit_code, &sig);
    close(m.pidfd);
    m.pidfd = -1;
    if (exit_code)
        return runtime_failed("create", exit_code, sig);
    m.pid = read_pid(m.oci.pid_file);
    m.pidfd = m.pid > 0 ? sys_pidfd_open(m.pid, 0) : -1;
    if (m.pidfd < 0)
        return fail(SECTION_OUTER, m.oci.step, errno, "create left no process");
    m.pid_start = process_start_time(m.pid);
    m.phase = PHASE_CREATED;
    message_created();
    broadcast();
    return 0;
}

static void runtime_start(void)
{
    m.oci.starter_pid = clone_child(0, -1, &m.oci.starter);
    if (m.oci.starter_pid)
        return;
    int nothing = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(nothing, i);
    sys_close_range(3, ~0U, 0);
    execve(m.oci.start[0], m.oci.start, m.oci.envp);
    _exit(127);
}

/* Its start has ended: 0 when the container runs, or has run already. */
static int runtime_started(void)
{
    uint32_t exit_code, sig;
    reap(m.oci.starter, &exit_code, &sig);
    close(m.oci.starter);
    m.oci.starter = -1;
    if (exit_code) {
        sys_pidfd_send_signal(m.pidfd, SIGKILL);
        reap(m.pidfd, &m.exit_code, &m.signal);
        return runtime_failed("start", exit_code, sig);
    }
    m.started_at = realtime_ns();
    m.phase = PHASE_RUNNING;
    message_running();
    broadcast();
    return 0;
}

/* Takes the exit of processes that nobody else waits for. One that has a pidfd here is left to it. */
static void reap_strays(void)
{
    siginfo_t info;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
            return;
        if (info.si_pid == m.pid || (m.oci.starter >= 0 && info.si_pid == m.oci.starter_pid))
            return;
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* ---- events ---- */

static void go(void)
{
    char word = SYNC_GO;
    if (m.phase != PHASE_CREATED)
        return;
    m.phase = PHASE_STARTING;
    if (m.oci.is_used) {
        runtime_start();
        return;
    }
    (void)!send(m.sync, &word, 1, MSG_NOSIGNAL);
}

/* The bundle is there: the child may become the runtime's create. Or the daemon's hooks have run: init goes on. */
static void proceed(void)
{
    char word = SYNC_GO;
    if ((m.oci.is_used || m.awaits_hooks) && m.phase == PHASE_CREATING && m.sync >= 0)
        (void)!send(m.sync, &word, 1, MSG_NOSIGNAL);
    m.awaits_hooks = 0;
}

static void send_signal(const unsigned char *payload)
{
    if (m.phase != PHASE_ENDED && m.pidfd >= 0)
        sys_pidfd_send_signal(m.pidfd, (int)(payload[0] | payload[1] << 8));
}

static void resize(const unsigned char *payload)
{
    struct winsize size = {.ws_row = (unsigned short)(payload[0] | payload[1] << 8),
                           .ws_col = (unsigned short)(payload[4] | payload[5] << 8)};
    if (m.stdin_mode & STDIN_TERMINAL && m.output[0] >= 0)
        ioctl(m.output[0], TIOCSWINSZ, &size);
}

static void add_orphan(const unsigned char *payload)
{
    for (int i = 0; i < 8; i++)
        m.orphans_lost += (uint64_t)payload[i] << (8 * i);
    m.orphans++;
    message_orphans();
    broadcast();
}

/* The connection is one of the container's streams from here on. */
static void attach_client(struct client *client, uint32_t stream)
{
    int failure = client->in->length > 0 ? EPROTO : attach_add(client->fd, stream);
    wire_begin(&m.out, MSG_ATTACHED);
    wire_u32(&m.out, (uint32_t)failure);
    wire_send(client->fd, &m.out);
    if (failure)
        drop_client(client);
    client->fd = -1;
}

static void serve(struct client *client)
{
    unsigned char payload[WIRE_MAX_PAYLOAD];
    size_t length;
    if (wire_fill(client->in, client->fd) <= 0) {
        drop_client(client);
        return;
    }
    for (int type; client->fd >= 0 && (type = wire_take(client->in, payload, &length)) != 0;) {
        if (type == MSG_START)
            go();
        else if (type == MSG_PROCEED)
            proceed();
        else if (type == MSG_KILL && length == 4)
            send_signal(payload);
        else if (type == MSG_REOPEN_LOG)
            reopen_log(client);
        else if (type == MSG_RESIZE && length == 8)
            resize(payload);
        else if (type == MSG_ORPHANED && length == 8)
            add_orphan(payload);
        else if (type == MSG_ORPHANS_HEARD)
            m.orphans = 0, m.orphans_lost = 0;
        else if (type == MSG_ATTACH && length == 4)
            attach_client(client, payload[0]);
        else if (type < 0)
            drop_client(client);
    }
}

/* A daemon that connects hears at once how far things are. */
static void accept_client(void)
{
    int fd = accept4(m.listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &m.clients[i];
        if (client->fd >= 0)
            continue;
        client->fd = fd;
        client->in->length = 0;
        if (m.phase >= PHASE_CREATED) {
            message_created();
            wire_send(fd, &m.out);
        }
        if (m.phase == PHASE_RUNNING) {
            message_running();
            wire_send(fd, &m.out);
        }
        if (log_dropped() > 0) {
            message_dropped();
            wire_send(fd, &m.out);
        }
        if (m.orphans > 0) {
            message_orphans();
            wire_send(fd, &m.out);
        }
        return;
    }
    close(fd);
}

/* Init went on as another child of this process; the one that was started ends. */
static void follow_init(int pid)
{
    uint32_t exit_code, sig;
    reap(m.pidfd, &exit_code, &sig);
    close(m.pidfd);
    m.pid = pid;
    m.pidfd = sys_pidfd_open(pid, 0); /* until it is reaped the number is its own */
    m.pid_start = process_start_time(pid);
}

static void take_terminal(const int fds[FDS_MAX])
{
    m.output[0] = fds[0];
    m.terminal = fds[1];
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    if (m.stdin_mode & STDIN_OPEN)
        attach_input(fcntl(fds[0], F_DUPFD_CLOEXEC, 0), m.stdin_mode);
}

/* 0 to go on, 1 when init has failed. */
static int hear_init(void)
{
    static struct report report;
    int fds[FDS_MAX];
    ssize_t n = receive_fds(m.sync, &report, sizeof report, fds, MSG_DONTWAIT);
    /* ECONNRESET: init has ended with its root unread. What it said before comes next, and after that the end. */
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
        return 0;
    if (n == (ssize_t)sizeof report && report.kind == REPORT_MOVED) {
        follow_init(report.pid);
        return 0;
    }
    if (n == (ssize_t)sizeof report && report.kind == REPORT_TERMINAL) {
        take_terminal(fds);
        return 0;
    }
    if (n == (ssize_t)sizeof report && report.kind == REPORT_HOOKS) {
        m.awaits_hooks = 1;
        message_hooks();
        broadcast();
        return 0;
    }
    if (n == (ssize_t)sizeof report && report.kind == REPORT_READY) {
        m.ready = report;
        message_times();
        broadcast();
        if (m.oci.is_used) {
            message_prepared();
            broadcast();
            return 0;
        }
        m.phase = PHASE_CREATED;
        message_created();
        broadcast();
        return 0;
    }
    close(m.sync);
    m.sync = -1;
    if (n == 0 && m.oci.is_used) /* it has become the runtime's create; or it has ended, as that shows at once */
        return 0;
    if (n == (ssize_t)sizeof report || m.phase != PHASE_STARTING)
        reap(m.pidfd, &m.exit_code, &m.signal); /* so that its cgroup is empty when the daemon hears of it */
    if (n == (ssize_t)sizeof report)
        return fail(report.section, report.step, report.error, report.detail);
    if (m.phase != PHASE_STARTING)
        return fail(SECTION_OUTER, NO_STEP, ECHILD, m.signal == SIGKILL ? "killed before it was set up" : "init ended");
    m.started_at = realtime_ns();
    m.phase = PHASE_RUNNING;
    message_running();
    broadcast();
    return 0;
}

/* Output that was on its way when the container ended, for at most DRAIN_MS. */
static void drain(void)
{
    uint64_t until = monotonic_ns() + DRAIN_MS * 1000000ull;
    while (m.output[0] >= 0 || m.output[1] >= 0) {
        struct pollfd watched[2] = {{.fd = m.output[0], .events = POLLIN}, {.fd = m.output[1], .events = POLLIN}};
        uint64_t now = monotonic_ns();
        if (now >= until || poll(watched, 2, (int)((until - now) / 1000000) + 1) < 0)
            return;
        for (int i = 0; i < 2; i++) {
            attach_flush();
            if (m.output[i] >= 0 && watched[i].revents)
                read_output(i);
        }
    }
}

/* A container that an OCI runtime has made, and that ended before it was told to start. */
static int ended_unstarted(void)
{
    reap(m.pidfd, &m.exit_code, &m.signal);
    return fail(SECTION_OUTER, NO_STEP, ECHILD, "ended before it was started");
}

static void end(void)
{
    m.finished_at = realtime_ns();
    reap(m.pidfd, &m.exit_code, &m.signal);
    m.phase = PHASE_ENDED;
    if (m.cgroups.kill >= 0) /* whatever it left running, in a PID namespace that is not its own */
        (void)!write(m.cgroups.kill, "1", 1);
    if (m.terminal >= 0)
        close(m.terminal);
    drain();
    for (int i = 0; i < 2; i++) { /* what somebody else holds open ends here, too */
        if (m.output[i] >= 0)
            log_end(i);
        attach_close(i);
    }
    log_close();
    record_exit();
    message_exited();
    broadcast();
}

/*
 * Index of what is polled: the fixed ones, then the clients. poll(2) looks at them in this order, so that output of the
 * command's is never seen without its execve: who holds the lock of its pipe cannot keep that from being told.
 */
enum {
    P_LISTEN,
    P_CHILD,
    P_OUT,
    P_ERR,
    P_SYNC,
    P_STARTER,
    P_CLIENT,
    P_ATTACHED = P_CLIENT + CLIENTS,
    P_COUNT = P_ATTACHED + ATTACH_POLLED
};

/* poll(2), in which alone SIGCHLD is heard where it is needed. */
static int wait_for(struct pollfd *watched, int wait_ms)
{
    struct timespec limit = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    int happened = ppoll(watched, P_COUNT, wait_ms < 0 ? NULL : &limit, m.while_polling);
    if (m.oci.is_used)
        reap_strays();
    return happened;
}

/* Once memory was needed, it is given back when so long nothing has come. */
#define REST_AFTER_MS 100

/* How long poll may wait: the shorter of two times, of which -1 is for ever. */
static int sooner(int one_ms, int other_ms)
{
    return one_ms < 0 || (other_ms >= 0 && other_ms < one_ms) ? other_ms : one_ms;
}

static int loop(void)
{
    for (;;) {
        struct pollfd watched[P_COUNT] = {
            [P_LISTEN] = {.fd = m.listener, .events = POLLIN}, [P_SYNC] = {.fd = m.sync, .events = POLLIN},
            [P_CHILD] = {.fd = m.pidfd, .events = POLLIN},
            [P_OUT] = {.fd = attach_is_ready(0) ? m.output[0] : -1, .events = POLLIN},
            [P_ERR] = {.fd = attach_is_ready(1) ? m.output[1] : -1, .events = POLLIN},
            [P_STARTER] = {.fd = m.oci.starter, .events = POLLIN},
        };
        for (int i = 0; i < CLIENTS; i++)
            watched[P_CLIENT + i] = (struct pollfd){.fd = m.clients[i].fd, .events = POLLIN};
        int wait = sooner(attach_watch(&watched[P_ATTACHED]), watch_log());
        int happened = wait_for(watched, is_large() ? sooner(wait, REST_AFTER_MS) : wait);
        if (happened == 0 && is_large())
            rest();
        if (happened < 0)
            continue;
        if (watched[P_SYNC].revents && hear_init())
            return 1;
        attach_serve(&watched[P_ATTACHED]);
        for (int i = 0; i < 2; i++)
            if (watched[P_OUT + i].revents)
                read_output(i);
        if (watched[P_STARTER].revents && runtime_started())
            return 1;
        if (watched[P_CHILD].revents && m.sync < 0 && m.oci.starter < 0) {
            if (m.oci.is_used && m.phase == PHASE_CREATING) {
                if (runtime_created())
                    return 1;
                continue;
            }
            if (m.oci.is_used && m.phase == PHASE_CREATED)
                return ended_unstarted();
            end();
            return 0;
        }
        for (int i = 0; i < CLIENTS; i++)
            if (watched[P_CLIENT + i].revents && m.clients[i].fd >= 0)
                serve(&m.clients[i]);
        if (watched[P_LISTEN].revents)
            accept_client();
    }
}

int role_monitor(void)
{
    prctl(PR_SET_NAME, "berth-monitor", 0, 0, 0);
    m.began_ns = monotonic_ns();
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no process of the container's may look into it, or into init */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that has come to a limit is a log that cannot be written */
    setsid();
    umask(027); /* its log is for a group to read, 0640 */
    (void)!chdir("/");
    m.cgroups.v2 = m.cgroups.kill = -1;
    m.oci.starter = -1;
    m.sync = m.listener = m.terminal = m.pidfd = m.output[0] = m.output[1] = -1;
    for (int i = 0; i < CLIENTS; i++)
        m.clients[i] = (struct client){.fd = -1, .in = &inputs[i]};
    m.clients[0].fd = FD_CONTROL;
    return begin() || loop();
}
