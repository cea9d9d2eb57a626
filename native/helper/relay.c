/*
 * The relay of an exec: carries a command's stdio between the command's pipes
 * and the daemon's sockets, in a process of its own.
 *
 * The command needs pipes (a socket cannot be opened as /dev/stdout), and the
 * daemon must not touch them: a process that splices from an empty socket into
 * its stdout holds that pipe's lock while it waits, and whoever reads the pipe
 * then waits in the kernel, O_NONBLOCK or not (seen on Linux 6.18). This process
 * may wait there; nobody depends on it but the command it serves.
 *
 *     daemon 0 (socket) ──▶ pipe ──▶ command's stdin
 *     daemon 1 (socket) ◀── pipe ◀── command's stdout        the same for 2
 *
 * Once the command has ended (the end of `ended`), what its pipes still hold is
 * carried, without waiting for others that have them open, and all is closed.
 * A terminal is carried in the same way, with both directions in one.
 *
 * Output in a pipe is spliced: its pages go into the socket as they are.
 */
#include "helper.h"
#include "../lib/sys.h"
#include "../lib/wire.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

struct flow {
    int from;
    int to;
    int is_output;
    int is_spliced;
    int is_full; /* spliced: `to` takes nothing now */
    int is_large;
    int left; /* bytes to be carried yet, once the command has ended */
    size_t have;
    size_t sent;
    char data[65536];
};

static struct flow flows[3];

static uint64_t lost;       /* bytes of output that the daemon was not there for */
static int is_orphaned;     /* the command has ended after the daemon */

/* What a terminal holds at most, and more: how much that is, the kernel does not say. */
#define TERMINAL_HOLDS (256 * 1024)
static int is_terminal;

static void close_flow(struct flow *flow)
{
    if (flow->from >= 0)
        close(flow->from);
    if (flow->to >= 0)
        close(flow->to);
    flow->from = flow->to = -1;
    flow->is_full = 0;
    flow->have = flow->sent = 0;
}

#define PIPE_BYTES 65536
#define BUSY_BYTES (1 << 20)

/* A command that fills its pipe gets room, so that all who carry its output need not wait for each other. */
static void note_busy(struct flow *flow, size_t length)
{
    int bytes = BUSY_BYTES;
    if (length < PIPE_BYTES || flow->is_large)
        return;
    flow->is_large = 1;
    fcntl(flow->from, F_SETPIPE_SZ, bytes); /* both stay as they are where the kernel does not allow it */
    setsockopt(flow->to, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
}

/* Whether something is in the pipe, and so the socket is what is full. */
static int has_input(const struct flow *flow)
{
    int bytes = 0;
    return ioctl(flow->from, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* Moves what is there, as far as the socket takes it. */
static void move(struct flow *flow, int is_ending)
{
    size_t wanted = is_ending ? (size_t)flow->left : BUSY_BYTES;
    ssize_t n = wanted == 0 ? 0 : splice(flow->from, NULL, flow->to, NULL, wanted, SPLICE_F_NONBLOCK);
    flow->is_full = 0;
    if (n > 0) {
        flow->left -= (int)n;
        note_busy(flow, (size_t)n);
    } else if (n == 0) {
        close_flow(flow);
    } else if (errno == EAGAIN) {
        flow->is_full = has_input(flow);
        if (is_ending && !flow->is_full)
            close_flow(flow);
    } else if (errno == EINVAL) {
        flow->is_spliced = 0;
    } else if (errno != EINTR) {
        flow->is_spliced = 0; /* the daemon is gone: what comes is taken and dropped */
        close(flow->to);
        flow->to = -1;
    }
}

/* Takes what is there. 1: something, or the flow is over; 0: nothing now. */
static int fill(struct flow *flow, int is_ending)
{
    size_t wanted = is_ending && (size_t)flow->left < sizeof flow->data ? (size_t)flow->left : sizeof flow->data;
    ssize_t n = wanted == 0 ? 0 : read(flow->from, flow->data, wanted);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        close_flow(flow);
    else
        flow->have = (size_t)n;
    flow->left -= (int)n;
    flow->sent = 0;
    return 1;
}

/* A daemon that is gone must not stop the command: its output is taken and dropped. */
static void drain(struct flow *flow)
{
    ssize_t n = flow->to < 0 ? (ssize_t)(flow->have - flow->sent)
                             : write(flow->to, flow->data + flow->sent, flow->have - flow->sent);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0 && !flow->is_output) {
        close_flow(flow); /* the command does not read any more */
        return;
    }
    if (n < 0) {
        close(flow->to);
        flow->to = -1;
        n = (ssize_t)(flow->have - flow->sent);
    }
    if (flow->to < 0 && flow->is_output)
        lost += (uint64_t)n;
    flow->sent += (size_t)n;
    if (flow->sent == flow->have)
        flow->have = flow->sent = 0;
}

static int is_busy(const struct flow *flow)
{
    return (flow->have > 0 || flow->is_full) && flow->to >= 0;
}

/* The command has ended: so much is its own; who else writes there now is not waited for. */
static void begin_ending(void)
{
    close_flow(&flows[0]);
    for (int i = 1; i < 3; i++)
        if (is_terminal)
            flows[i].left = TERMINAL_HOLDS;
        else if (flows[i].from >= 0 && ioctl(flows[i].from, FIONREAD, &flows[i].left))
            flows[i].left = 0;
}

/* Did it outlive the daemon? */
static void hear_end(int ended, int flags)
{
    char word = 0;
    is_orphaned = recv(ended, &word, 1, flags) == 1 && word == RELAY_ORPHANED;
}

/* One round; 0 once nothing is left to carry. */
static int carry(int ended, int *is_ending)
{
    struct pollfd watched[4] = {{.fd = *is_ending ? -1 : ended, .events = POLLIN}};
    int open_flows = 0;
    for (int i = 0; i < 3; i++) {
        struct flow *flow = &flows[i];
        watched[i + 1].fd = is_busy(flow) ? flow->to : *is_ending ? -1 : flow->from;
        watched[i + 1].events = is_busy(flow) ? POLLOUT : POLLIN;
        open_flows += flow->from >= 0;
    }
    if (open_flows == 0)
        return 0;
    if (poll(watched, 4, *is_ending && !is_busy(&flows[1]) && !is_busy(&flows[2]) ? 0 : -1) < 0)
        return errno == EINTR;
    if (watched[0].revents) {
        *is_ending = 1;
        hear_end(ended, MSG_DONTWAIT);
        begin_ending();
    }
    for (int i = 0; i < 3; i++) {
        struct flow *flow = &flows[i];
        if (*is_ending && flow->from >= 0 && flow->to < 0) {
            lost += (uint64_t)flow->left + (flow->have - flow->sent);
            close_flow(flow);
        } else if (flow->is_spliced && flow->from >= 0 && (watched[i + 1].revents || (*is_ending && !flow->is_full)))
            move(flow, *is_ending);
        else if (flow->is_spliced)
            continue;
        else if (flow->have > 0 && (watched[i + 1].revents || flow->to < 0))
            drain(flow);
        else if (flow->from >= 0 && flow->have == 0 && (watched[i + 1].revents || *is_ending) && !fill(flow, *is_ending) && *is_ending)
            close_flow(flow); /* empty, and the command has ended */
    }
    return 1;
}

/* Field by field: most of a flow is memory that is seldom touched. */
static void set_flow(int which, int from, int to, int is_spliced)
{
    struct flow *flow = &flows[which];
    flow->from = from;
    flow->to = to;
    flow->is_output = which > 0;
    flow->is_spliced = is_spliced;
    if (from < 0)
        return;
    fcntl(from, F_SETFL, O_NONBLOCK);
    fcntl(to, F_SETFL, O_NONBLOCK);
}

static void carry_pipes(const struct relay *relay)
{
    set_flow(0, relay->pipes[0] < 0 ? -1 : 0, relay->pipes[0], 0);
    set_flow(1, relay->pipes[1], 1, 1);
    set_flow(2, relay->pipes[2], 2, 1);
}

/* The command makes it when it is in the container; when that fails there is nothing to carry. */
static void carry_terminal(const struct relay *relay)
{
    int fds[FDS_MAX];
    char word;
    if (receive_fds(relay->ended, &word, 1, fds, 0) != 1 || fds[0] < 0)
        _exit(0);
    int input = fcntl(fds[0], F_DUPFD_CLOEXEC, 0); /* either direction may end first */
    is_terminal = 1;
    set_flow(0, relay->mode & STDIN_OPEN ? 0 : -1, input, 0);
    set_flow(1, fds[0], 1, 0);
    set_flow(2, -1, -1, 0);
}

/* A daemon that came later hears of it by the container's monitor. */
static void tell_orphaned(const char *state_dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
    static struct wire_out out;
    if (chdir(state_dir))
        return;
    int monitor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (monitor < 0 || connect(monitor, (struct sockaddr *)&address, sizeof address))
        return;
    wire_begin(&out, MSG_ORPHANED);
    wire_u64(&out, lost);
    wire_send(monitor, &out);
    close(monitor);
}

void relay_rest(const struct relay *relay, int has_lost_daemon)
{
    int is_ending = 1;
    signal(SIGPIPE, SIG_IGN);
    is_orphaned = has_lost_daemon;
    carry_pipes(relay);
    begin_ending();
    while (carry(-1, &is_ending))
        ;
    if (lost > 0 && is_orphaned && relay->state_dir)
        tell_orphaned(relay->state_dir);
}

_Noreturn void role_relay(const struct relay *relay)
{
    int is_ending = 0;
    prctl(PR_SET_NAME, "berth-relay", 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    setsid();
    if (relay->mode & STDIN_TERMINAL)
        carry_terminal(relay);
    else
        carry_pipes(relay);
    while (carry(relay->ended, &is_ending))
        ;
    if (lost > 0 && !is_ending) /* the command's output has ended before it */
        hear_end(relay->ended, 0);
    if (lost > 0 && is_orphaned && relay->state_dir)
        tell_orphaned(relay->state_dir);
    _exit(0);
}
