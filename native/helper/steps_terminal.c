/*
 * Operations that give a process a terminal of the container's own devpts. No
 * name of the terminal is ever opened: its other side comes from the kernel by
 * TIOCGPTPEER and is mounted by descriptor (CVE-2025-52565).
 */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define DEVPTS_MAGIC 0x1cd1

static int is_multiplexer(int fd)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) || fstatfs(fd, &fs))
        return 0;
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(5, 2) && fs.f_type == DEVPTS_MAGIC;
}

/* The container may have put anything there: looked at before it is opened, since opening a device can do something. */
static int open_multiplexer(struct launch *launch)
{
    if (launch->root < 0)
        launch->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int seen = rooted_open_nolinks(launch->root, "/dev/pts/ptmx");
    if (seen < 0)
        return step_fail(launch, "/dev/pts/ptmx");
    int is_one = is_multiplexer(seen);
    close(seen);
    int fd = is_one ? sys_openat2(launch->root, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0,
                                  RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
                    : -1;
    if (is_one && fd < 0)
        return step_fail(launch, "/dev/pts/ptmx");
    if (is_one && is_multiplexer(fd))
        return fd;
    if (fd >= 0)
        close(fd);
    errno = ENODEV;
    return step_fail(launch, "/dev/pts/ptmx is not devpts's");
}

/* Both sides go to the launcher: it keeps this one open, too, so that a program may close its terminal for a while. */
static int hand_over(struct launch *launch, int master, int terminal)
{
    struct report report = {.kind = REPORT_TERMINAL};
    int fds[2] = {master, terminal};
    if (send_fds(launch->sync, &report, sizeof report, fds, 2))
        return step_fail(launch, "hand the terminal over");
    return 0;
}

static int bind_console(struct launch *launch, int terminal)
{
    int made = rooted_make(launch->root, "/dev/console", ROOTED_FILE, 0600);
    if (made < 0)
        return step_fail(launch, "make /dev/console");
    close(made);
    int place = rooted_open_nolinks(launch->root, "/dev/console");
    int mount = sys_open_tree(terminal, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int failed = place < 0 || mount < 0 ||
                 sys_move_mount(mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    int failure = errno;
    if (place >= 0)
        close(place);
    if (mount >= 0)
        close(mount);
    errno = failure;
    return failed ? step_fail(launch, "mount /dev/console") : 0;
}

static int make_terminal(struct launch *launch, struct fields *fields)
{
    int console = (int)field_u32(fields), unlocked = 0;
    struct winsize size = {.ws_row = (unsigned short)field_u32(fields)};
    size.ws_col = (unsigned short)field_u32(fields);
    int master = open_multiplexer(launch);
    if (master < 0)
        return -1;
    if (ioctl(master, TIOCSPTLCK, &unlocked))
        return step_fail(launch, "unlock");
    int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        return step_fail(launch, "open its other side");
    if (size.ws_row && size.ws_col && ioctl(master, TIOCSWINSZ, &size))
        return step_fail(launch, "set its size");
    if (console && bind_console(launch, terminal))
        return -1;
    if (hand_over(launch, master, terminal))
        return -1;
    for (int i = 0; i < 3; i++)
        dup2(terminal, i);
    close(terminal);
    return close(master);
}

/* The process has a session of its own by now, and its user is known. */
static int take_terminal(struct launch *launch)
{
    (void)!fchown(0, launch->identity.uid, (gid_t)-1); /* a user of another namespace may not own it, and need not */
    return ioctl(0, TIOCSCTTY, 0) ? step_fail(launch, "controlling terminal") : 0;
}

int step_terminal(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_TERMINAL:
        return make_terminal(launch, fields);
    case OP_CONTROLLING_TERMINAL:
        return take_terminal(launch);
    default:
        errno = ENOSYS;
        return -1;
    }
}
