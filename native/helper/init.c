/*
 * role init: born in the container's namespaces, it runs the inner section of
 * the plan and becomes the container's process. Its sync socket closes on
 * execve; until then the launcher's end of it is its lifeline.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

_Noreturn static void report_failure(struct launch *launch, uint32_t step, int error)
{
    if (launch->hook.path)
        hook_failed(launch, error);
    struct report report = {.kind = REPORT_FAILED, .section = SECTION_INNER, .step = step, .error = error};
    memcpy(report.detail, launch->detail, sizeof report.detail);
    send(launch->sync, &report, sizeof report, MSG_NOSIGNAL);
    _exit(1);
}

static struct step_times times;

static void report_ready(struct launch *launch)
{
    struct report report = {.kind = REPORT_READY, .uid = launch->identity.uid, .gid = launch->identity.gid};
    report.group_count = (uint32_t)launch->identity.group_count;
    memcpy(report.groups, launch->identity.groups, sizeof report.groups);
    memcpy(report.home, launch->identity.home, sizeof report.home);
    report.times = times;
    send(launch->sync, &report, sizeof report, MSG_NOSIGNAL);
}

/* Waits for one word of the launcher's; when the launcher is gone there is nothing left to start for. */
static void await(struct launch *launch, char word)
{
    char got = 0;
    ssize_t n;
    do
        n = recv(launch->sync, &got, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n != 1 || got != word)
        _exit(1);
}

static void report_hooks(struct launch *launch)
{
    struct report report = {.kind = REPORT_HOOKS};
    send(launch->sync, &report, sizeof report, MSG_NOSIGNAL);
}

static int run(struct launch *launch, uint32_t op, struct fields *fields)
{
    if (launch->hook.path && hook_skips(op))
        return 0;
    switch (op) {
    case OP_AWAIT_HOOKS:
        report_hooks(launch);
        await(launch, SYNC_GO);
        return 0;
    case OP_AWAIT_GO:
        report_ready(launch);
        await(launch, SYNC_GO);
        return 0;
    default:
        return step_run(launch, op, fields);
    }
}

/*
 * The daemon's may be those that its node keeps for the system (CPUAffinity= of systemd), and since Linux 6.2 a process takes
 * such a wish along into every cpuset. The kernel leaves of all processors those of the cgroup.
 */
static void want_all_processors(void)
{
    unsigned char all[1024];
    memset(all, 0xff, sizeof all);
    (void)!syscall(SYS_sched_setaffinity, 0, sizeof all, all);
}

_Noreturn void role_init(const struct plan *plan, int sync, enum launcher launcher)
{
    static struct launch launch;
    launch = (struct launch){.plan = plan, .root = -1, .stage = -1, .sync = sync, .devnull = -1, .empty = -1, .nodes = -1};
    launch.ends_with_launcher = launcher == LAUNCHER_EXEC;
    launch.gets_root = launcher == LAUNCHER_MONITOR;
    bind_to_launcher(&launch);
    want_all_processors();
    struct fields fields;
    size_t offset = 0;
    uint32_t op, step = 0;

    prctl(PR_SET_NAME, "berth-init", 0, 0, 0);
    steps_begin(&times);
    for (; plan_next(plan, SECTION_INNER, &offset, &op, &fields); step++) {
        launch.detail[0] = 0;
        if (run(&launch, op, &fields))
            report_failure(&launch, step, errno);
        step_ended(&times);
    }
    errno = ENOEXEC; /* a plan without an EXEC */
    report_failure(&launch, step, errno);
}
