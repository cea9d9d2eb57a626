/*
 * Operations that take what will be mounted in the container from the host, before there is a root: then no bind copies
 * what this launch itself mounts, and no path of the host is used any more once a hostile root is open. And what is done
 * to the held mounts before they are attached.
 */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* More mounts than this in one container are refused; each is an open descriptor for a while. */
#define HELD_MAX 512

/* Detached mounts by the target where they will be attached; -1 once they are. */
static struct {
    const char *target;
    int tree;
} held[HELD_MAX];
static int held_count;

static int *held_for(const char *target)
{
    for (int i = 0; i < held_count; i++)
        if (held[i].tree >= 0 && strcmp(held[i].target, target) == 0)
            return &held[i].tree;
    errno = ENOENT;
    return NULL;
}

int held_take(const char *target)
{
    int *place = held_for(target);
    int tree = place ? *place : -1;
    if (place)
        *place = -1;
    return tree;
}

int held_tree(uint32_t number)
{
    if (number < (uint32_t)held_count)
        return held[number].tree;
    errno = ENOENT;
    return -1;
}

int held_exchange(int (*exchange)(int number, int tree))
{
    for (int i = 0; i < held_count; i++)
        if (held[i].tree >= 0 && (held[i].tree = exchange(i, held[i].tree)) < 0)
            return -1;
    return 0;
}

/* Keeps a detached mount for `target`; closes it when there are too many. */
static int hold(struct launch *launch, int tree, const char *target)
{
    if (held_count == HELD_MAX) {
        close(tree);
        errno = E2BIG;
        return step_fail(launch, "more than %d mounts", HELD_MAX);
    }
    held[held_count].target = target;
    held[held_count++].tree = tree;
    return 0;
}

/* Every directory of `path` that is missing, as mkdir -p does it. */
static int make_directories(const char *path)
{
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof prefix) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(prefix, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (prefix[i] != '/' && prefix[i] != 0)
            continue;
        prefix[i] = 0;
        if (mkdir(prefix, 0755) && errno != EEXIST)
            return -1;
        prefix[i] = i < length ? '/' : 0;
    }
    return 0;
}

/* An O_PATH descriptor of the source; links in it are the host's and are followed. */
static int open_source(const char *path, unsigned flags)
{
    unsigned how = OPEN_TREE_CLOEXEC | (flags & SOURCE_NO_LINKS ? AT_SYMLINK_NOFOLLOW : 0);
    int fd = sys_open_tree(AT_FDCWD, path, how);
    if (fd >= 0 || errno != ENOENT || !(flags & SOURCE_MAKE))
        return fd;
    return make_directories(path) ? -1 : sys_open_tree(AT_FDCWD, path, how);
}

/* ENOLINK, with a sentence that names the mount point, when the mount does not propagate as it has to. */
static int check_propagation(struct launch *launch, int fd, unsigned flags)
{
    struct mount_status status;
    uint64_t id, enough = MS_SHARED | (flags & SOURCE_SLAVE ? MS_SLAVE : 0);
    if (!(flags & (SOURCE_SHARED | SOURCE_SLAVE)))
        return 0;
    if (sys_mount_id(fd, &id) || sys_statmount(id, BERTH_STATMOUNT_MNT_BASIC | BERTH_STATMOUNT_MNT_POINT, &status))
        return step_fail(launch, "look up the source's mount");
    if (status.propagation & enough)
        return 0;
    errno = ENOLINK;
    return step_fail(launch, "the mount at %s, which it lies on, is %s",
                     status.mask & BERTH_STATMOUNT_MNT_POINT ? status.text + status.point : "(unknown)",
                     flags & SOURCE_SLAVE ? "neither shared nor a slave" : "not shared");
}

static int hold_source(struct launch *launch, struct fields *fields)
{
    const char *source = field_str(fields), *target = field_str(fields);
    unsigned flags = field_u32(fields);
    int fd = open_source(source, flags);
    if (fd < 0)
        return step_fail(launch, "open %s", source);
    int tree = -1;
    if (check_propagation(launch, fd, flags) == 0) {
        unsigned recursive = flags & RECURSIVE ? AT_RECURSIVE : 0;
        tree = sys_open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive);
        if (tree < 0)
            step_fail(launch, "clone %s", source);
    }
    int failure = errno;
    close(fd);
    errno = failure;
    return tree < 0 ? -1 : hold(launch, tree, target);
}

/*
 * A tmpfs for the container's device nodes, mounted on the stage until the root covers it and goes with the old root. The
 * container sees the nodes alone, each bound to its place: where they are made it cannot make others, and a chmod(2) of
 * one changes no other container's and not the host's.
 */
static int device_directory(struct launch *launch, const char *stage)
{
    if (launch->nodes >= 0)
        return launch->nodes;
    int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen tmpfs");
    if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0))
        return fs_fail(launch, fs, "mode");
    if (root_label(launch, fs))
        return -1;
    int mount = mount_context(launch, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (mount < 0 || attach(launch, mount, open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC), stage))
        return -1;
    return launch->nodes = open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int hold_device(struct launch *launch, struct fields *fields)
{
    static unsigned count;
    char name[16];
    const char *target = field_str(fields), *stage = field_str(fields);
    mode_t mode = field_u32(fields);
    unsigned major_number = field_u32(fields), minor_number = field_u32(fields);
    uid_t uid = field_u32(fields);
    gid_t gid = field_u32(fields);
    int dir = device_directory(launch, stage);
    if (dir < 0)
        return -1;
    snprintf(name, sizeof name, "%u", count++);
    if (mknodat(dir, name, mode, makedev(major_number, minor_number)) ||
        fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW))
        return step_fail(launch, "make %s", target);
    int tree = sys_open_tree(dir, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return tree < 0 ? step_fail(launch, "clone %s", target) : hold(launch, tree, target);
}

/* The files of an image: its one layer, or an overlay of them, which nothing can be written to. */
static int image_mount(struct launch *launch, struct fields *fields)
{
    uint32_t count = field_count(fields);
    if (count == 1) {
        const char *only = field_str(fields);
        int tree = sys_open_tree(AT_FDCWD, only, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        return tree < 0 ? step_fail(launch, "open %s", only) : tree;
    }
    int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0)
        return step_fail(launch, "fsopen overlay");
    for (; count > 0; count--) {
        const char *lower = field_str(fields);
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", lower, 0))
            return fs_fail(launch, fs, lower);
    }
    return root_label(launch, fs) ? -1 : mount_context(launch, fs, MOUNT_ATTR_RDONLY);
}

/* What of an image is at `subpath`, resolved inside it: mounted on the stage for as long as that takes (Linux 6.15 needs no place). */
static int image_part(struct launch *launch, int mount, const char *stage, const char *subpath)
{
    if (attach(launch, mount, open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC), stage))
        return -1;
    int root = open(stage, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int part = root < 0 ? -1 : rooted_open(root, subpath, O_PATH);
    int tree = part < 0 ? -1 : sys_open_tree(part, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int failure = errno;
    if (part >= 0)
        close(part);
    if (root >= 0)
        close(root);
    sys_umount2(stage, MNT_DETACH);
    errno = failure;
    return tree < 0 ? step_fail(launch, "%s in the image", subpath) : tree;
}

static int hold_image(struct launch *launch, struct fields *fields)
{
    const char *target = field_str(fields), *stage = field_str(fields), *subpath = field_str(fields);
    int tree = image_mount(launch, fields);
    if (tree >= 0 && *subpath)
        tree = image_part(launch, tree, stage, subpath);
    return tree < 0 ? -1 : hold(launch, tree, target);
}

/* An image's VOLUME: found inside the root, whatever links lie on the way (CVE-2022-23648). What is mounted there is none of the image's. */
static int copy_up(struct launch *launch, const char *target)
{
    char failed[PATH_MAX] = "";
    struct stat root, found;
    int *to = held_for(target);
    int from = to ? rooted_make(launch->root, target, ROOTED_DIRECTORY, 0755) : -1;
    if (from < 0 || fstat(from, &found) || fstat(launch->root, &root)) {
        if (from >= 0)
            close(from);
        return step_fail(launch, "find %s in the image", target);
    }
    int result = found.st_dev != root.st_dev || !S_ISDIR(found.st_mode) ? 0 : tree_copy(from, *to, failed);
    int failure = errno;
    close(from);
    errno = failure;
    return result ? step_fail(launch, "copy %s%s", target, failed) : 0;
}

static int relabel(struct launch *launch, struct fields *fields)
{
    char failed[PATH_MAX] = "";
    const char *target = field_str(fields), *label = field_str(fields);
    int *tree = held_for(target);
    return !tree || tree_label(*tree, label, failed) ? step_fail(launch, "label %s%s", target, failed) : 0;
}

int step_source(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_HOLD_SOURCE:
        return hold_source(launch, fields);
    case OP_HOLD_DEVICE:
        return hold_device(launch, fields);
    case OP_HOLD_IMAGE:
        return hold_image(launch, fields);
    case OP_COPY_UP:
        return copy_up(launch, field_str(fields));
    case OP_RELABEL:
        return relabel(launch, fields);
    default:
        errno = ENOSYS;
        return -1;
    }
}
