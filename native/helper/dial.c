/*
 * role dial: enters a pod's network namespace, connects to a port of its
 * localhost and hands the connection over. For a process of its own, since a
 * socket belongs to the namespace of the thread that makes it.
 */
#include "helper.h"
#include "../lib/sys.h"
#include "../lib/wire.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A listener with a full queue does not answer at all. */
#define CONNECT_WITHIN_S 10

static struct wire_out out;

static int failed(struct launch *launch, uint32_t step, int error)
{
    wire_begin(&out, MSG_FAILED);
    wire_u32(&out, SECTION_OUTER);
    wire_u32(&out, step);
    wire_u32(&out, (uint32_t)error);
    wire_str(&out, launch->detail);
    wire_send(FD_CONTROL, &out);
    return 1;
}

static int connect_to(const struct sockaddr *address, socklen_t length)
{
    struct timeval limit = {.tv_sec = CONNECT_WITHIN_S};
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, address, length) == 0) {
        limit.tv_sec = 0;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        return fd;
    }
    int failure = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = failure;
    return -1;
}

/* 127.0.0.1, then ::1; when neither answers it is the first one's failure that is told. */
static int dial(struct launch *launch, uint32_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_addr = in6addr_loopback;
    int fd = connect_to((struct sockaddr *)&v4, sizeof v4);
    int failure = errno;
    if (fd < 0)
        fd = connect_to((struct sockaddr *)&v6, sizeof v6);
    if (fd < 0) {
        errno = failure;
        return step_fail(launch, "port %u of localhost", port);
    }
    wire_begin(&out, MSG_DIALED);
    for (int i = 0; i < 4; i++)
        out.bytes[i] = 0; /* no payload */
    return send_fds(FD_CONTROL, out.bytes, out.length, &fd, 1) ? step_fail(launch, "hand the connection over") : 0;
}

int role_dial(void)
{
    static struct launch launch = {.root = -1, .stage = -1, .sync = -1, .devnull = -1};
    struct plan plan;
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;
    struct pollfd control = {.fd = FD_CONTROL, .events = POLLIN};

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (poll(&control, 1, 0) > 0 && control.revents & POLLHUP)
        return 1; /* nobody waits any more */
    if (load_plan(&plan))
        return failed(&launch, NO_STEP, errno);
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        launch.detail[0] = 0;
        if (op == OP_DIAL ? dial(&launch, field_u32(&fields)) : step_host(&launch, op, &fields))
            return failed(&launch, step, errno);
    }
    return 0;
}
