/* Operations that build the container's root: every path below it goes through rooted.h, every mount by descriptor. */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"

#include <sched.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

/* Flags of ROOT_OVERLAY. */
enum { ROOT_VOLATILE = 1, ROOT_NODEV = 2 };

int fs_fail(struct launch *launch, int fs, const char *what)
{
    int failure = errno;
    char said[DETAIL_MAX];
    ssize_t n = read(fs, said, sizeof said - 1);
    if (n > 0 && said[n - 1] == '\n')
        n--;
    said[n > 0 ? n : 0] = 0;
    step_fail(launch, n > 2 ? "%s (%s)" : "%s", what, said + 2);
    close(fs);
    errno = failure;
    return -1;
}

int mount_context(struct launch *launch, int fs, unsigned attrs)
{
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
        return fs_fail(launch, fs, "create");
    int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, attrs);
    if (mount < 0)
        return fs_fail(launch, fs, "fsmount");
    close(fs);
    return mount;
}

/* All files of a file system that is for the container get the label of its root's. */
int root_label(struct launch *launch, int fs)
{
    if (launch->root_label && sys_fsconfig(fs, FSCONFIG_SET_STRING, "context", launch->root_label, 0))
        return fs_fail(launch, fs, launch->root_label);
    return 0;
}

int attach(struct launch *launch, int mount, int target, const char *path)
{
    int failed = target < 0 || sys_move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    int failure = errno;
    close(mount);
    if (target >= 0)
        close(target);
    errno = failure;
    return failed ? step_fail(launch, "mount at %s", path) : 0;
}

static int enter_root(struct launch *launch, int mount, const char *stage)
{
    int target = open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (attach(launch, mount, target, stage))
        return -1;
    launch->root = open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (launch->root < 0)
        return step_fail(launch, "open %s", stage);
    launch->stage = launch->root;
    return 0;
}

int mount_overlay(struct launch *launch, const char *upper, const char *work, unsigned flags, struct fields *lowers)
{
    int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen overlay");
    for (uint32_t n = field_count(lowers); n > 0; n--) {
        const char *lower = field_str(lowers);
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", lower, 0))
            return fs_fail(launch, fs, lower);
    }
    if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", upper, 0))
        return fs_fail(launch, fs, upper);
    if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", work, 0))
        return fs_fail(launch, fs, work);
    if (flags & ROOT_VOLATILE && sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0))
        return fs_fail(launch, fs, "volatile");
    return root_label(launch, fs) ? -1 : mount_context(launch, fs, flags & ROOT_NODEV ? MOUNT_ATTR_NODEV : 0);
}

int cover_with_tmpfs(struct launch *launch, const char *dir, const char *size)
{
    int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen tmpfs");
    if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0711", 0) || sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0))
        return fs_fail(launch, fs, "tmpfs options");
    int mount = mount_context(launch, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (mount < 0)
        return -1;
    return attach(launch, mount, open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), dir);
}

int make_root(struct launch *launch, struct fields *fields)
{
    const char *upper = field_str(fields), *work = field_str(fields);
    unsigned flags = field_u32(fields);
    return mount_overlay(launch, upper, work, flags, fields);
}

/* Without its launcher there is nothing left to start for. */
static int receive_root(struct launch *launch)
{
    struct root_report report;
    int fds[FDS_MAX];
    if (receive_fds(launch->sync, &report, sizeof report, fds, 0) != (ssize_t)sizeof report)
        _exit(1);
    if (fds[0] >= 0)
        return fds[0];
    errno = report.error ? report.error : EMFILE; /* no error, no mount: there was no number for it */
    return step_fail(launch, "%s", report.detail);
}

static int root_overlay(struct launch *launch, struct fields *fields)
{
    const char *stage = field_str(fields);
    int mount = launch->gets_root ? receive_root(launch) : make_root(launch, fields);
    return mount < 0 ? -1 : enter_root(launch, mount, stage);
}

static int root_bind(struct launch *launch, struct fields *fields)
{
    const char *stage = field_str(fields), *source = field_str(fields);
    int readonly = (int)field_u32(fields);
    int mount = sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (mount < 0)
        return step_fail(launch, "open %s", source);
    struct mount_attr attr = {.attr_set = readonly ? MOUNT_ATTR_RDONLY : 0, .propagation = MS_PRIVATE};
    if (sys_mount_setattr(mount, "", AT_EMPTY_PATH, &attr)) {
        close(mount);
        return step_fail(launch, "set attributes of %s", source);
    }
    return enter_root(launch, mount, stage);
}

/* The place to mount on: made when missing, and with TARGET_NO_LINKS reached through real directories only. */
static int mount_target(struct launch *launch, const char *path, enum rooted_kind kind, unsigned flags)
{
    if (!(flags & TARGET_NO_LINKS))
        return rooted_make(launch->root, path, kind, kind == ROOTED_DIRECTORY ? 0755 : 0644);
    int fd = rooted_open_nolinks(launch->root, path);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = rooted_make(launch->root, path, kind, kind == ROOTED_DIRECTORY ? 0755 : 0644);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : rooted_open_nolinks(launch->root, path);
}

/* One "key=value" or "flag" option. */
static int set_option(int fs, const char *option)
{
    char key[64];
    const char *equals = strchr(option, '=');
    if (!equals)
        return sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
    size_t length = (size_t)(equals - option);
    if (length >= sizeof key) {
        errno = EINVAL;
        return -1;
    }
    memcpy(key, option, length);
    key[length] = 0;
    return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

static int mount_fs(struct launch *launch, struct fields *fields)
{
    const char *type = field_str(fields), *target = field_str(fields);
    unsigned attrs = (unsigned)field_u64(fields);
    int fs = sys_fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen %s", type);
    for (uint32_t n = field_count(fields); n > 0; n--) {
        const char *option = field_str(fields);
        if (set_option(fs, option))
            return fs_fail(launch, fs, option);
    }
    unsigned flags = field_u32(fields);
    int mount = mount_context(launch, fs, attrs);
    if (mount < 0)
        return -1;
    return attach(launch, mount, mount_target(launch, target, ROOTED_DIRECTORY, flags), target);
}

static int is_directory(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* An image's links must not lead a volume over procfs or sysfs, whose files are trusted by path later (CVE-2025-52881). */
static int leads_astray(int target, const char *path)
{
    struct statfs fs;
    if (target < 0 || fstatfs(target, &fs))
        return 0;
    if (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC)
        return 0;
    return strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/sys/", 5) != 0;
}

static int bind_source(const char *source, const char *target, unsigned flags)
{
    if (flags & SOURCE_HELD)
        return held_take(target);
    unsigned recursive = flags & RECURSIVE ? AT_RECURSIVE : 0;
    unsigned nofollow = flags & SOURCE_NO_LINKS ? AT_SYMLINK_NOFOLLOW : 0;
    return sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive | nofollow);
}

static int mount_bind(struct launch *launch, struct fields *fields)
{
    const char *source = field_str(fields), *target = field_str(fields);
    struct mount_attr attr = {.attr_set = field_u64(fields), .attr_clr = field_u64(fields)};
    attr.propagation = field_u64(fields);
    unsigned flags = field_u32(fields);
    unsigned recursive = flags & RECURSIVE ? AT_RECURSIVE : 0;
    int mount = bind_source(source, target, flags);
    if (mount < 0)
        return step_fail(launch, "open %s", source);
    /* What the kernel sets on one mount at a time, and these two on all below, too: a node there is as good as here. */
    struct mount_attr shape = {.propagation = attr.propagation, .attr_set = attr.attr_set & MOUNT_ATTR_NODEV};
    attr.propagation = 0;
    int failed = 0;
    if (attr.attr_set || attr.attr_clr)
        failed = sys_mount_setattr(mount, "", AT_EMPTY_PATH | (flags & RECURSIVE_ATTRS ? AT_RECURSIVE : 0), &attr);
    if (!failed && (shape.propagation || shape.attr_set))
        failed = sys_mount_setattr(mount, "", AT_EMPTY_PATH | recursive, &shape);
    if (failed) {
        step_fail(launch, "set attributes of %s", source);
        close(mount);
        return -1;
    }
    enum rooted_kind kind = is_directory(mount) ? ROOTED_DIRECTORY : ROOTED_FILE;
    int place = mount_target(launch, target, kind, flags);
    if (leads_astray(place, target)) {
        close(place);
        close(mount);
        errno = EPERM;
        return step_fail(launch, "%s leads onto procfs or sysfs", target);
    }
    return attach(launch, mount, place, target);
}

static int make_node(struct launch *launch, struct fields *fields)
{
    const char *name, *path = field_str(fields);
    mode_t mode = field_u32(fields);
    unsigned major_number = field_u32(fields), minor_number = field_u32(fields);
    uid_t uid = field_u32(fields);
    gid_t gid = field_u32(fields);
    int parent = rooted_parent(launch->root, path, &name);
    if (parent < 0)
        return step_fail(launch, "parent of %s", path);
    int failed = mknodat(parent, name, mode, makedev(major_number, minor_number)) ||
                 fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW);
    if (!failed)
        failed = fchmodat(parent, name, mode & 07777, 0);
    int failure = errno;
    close(parent);
    errno = failure;
    return failed ? step_fail(launch, "%s", path) : 0;
}

static int make_link(struct launch *launch, struct fields *fields)
{
    const char *name, *target = field_str(fields), *path = field_str(fields);
    int parent = rooted_parent(launch->root, path, &name);
    if (parent < 0)
        return step_fail(launch, "parent of %s", path);
    int failed = symlinkat(target, parent, name);
    int failure = errno;
    close(parent);
    errno = failure;
    return failed && failure != EEXIST ? step_fail(launch, "%s", path) : 0;
}

static int make_directory(struct launch *launch, struct fields *fields)
{
    const char *path = field_str(fields);
    int fd = rooted_make(launch->root, path, ROOTED_DIRECTORY, field_u32(fields));
    if (fd < 0)
        return step_fail(launch, "%s", path);
    close(fd);
    return 0;
}

/* The host's /dev/null by descriptor, made sure to be the device: an image may have put anything in its place. */
static int trusted_devnull(struct launch *launch)
{
    struct stat st;
    if (launch->devnull >= 0)
        return launch->devnull;
    int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
        close(fd);
        errno = ENODEV;
        return -1;
    }
    return launch->devnull = fd;
}

/* An empty read-only directory that hides others: one tmpfs for all of them. */
static int empty_directory(struct launch *launch)
{
    if (launch->empty >= 0)
        return sys_open_tree(launch->empty, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen tmpfs");
    if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0) || sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0))
        return fs_fail(launch, fs, "tmpfs options");
    if (root_label(launch, fs))
        return -1;
    int mount = mount_context(launch, fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (mount >= 0)
        launch->empty = fcntl(mount, F_DUPFD_CLOEXEC, 3);
    return mount;
}

/* It is the host's: the container must not change its mode or owner. */
static int readonly_devnull(struct launch *launch)
{
    int null = trusted_devnull(launch);
    int mount = null < 0 ? -1 : sys_open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC};
    if (mount < 0 || sys_mount_setattr(mount, "", AT_EMPTY_PATH, &attr))
        return step_fail(launch, "/dev/null");
    return mount;
}

/* Hides what is at `path`: an empty directory over a directory, /dev/null over a file. Nothing there: nothing to hide. */
static int mask(struct launch *launch, const char *path)
{
    int target = rooted_open(launch->root, path, O_PATH);
    if (target < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : step_fail(launch, "open %s", path);
    int mount = is_directory(target) ? empty_directory(launch) : readonly_devnull(launch);
    return mount < 0 ? -1 : attach(launch, mount, target, path);
}

/* Sets attributes of the mount whose root is at `path`. */
static int mount_attributes(struct launch *launch, struct fields *fields)
{
    const char *path = field_str(fields);
    struct mount_attr attr = {.attr_set = field_u64(fields), .attr_clr = field_u64(fields)};
    attr.propagation = field_u64(fields);
    unsigned flags = field_u32(fields);
    int fd = flags & TARGET_NO_LINKS ? rooted_open_nolinks(launch->root, path) : rooted_open(launch->root, path, O_PATH);
    if (fd < 0)
        return step_fail(launch, "open %s", path);
    int failed = sys_mount_setattr(fd, "", AT_EMPTY_PATH, &attr);
    int failure = errno;
    close(fd);
    errno = failure;
    return failed ? step_fail(launch, "set attributes of %s", path) : 0;
}

static int readonly(struct launch *launch, const char *path)
{
    int target = rooted_open(launch->root, path, O_PATH);
    if (target < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : step_fail(launch, "open %s", path);
    int mount = sys_open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (mount < 0)
        return step_fail(launch, "clone %s", path);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (sys_mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr))
        return step_fail(launch, "set attributes of %s", path);
    return attach(launch, mount, target, path);
}

/* Linux 5.15. By then all is mounted in it: nothing of that was seen on the host. */
static int share(struct launch *launch, const char *target)
{
    int peer = held_take(target);
    int mount = peer < 0 ? -1 : rooted_open(launch->root, target, O_PATH);
    int failed = mount < 0 || sys_move_mount(peer, "", mount, "",
                                             MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_SET_GROUP);
    int failure = errno;
    if (mount >= 0)
        close(mount);
    if (peer >= 0)
        close(peer);
    errno = failure;
    return failed ? step_fail(launch, "share %s with the host", target) : 0;
}

/*
 * mqueue is one file system an IPC namespace, whoever mounts it. Its root belongs to whom made the namespace, which in a
 * pod's user namespace is nobody: so this is the host's root's to do.
 */
static int queue_label(struct launch *launch, const char *label)
{
    int fs = sys_fsopen("mqueue", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen mqueue");
    int mount = mount_context(launch, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (mount < 0)
        return -1;
    int failed = file_label(mount, label), failure = errno;
    close(mount);
    errno = failure;
    return failed ? step_fail(launch, "label the message queues") : 0;
}

static int root_readonly(struct launch *launch)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    return sys_mount_setattr(launch->root, "", AT_EMPTY_PATH, &attr);
}

/* What was opened on the way: a working directory of /proc/self/fd/N must not find it (CVE-2024-21626). */
static void close_tools(struct launch *launch)
{
    int *tools[] = {&launch->devnull, &launch->empty, &launch->nodes};
    for (size_t i = 0; i < sizeof tools / sizeof tools[0]; i++) {
        if (*tools[i] >= 0)
            close(*tools[i]);
        *tools[i] = -1;
    }
}

/* pivot_root(2)'s idiom of "." over ".": the old root ends up under the new one and is detached. */
static int pivot(struct launch *launch, uint64_t propagation)
{
    close_tools(launch);
    if (fchdir(launch->stage))
        return step_fail(launch, "enter the new root");
    if (sys_pivot_root(".", "."))
        return step_fail(launch, "pivot_root");
    if (sys_umount2(".", MNT_DETACH))
        return step_fail(launch, "detach the old root");
    if (chdir("/"))
        return -1;
    if (propagation && sys_mount(NULL, "/", NULL, (unsigned long)propagation, NULL))
        return step_fail(launch, "propagation of /");
    close(launch->root);
    launch->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    launch->stage = -1;
    return launch->root < 0 ? -1 : 0;
}

int step_mount(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_PROPAGATION: {
        uint64_t flags = field_u64(fields);
        return sys_mount(NULL, field_str(fields), NULL, (unsigned long)flags, NULL);
    }
    case OP_ROOT_OVERLAY:
        return root_overlay(launch, fields);
    case OP_ROOT_BIND:
        return root_bind(launch, fields);
    case OP_ROOT_LABEL:
        launch->root_label = field_str(fields);
        return 0;
    case OP_QUEUE_LABEL:
        return queue_label(launch, field_str(fields));
    case OP_MOUNT_FS:
        return mount_fs(launch, fields);
    case OP_MOUNT_BIND:
        return mount_bind(launch, fields);
    case OP_MKNOD:
        return make_node(launch, fields);
    case OP_SYMLINK:
        return make_link(launch, fields);
    case OP_MKDIR:
        return make_directory(launch, fields);
    case OP_MASK:
        return mask(launch, field_str(fields));
    case OP_READONLY:
        return readonly(launch, field_str(fields));
    case OP_ROOT_READONLY:
        return root_readonly(launch);
    case OP_MOUNT_ATTR:
        return mount_attributes(launch, fields);
    case OP_SHARE:
        return share(launch, field_str(fields));
    case OP_PIVOT_ROOT:
        return pivot(launch, field_u64(fields));
    default:
        errno = ENOSYS;
        return -1;
    }
}
