#include "rooted.h"

#include "sys.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LINK_LIMIT 40

/* A rename or mount anywhere on the machine while ".." is resolved makes the kernel give up: EAGAIN, to be tried again. */
#define RETRY_LIMIT 100000

static int resolve(int root, const char *path, uint64_t flags, uint64_t how)
{
    int fd, tries = 0;
    do
        fd = sys_openat2(root, path, flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && tries++ < RETRY_LIMIT);
    return fd;
}

int rooted_open(int root, const char *path, uint64_t flags)
{
    return resolve(root, path, flags, 0);
}

int rooted_open_nolinks(int root, const char *path)
{
    return resolve(root, path, O_PATH, RESOLVE_NO_SYMLINKS);
}

/* Length of the prefix of `path` that ends with the component after position `from`; 0 at the end. */
static size_t next_component(const char *path, size_t from)
{
    while (path[from] == '/')
        from++;
    if (path[from] == 0)
        return 0;
    while (path[from] && path[from] != '/')
        from++;
    return from;
}

/* Opens the longest prefix that exists. Returns its descriptor; `missing` is the component after it, `end` that one's end. */
static int open_existing_prefix(int root, const char *path, char missing[NAME_MAX + 1], size_t *start, size_t *end)
{
    char prefix[PATH_MAX];
    int parent = rooted_open(root, ".", O_PATH | O_DIRECTORY);
    size_t done = 0;
    for (size_t stop = next_component(path, 0); parent >= 0 && stop > 0; stop = next_component(path, stop)) {
        memcpy(prefix, path, stop);
        prefix[stop] = 0;
        int next = rooted_open(root, prefix, O_PATH);
        if (next < 0) {
            int failure = errno;
            while (path[done] == '/')
                done++;
            if (failure != ENOENT || stop - done > NAME_MAX) {
                close(parent);
                errno = failure == ENOENT ? ENAMETOOLONG : failure;
                return -1;
            }
            memcpy(missing, path + done, stop - done);
            missing[stop - done] = 0;
            *start = done;
            *end = stop;
            return parent;
        }
        close(parent);
        parent = next;
        done = stop;
    }
    *end = 0;
    return parent;
}

static int make_entry(int parent, const char *name, enum rooted_kind kind, mode_t mode)
{
    if (kind == ROOTED_DIRECTORY)
        return mkdirat(parent, name, mode);
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

/* Replaces the component between `start` and `end` by what the link there says. */
static int follow_dangling(int parent, const char *name, char path[PATH_MAX], size_t start, size_t end)
{
    char target[PATH_MAX], joined[PATH_MAX];
    ssize_t length = readlinkat(parent, name, target, sizeof target - 1);
    if (length < 0)
        return -1;
    target[length] = 0;
    int prefix = target[0] == '/' ? 0 : (int)start;
    int n = snprintf(joined, sizeof joined, "%.*s%s%s", prefix, path, target, path + end);
    if (n < 0 || (size_t)n >= sizeof joined) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path, joined, (size_t)n + 1);
    return 0;
}

/* What is there, or lacks its last component alone: most paths. -1 for all others, and whatever else there is about them. */
static int make_last(int root, const char *path, enum rooted_kind kind, mode_t mode)
{
    char above[PATH_MAX];
    int fd = rooted_open(root, path, O_PATH);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (fd >= 0 || errno != ENOENT || *name == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return fd;
    size_t length = slash ? (size_t)(slash - path) : 0;
    memcpy(above, path, length);
    above[length] = 0;
    int parent = rooted_open(root, length ? above : ".", O_PATH | O_DIRECTORY);
    if (parent < 0)
        return -1;
    int failed = make_entry(parent, name, kind, mode);
    close(parent);
    return failed ? -1 : rooted_open(root, path, O_PATH);
}

int rooted_make(int root, const char *wanted, enum rooted_kind kind, mode_t mode)
{
    char path[PATH_MAX], name[NAME_MAX + 1];
    if (strlen(wanted) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = make_last(root, wanted, kind, mode);
    if (fd >= 0)
        return fd;
    strcpy(path, wanted);
    for (int links = 0, made = 0; links < LINK_LIMIT && made < PATH_MAX;) {
        size_t start, end;
        int parent = open_existing_prefix(root, path, name, &start, &end);
        if (parent < 0 || end == 0)
            return parent;
        int is_last = next_component(path, end) == 0;
        int failed = make_entry(parent, name, is_last ? kind : ROOTED_DIRECTORY, is_last ? mode : 0755);
        if (failed && errno == EEXIST) {
            failed = follow_dangling(parent, name, path, start, end);
            links++;
        }
        made++;
        int failure = errno;
        close(parent);
        if (failed) {
            errno = failure;
            return -1;
        }
    }
    errno = ELOOP;
    return -1;
}

int rooted_parent(int root, const char *path, const char **name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof parent || **name == 0 || strcmp(*name, "..") == 0 || strcmp(*name, ".") == 0) {
        errno = EINVAL;
        return -1;
    }
    memcpy(parent, path, length);
    parent[length] = 0;
    return rooted_make(root, length ? parent : ".", ROOTED_DIRECTORY, 0755);
}
