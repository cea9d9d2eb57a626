/* Operations that give a process its identity and limits, and the last one, which makes it the container's. */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"

#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* An exec has joined the container's mount namespace: the root is what it sees. */
static int own_root(struct launch *launch)
{
    if (launch->root < 0)
        launch->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return launch->root;
}

/* What an image has in the file's place is its own affair; a failure of this machine must not pass for an empty file. */
static int open_database(struct launch *launch, const char *path, int *fd)
{
    *fd = users_open(own_root(launch), path);
    if (*fd >= 0)
        return 0;
    switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case EINVAL: /* no regular file */
    case ELOOP:  /* a link that leads out, or nowhere */
    case EACCES: /* a device, on a root where devices cannot be opened */
    case ENXIO:
        return 0;
    default:
        return step_fail(launch, "open %s", path);
    }
}

static void close_keeping_errno(int fd)
{
    int failure = errno;
    close(fd);
    errno = failure;
}

/* The passwd entry of the wanted user; a number needs none. */
static int find_user(struct launch *launch, const char *user, struct user_entry *entry)
{
    uint32_t uid = 0;
    int is_number = users_number(user, &uid), found = 0;
    *entry = (struct user_entry){.uid = uid};
    int fd;
    if (open_database(launch, "/etc/passwd", &fd))
        return -1;
    if (fd >= 0) {
        found = users_find(fd, is_number ? NULL : user, uid, entry);
        close_keeping_errno(fd);
    }
    if (found < 0)
        return step_fail(launch, "read /etc/passwd");
    if (found == 0 && !is_number) {
        errno = ENOENT;
        return step_fail(launch, "user %s", user);
    }
    return 0;
}

static int find_group(struct launch *launch, const char *group, uint32_t *gid)
{
    int fd, found = 0;
    if (users_number(group, gid))
        return 0;
    if (open_database(launch, "/etc/group", &fd))
        return -1;
    if (fd >= 0) {
        found = users_find_group(fd, group, gid);
        close_keeping_errno(fd);
    }
    if (found < 0)
        return step_fail(launch, "read /etc/group");
    if (found == 1)
        return 0;
    errno = ENOENT;
    return step_fail(launch, "group %s", group);
}

static int find_identity(struct launch *launch, struct fields *fields)
{
    struct user_entry entry;
    struct identity *identity = &launch->identity;
    const char *user = field_str(fields), *group = field_str(fields);
    int has_gid = (int)field_u32(fields);
    uint32_t gid = field_u32(fields);
    int merge = (int)field_u32(fields);
    struct bytes extra = field_bytes(fields);

    if (find_user(launch, user, &entry))
        return -1;
    identity->uid = entry.uid;
    identity->gid = has_gid ? gid : entry.gid;
    if (!has_gid && *group && find_group(launch, group, &identity->gid))
        return -1;
    strcpy(identity->home, entry.home);
    identity->group_count = 0;
    if (users_add_group(identity->gid, identity->groups, &identity->group_count, USERS_GROUPS))
        return -1;
    struct fields list = {.at = extra.data};
    for (size_t i = 0; i + 4 <= extra.length; i += 4)
        if (users_add_group(field_u32(&list), identity->groups, &identity->group_count, USERS_GROUPS))
            return -1;
    if (!merge || !entry.name[0])
        return 0;
    int fd;
    if (open_database(launch, "/etc/group", &fd))
        return -1;
    if (fd < 0)
        return 0;
    int failed =
        users_member_groups(fd, entry.name, identity->groups, &identity->group_count, USERS_GROUPS);
    close_keeping_errno(fd);
    return failed ? step_fail(launch, "read /etc/group") : 0;
}

static int add_group(struct launch *launch, const char *name)
{
    uint32_t gid;
    struct identity *identity = &launch->identity;
    if (find_group(launch, name, &gid))
        return -1;
    return users_add_group(gid, identity->groups, &identity->group_count, USERS_GROUPS);
}

/* An id that the user namespace does not have would fail at the start of the command, long after the container was made. */
static int lookup_user(struct launch *launch, struct fields *fields)
{
    const struct identity *identity = &launch->identity;
    if (find_identity(launch, fields))
        return -1;
    errno = ERANGE;
    if (launch->uids && identity->uid >= launch->uids)
        return step_fail(launch, "user %u of %u", identity->uid, launch->uids);
    for (size_t i = 0; launch->gids && i < identity->group_count; i++)
        if (identity->groups[i] >= launch->gids)
            return step_fail(launch, "group %u of %u", identity->groups[i], launch->gids);
    return 0;
}

/* No CAP_SYS_RESOURCE: a hard limit above ours is clamped to ours instead of failing the container. */
static int set_rlimit(int resource, uint64_t soft, uint64_t hard)
{
    struct rlimit now, wanted = {.rlim_cur = soft, .rlim_max = hard};
    if (setrlimit(resource, &wanted) == 0)
        return 0;
    if (errno != EPERM || getrlimit(resource, &now))
        return -1;
    if (wanted.rlim_max > now.rlim_max)
        wanted.rlim_max = now.rlim_max;
    if (wanted.rlim_cur > wanted.rlim_max)
        wanted.rlim_cur = wanted.rlim_max;
    return setrlimit(resource, &wanted);
}

/* After the pivot: what "." says must lie inside the root, whatever descriptor or link the path went through. */
static int enter_directory(struct launch *launch, const char *path)
{
    char now[PATH_MAX];
    if (chdir(path)) {
        if (errno != ENOENT)
            return step_fail(launch, "%s", path);
        int made = rooted_make(own_root(launch), path, ROOTED_DIRECTORY, 0755);
        if (made < 0)
            return step_fail(launch, "%s", path);
        int failed = fchdir(made);
        close(made);
        if (failed)
            return step_fail(launch, "%s", path);
    }
    if (syscall(SYS_getcwd, now, sizeof now) < 0 || now[0] != '/') {
        errno = EXDEV;
        return step_fail(launch, "%s lies outside of the container's root", path);
    }
    return 0;
}

static int drop_bounding(uint64_t keep)
{
    for (int cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            return errno == EINVAL ? 0 : -1; /* past the kernel's last capability */
    }
    return 0;
}

static int set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> (32 * i));
        data[i].permitted = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
    }
    return (int)syscall(SYS_capset, &header, data);
}

/* Capabilities that this process has; one it lacks itself cannot be given away. */
static uint64_t own_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data))
        return 0;
    return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static int raise_ambient(uint64_t ambient)
{
    for (int cap = 0; cap < 64; cap++)
        if (ambient >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0))
            return -1;
    return 0;
}

void give_pipes(const int fds[3], uint32_t uid, uint32_t gid)
{
    struct stat st;
    for (int i = 0; i < 3; i++)
        if (fstat(fds[i], &st) == 0 && S_ISFIFO(st.st_mode))
            (void)!fchown(fds[i], uid, gid);
}

void bind_to_launcher(const struct launch *launch)
{
    if (launch->ends_with_launcher)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

int become_root(void)
{
    return setgroups(0, NULL) || syscall(SYS_setresgid, 0, 0, 0) || syscall(SYS_setresuid, 0, 0, 0) ? -1 : 0;
}

static int take_identity(struct launch *launch, struct fields *fields)
{
    const struct identity *identity = &launch->identity;
    launch->permitted = own_permitted();
    if (drop_bounding(field_u64(fields)))
        return step_fail(launch, "bounding set");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        return step_fail(launch, "keep capabilities");
    give_pipes((const int[]){0, 1, 2}, identity->uid, (uint32_t)-1);
    if (setgroups(identity->group_count, identity->groups))
        return step_fail(launch, "setgroups");
    if (syscall(SYS_setresgid, identity->gid, identity->gid, identity->gid))
        return step_fail(launch, "setgid %u", identity->gid);
    if (syscall(SYS_setresuid, identity->uid, identity->uid, identity->uid))
        return step_fail(launch, "setuid %u", identity->uid);
    bind_to_launcher(launch);
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        return step_fail(launch, "keep capabilities");
    return set_capabilities(launch->permitted, launch->permitted, 0) ? step_fail(launch, "capset") : 0;
}

/* A filter may be in place already: besides execve this is all that it has to let through. */
static int take_capabilities(struct launch *launch, struct fields *fields)
{
    uint64_t own = launch->permitted;
    uint64_t effective = field_u64(fields) & own, permitted = field_u64(fields) & own;
    uint64_t inheritable = field_u64(fields) & own, ambient = field_u64(fields) & own;
    if (set_capabilities(effective, permitted, inheritable))
        return step_fail(launch, "capset");
    return raise_ambient(ambient) ? step_fail(launch, "ambient set") : 0;
}

/* Nothing of ours is open in the container's process; done before a filter could refuse it. */
static void seal(struct launch *launch)
{
    if (!launch->sealed)
        sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    launch->sealed = 1;
}

static int load_seccomp(struct launch *launch, struct fields *fields)
{
    unsigned flags = field_u32(fields);
    struct bytes filter = field_bytes(fields);
    struct sock_fprog program = {
        .len = (unsigned short)(filter.length / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(uintptr_t)filter.data,
    };
    if (filter.length % sizeof(struct sock_filter) || filter.length / sizeof(struct sock_filter) > BPF_MAXINSNS) {
        errno = EINVAL;
        return step_fail(launch, "filter of %zu bytes", filter.length);
    }
    seal(launch);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

int step_identity(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_LOOKUP_USER:
        return lookup_user(launch, fields);
    case OP_ADD_GROUP:
        return add_group(launch, field_str(fields));
    case OP_SETSID:
        return setsid() < 0 ? -1 : 0;
    case OP_RLIMIT: {
        int resource = (int)field_u32(fields);
        uint64_t soft = field_u64(fields);
        return set_rlimit(resource, soft, field_u64(fields));
    }
    case OP_CWD:
        return enter_directory(launch, field_str(fields));
    case OP_IDENTITY:
        return take_identity(launch, fields);
    case OP_CAPABILITIES:
        return take_capabilities(launch, fields);
    case OP_NO_NEW_PRIVS:
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case OP_SECCOMP:
        return load_seccomp(launch, fields);
    case OP_UMASK:
        umask(field_u32(fields));
        return 0;
    default:
        errno = ENOSYS;
        return -1;
    }
}

static char **with_home(char **envp, const char *home)
{
    static char entry[5 + USERS_HOME];
    size_t count = 0;
    for (; envp[count]; count++)
        if (strncmp(envp[count], "HOME=", 5) == 0)
            return envp;
    char **more = malloc((count + 2) * sizeof *more);
    if (!more)
        return envp;
    memcpy(more, envp, count * sizeof *more);
    snprintf(entry, sizeof entry, "HOME=%s", *home ? home : "/");
    more[count] = entry;
    more[count + 1] = NULL;
    return more;
}

/* Tries the candidates in order, as execvp(3) would; the most telling errno is the one reported. */
int step_exec(struct launch *launch, struct fields *fields)
{
    char **candidates = field_vector(fields), **argv = field_vector(fields), **envp = field_vector(fields);
    int add_home = (int)field_u32(fields), failure = ENOENT;
    if (!candidates || !argv || !envp)
        return -1;
    if (launch->hook.path)
        hook_exec(launch);
    if (add_home)
        envp = with_home(envp, launch->identity.home);
    seal(launch);
    for (; *candidates; candidates++) {
        struct stat st;
        execve(*candidates, argv, envp);
        if (errno == EACCES && stat(*candidates, &st) == 0 && S_ISDIR(st.st_mode))
            errno = EISDIR;
        if (errno == ENOENT && stat(*candidates, &st) == 0)
            errno = ELIBACC; /* the file is there, what it names as interpreter is not */
        if (errno != ENOENT && errno != ENOTDIR) {
            failure = errno;
            step_fail(launch, "%s", *candidates);
            if (failure != EACCES)
                break;
        }
    }
    errno = failure;
    return -1;
}
