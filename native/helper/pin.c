/*
 * role pin: makes a pod's namespaces, sets them up and leaves them behind as bind mounts. It ends with the daemon: what
 * it did after that, the next daemon would not find when it undoes the rest.
 */
#include "helper.h"
#include "../lib/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

static int failed(struct launch *launch, uint32_t step, int error)
{
    static struct wire_out out;
    wire_begin(&out, MSG_FAILED);
    wire_u32(&out, SECTION_OUTER);
    wire_u32(&out, step);
    wire_u32(&out, (uint32_t)error);
    wire_str(&out, launch->detail);
    wire_send(FD_CONTROL, &out);
    return 1;
}

int role_pin(void)
{
    static struct launch launch = {.root = -1, .stage = -1, .sync = -1, .devnull = -1, .empty = -1, .nodes = -1};
    static struct wire_out out;
    struct plan plan;
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;
    struct pollfd control = {.fd = FD_CONTROL, .events = POLLIN};

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (poll(&control, 1, 0) > 0 && control.revents & POLLHUP)
        return 1; /* it had ended before */
    if (load_plan(&plan))
        return failed(&launch, NO_STEP, errno);
    for (; plan_next(&plan, SECTION_OUTER, &offset, &op, &fields); step++) {
        launch.detail[0] = 0;
        if (step_host(&launch, op, &fields))
            return failed(&launch, step, errno);
    }
    wire_begin(&out, MSG_DONE);
    wire_u32(&out, (uint32_t)launch.pause_pid);
    wire_u64(&out, launch.pause_pid ? process_start_time(launch.pause_pid) : 0);
    return wire_send(FD_CONTROL, &out) ? 1 : 0;
}
