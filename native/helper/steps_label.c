/*
 * The label of a security module that the next execve puts on. It is written to
 * a procfs that nobody else has: a mount of our own that is attached nowhere, so
 * that nothing which a container mounts over /proc can take the write (CVE-2025-52881).
 */
#include "helper.h"
#include "../lib/sys.h"

#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PROC_ROOT_INO 1

static int own_procfs(void)
{
    int fs = sys_fsopen("proc", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    int mount = -1;
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int failure = errno;
    close(fs);
    errno = failure;
    return mount;
}

/* In a user namespace a procfs with masks allows no other; then the one that is there, if it is one. */
static int mounted_procfs(void)
{
    struct statfs fs;
    struct stat st;
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (proc < 0)
        return -1;
    if (fstatfs(proc, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && fstat(proc, &st) == 0 && st.st_ino == PROC_ROOT_INO)
        return proc;
    close(proc);
    errno = EXDEV;
    return -1;
}

/* Opens below `dir`, not above it and in no other file system; closes `dir`. */
static int open_below(int dir, const char *path, uint64_t flags)
{
    int fd = sys_openat2(dir, path, flags | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    int failure = errno;
    close(dir);
    errno = failure;
    return fd;
}

static int open_attribute(struct launch *launch, const char *attribute)
{
    char own[64];
    int proc = own_procfs();
    if (proc < 0)
        proc = mounted_procfs();
    if (proc < 0)
        return step_fail(launch, "a procfs to be trusted");
    snprintf(own, sizeof own, "%d/task/%d/attr", getpid(), (int)syscall(SYS_gettid));
    int attributes = open_below(proc, own, O_PATH | O_DIRECTORY);
    if (attributes < 0)
        return step_fail(launch, "attr");
    int fd = open_below(attributes, attribute, O_WRONLY);
    return fd < 0 ? step_fail(launch, "attr/%s", attribute) : fd;
}

static int write_attribute(struct launch *launch, const char *attribute, const char *label)
{
    int fd = open_attribute(launch, attribute);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, label, strlen(label));
    int failure = errno;
    close(fd);
    errno = failure;
    return n == (ssize_t)strlen(label) ? 0 : step_fail(launch, "write attr/%s", attribute);
}

int step_label(struct launch *launch, struct fields *fields)
{
    const char *attribute = field_str(fields), *label = field_str(fields);
    return write_attribute(launch, attribute, label);
}

/*
 * Session keyrings are inherited, and whoever has one may read its keys and add others: without its own, a container would
 * share the daemon's, and with it that of all other containers. SELinux looks at the label of the one who made a keyring,
 * so it is to be made with the label that the process will have.
 */
int step_keyring(struct launch *launch, struct fields *fields)
{
    const char *label = field_str(fields);
    if (*label && write_attribute(launch, "keycreate", label))
        return -1;
    return own_keyring() ? step_fail(launch, "join a session keyring") : 0;
}
