/*
 * Operations for a container in a user namespace. What only the host's root may do (idmapped clones of layers and
 * volumes, the overlay over them) is done first, in a mount namespace of the host's user namespace. Then init enters the
 * user namespace, and with a copy of that mount namespace: copying across user namespaces locks the flags of every mount
 * (mount_namespaces(7)), so that no root of the container's makes a read-only volume writable, or opens a device node
 * that an image brought. Standard file systems are mounted last, by the container's root itself.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Names in the stage's directory; held mounts are there by their numbers. */
#define STAGED_ROOT "root"
#define STAGED_LOWER "lower"

/* The user namespace that the container will be in, from STAGE to ENTER_USERNS. */
static int userns = -1;

/* A small tmpfs over `dir`, which becomes the working directory: what follows finds it there in either mount namespace. */
static int stage(struct launch *launch, struct fields *fields)
{
    const char *dir = field_str(fields), *path = field_str(fields);
    char made[64];
    if (!*path) { /* by OP_USERNS, and pinned nowhere */
        snprintf(made, sizeof made, "/proc/%d/ns/user", launch->inside_pid);
        path = made;
    }
    userns = open(path, O_RDONLY | O_CLOEXEC);
    if (userns < 0)
        return step_fail(launch, "open %s", path);
    if (cover_with_tmpfs(launch, dir, "1m"))
        return -1;
    return chdir(dir) ? step_fail(launch, "enter %s", dir) : 0;
}

/* Maps a detached tree's owners as the user namespace does. What is on it decides whether it can be: its type is told. */
static int idmap(struct launch *launch, int tree, const char *path, unsigned recursive)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
    struct statfs fs;
    if (sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr) == 0)
        return 0;
    int failure = errno;
    long type = fstatfs(tree, &fs) ? 0 : (long)fs.f_type;
    errno = failure;
    return step_fail(launch, "idmap %lx %s", type, path);
}

static int make_directory(struct launch *launch, const char *name)
{
    if (mkdir(name, 0700))
        return step_fail(launch, "mkdir %s", name);
    return open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* All layers by one idmapped clone of the directory that they lie in. */
static int stage_lower(struct launch *launch, const char *base)
{
    int tree = sys_open_tree(AT_FDCWD, base, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return step_fail(launch, "clone %s", base);
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    if (sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) || idmap(launch, tree, base, 0)) {
        int failure = errno;
        close(tree);
        errno = failure;
        return -1;
    }
    return attach(launch, tree, make_directory(launch, STAGED_LOWER), base);
}

static int stage_overlay(struct launch *launch, struct fields *fields)
{
    const char *base = field_str(fields), *upper = field_str(fields), *work = field_str(fields);
    unsigned flags = field_u32(fields);
    if (stage_lower(launch, base))
        return -1;
    int mount = mount_overlay(launch, upper, work, flags, fields);
    return mount < 0 ? -1 : attach(launch, mount, make_directory(launch, STAGED_ROOT), STAGED_ROOT);
}

static int held_attrs(struct launch *launch, struct fields *fields)
{
    uint32_t number = field_u32(fields);
    struct mount_attr attr = {.attr_set = field_u64(fields), .attr_clr = field_u64(fields)};
    struct mount_attr shape = {.propagation = field_u64(fields), .attr_set = attr.attr_set & MOUNT_ATTR_NODEV};
    unsigned flags = field_u32(fields), recursive = flags & RECURSIVE ? AT_RECURSIVE : 0;
    int tree = held_tree(number);
    if (tree < 0)
        return step_fail(launch, "held mount %u", number);
    if (sys_mount_setattr(tree, "", AT_EMPTY_PATH | (flags & RECURSIVE_ATTRS ? AT_RECURSIVE : 0), &attr) ||
        sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &shape))
        return step_fail(launch, "set attributes");
    return field_u32(fields) ? idmap(launch, tree, "it", recursive) : 0;
}

/* ---- across the border ---- */

static int attach_at_number(int number, int tree)
{
    char name[16];
    struct stat st;
    snprintf(name, sizeof name, "%d", number);
    if (fstat(tree, &st))
        return -1;
    int is_directory = S_ISDIR(st.st_mode);
    if (is_directory && mkdir(name, 0700))
        return -1;
    int place = open(name, is_directory ? O_PATH | O_CLOEXEC : O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (place < 0)
        return -1;
    int failed = sys_move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    int failure = errno;
    close(place);
    errno = failure;
    return failed ? -1 : tree;
}

/* The copy in the new mount namespace, whose flags are locked. */
static int clone_of_number(int number, int tree)
{
    char name[16];
    snprintf(name, sizeof name, "%d", number);
    close(tree);
    return sys_open_tree(AT_FDCWD, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

/*
 * The first process of a PID namespace of the user namespace's can only be born there. It is the launcher's child, like
 * this process, and takes its place; it waits until the launcher has been told, since nobody could find it else.
 */
static int go_on_as_child(struct launch *launch)
{
    int gate[2];
    char word = SYNC_GO;
    struct clone3_args args = {.flags = BERTH_CLONE_PARENT};
    if (pipe2(gate, O_CLOEXEC))
        return -1;
    int pid = sys_fork3(&args);
    if (pid < 0)
        return step_fail(launch, "clone");
    if (pid == 0) {
        close(gate[1]);
        if (read(gate[0], &word, 1) != 1)
            _exit(1);
        return close(gate[0]);
    }
    struct report report = {.kind = REPORT_MOVED, .pid = pid};
    if (send(launch->sync, &report, sizeof report, MSG_NOSIGNAL) == (ssize_t)sizeof report)
        (void)!write(gate[1], &word, 1);
    _exit(0);
}

static int enter(struct launch *launch, struct fields *fields)
{
    int namespaces = (int)field_u32(fields);
    launch->uids = field_u32(fields);
    launch->gids = field_u32(fields);
    if (held_exchange(attach_at_number))
        return step_fail(launch, "stage the mounts");
    if (setns(userns, CLONE_NEWUSER))
        return step_fail(launch, "setns");
    close(userns);
    userns = -1;
    if (unshare(namespaces))
        return step_fail(launch, "unshare");
    if (held_exchange(clone_of_number))
        return step_fail(launch, "take the mounts along");
    if (become_root())
        return step_fail(launch, "become its root");
    return namespaces & CLONE_NEWPID ? go_on_as_child(launch) : 0;
}

/* Over the stage, which it hides: a locked mount cannot become the root, its clone can. */
static int root_staged(struct launch *launch)
{
    int tree = sys_open_tree(AT_FDCWD, STAGED_ROOT, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return step_fail(launch, "clone the root");
    if (sys_move_mount(tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH))
        return step_fail(launch, "mount the root");
    launch->root = launch->stage = tree;
    return 0;
}

static int be_root_of_joined(struct launch *launch, struct fields *fields)
{
    launch->uids = field_u32(fields);
    launch->gids = field_u32(fields);
    return become_root();
}

int step_userns(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_STAGE:
        return stage(launch, fields);
    case OP_STAGE_OVERLAY:
        return stage_overlay(launch, fields);
    case OP_HELD_ATTRS:
        return held_attrs(launch, fields);
    case OP_ENTER_USERNS:
        return enter(launch, fields);
    case OP_ROOT_STAGED:
        return root_staged(launch);
    case OP_USERNS_ROOT:
        return be_root_of_joined(launch, fields);
    case OP_STDIO_OWNER: {
        uint32_t uid = field_u32(fields);
        give_pipes((const int[]){0, 1, 2}, uid, field_u32(fields));
        return 0;
    }
    default:
        errno = ENOSYS;
        return -1;
    }
}
