/*
 * role hold: the one process of a scope of systemd's that is no container's. systemd makes a scope around a process, and ends it
 * with the last one: this one is there before the container's first and until the daemon has read what the kernel has counted
 * of them all. It stays once the daemon says START, which is when it can be found by its cgroup.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <sys/prctl.h>
#include <unistd.h>

int role_hold(void)
{
    prctl(PR_SET_NAME, "berth-hold", 0, 0, 0);
    setsid();
    (void)!chdir("/"); /* the daemon's may be on a file system that somebody wants to unmount */
    /* memory.oom.group above it spares nobody else; where that is not allowed, it is at least the smallest. */
    (void)!write_file("/proc/self/oom_score_adj", "-1000");
    sys_close_range(0, FD_CONTROL - 1, 0);
    if (!is_kept())
        return 0;
    sys_close_range(0, ~0U, 0);
    for (;;)
        pause(); /* SIGTERM ends it, as systemd does when the machine is shut down */
}
