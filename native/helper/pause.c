/*
 * role pause: the init of a pod's shared PID namespace; it reaps what its children leave behind. It stays once the
 * daemon has written it down and says START: one that nobody knows of would stay for ever.
 */
#include "helper.h"
#include "../lib/sys.h"
#include "../lib/wire.h"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define NOBODY 65534

int is_kept(void)
{
    unsigned char frame[8];
    ssize_t n;
    do
        n = recv(FD_CONTROL, frame, sizeof frame, MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof frame && frame[4] == MSG_START;
}

/* An empty root: /proc/1/root is within reach of the pod's containers. */
static int leave_files(void)
{
    if (unshare(CLONE_NEWNS) || sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return -1;
    int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "4k", 0) ||
        sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
        return -1;
    int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC,
                            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (mount < 0 || sys_move_mount(mount, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) || chdir("/proc"))
        return -1;
    return sys_pivot_root(".", ".") || sys_umount2(".", MNT_DETACH) || chdir("/") ? -1 : 0;
}

/* Nobody, with nothing: whoever may look into this process finds no more there than it has itself. */
static int leave_privileges(void)
{
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            break; /* past the kernel's last capability */
    if (setgroups(0, NULL))
        return -1;
    /* Either fails in a user namespace too small for this id: then it is its root, without capabilities. */
    (void)!syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY);
    (void)!syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none))
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

_Noreturn void role_pause(int ready)
{
    sigset_t all;
    prctl(PR_SET_NAME, "berth-pause", 0, 0, 0);
    dup2(ready, FD_PLAN);
    sys_close_range(FD_CONTROL + 1, ~0U, 0); /* among them what says that its parent lives */
    setsid();
    int failure = leave_files() || leave_privileges() ? errno : 0;
    if (write(FD_PLAN, &failure, sizeof failure) != (ssize_t)sizeof failure || failure)
        _exit(1);
    if (!is_kept())
        _exit(0);
    sys_close_range(0, ~0U, 0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;) {
        sigwaitinfo(&all, NULL); /* none ends it but SIGKILL, which cannot come from inside its namespace */
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
