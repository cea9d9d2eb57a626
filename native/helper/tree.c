/* Walks through trees of files that may be hostile: by descriptors, never through a link, never into another mount. */
#include "helper.h"
#include "../lib/sys.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* Each level holds three descriptors open. */
#define DEPTH_MAX 200

struct walk {
    dev_t device;       /* of the tree's root: others are mounts */
    char *path;         /* of what is looked at, for the message */
    const char *label;
};

/* Adds a name to the walk's path; returns the length to go back to. */
static size_t enter(struct walk *walk, const char *name)
{
    size_t length = strlen(walk->path);
    snprintf(walk->path + length, PATH_MAX - length, "/%s", name);
    return length;
}

static int is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The next name of a directory: 1, or 0 at its end, or -1. */
static int next_name(DIR *dir, const char **name)
{
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && is_dot(entry->d_name));
    *name = entry ? entry->d_name : NULL;
    return entry ? 1 : errno ? -1 : 0;
}

/* A stream of a directory that is open, perhaps with O_PATH. */
static DIR *list(int fd)
{
    int readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = readable < 0 ? NULL : fdopendir(readable);
    if (!dir && readable >= 0)
        close(readable);
    return dir;
}

/* Labels are the system's to give, and what an overlay keeps in trusted.* is its own. */
static int is_copied(const char *name)
{
    return strncmp(name, "trusted.", 8) != 0 && strcmp(name, "security.selinux") != 0;
}

static int copy_attributes(int from, int to)
{
    static char names[65536], value[65536];
    ssize_t length = flistxattr(from, names, sizeof names);
    if (length < 0)
        return errno == ENOTSUP ? 0 : -1;
    for (char *name = names; name < names + length; name += strlen(name) + 1) {
        if (!is_copied(name))
            continue;
        ssize_t size = fgetxattr(from, name, value, sizeof value);
        if (size < 0 && errno == ENODATA)
            continue;
        if (size < 0 || (fsetxattr(to, name, value, (size_t)size, 0) && errno != ENOTSUP))
            return -1;
    }
    return 0;
}

/* In this order: a change of owner takes setuid bits and capabilities away. */
static int copy_metadata(int from, int to, const struct stat *st)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    return fchown(to, st->st_uid, st->st_gid) || fchmod(to, st->st_mode & 07777) || copy_attributes(from, to) ||
                   futimens(to, times)
               ? -1
               : 0;
}

/* What has no content of its own: links, pipes, devices. */
static int copy_special(int from, int to, const char *name, const struct stat *st)
{
    char target[PATH_MAX];
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (S_ISLNK(st->st_mode)) {
        ssize_t length = readlinkat(from, name, target, sizeof target - 1);
        if (length < 0)
            return -1;
        target[length] = 0;
        if (symlinkat(target, to, name))
            return -1;
    } else if (mknodat(to, name, st->st_mode, st->st_rdev)) {
        return -1;
    }
    return fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) ||
                   utimensat(to, name, times, AT_SYMLINK_NOFOLLOW)
               ? -1
               : 0;
}

static int copy_range(int from, int to, off_t start, off_t end)
{
    static char buffer[65536];
    off_t in = start, out = start;
    while (in < end) {
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);
        if (n == 0)
            return 0;
        if (n > 0)
            continue;
        if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
            return -1;
        n = pread(from, buffer, sizeof buffer, in);
        if (n <= 0)
            return (int)n;
        if (pwrite(to, buffer, (size_t)n, out) != n)
            return -1;
        in += n;
        out += n;
    }
    return 0;
}

/* Holes stay holes: a file that claims to be large takes the room that it takes in the image. */
static int copy_content(int from, int to, off_t size)
{
    for (off_t end = 0; end < size;) {
        off_t start = lseek(from, end, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        end = start < 0 ? -1 : lseek(from, start, SEEK_HOLE);
        if (end < 0 || copy_range(from, to, start, end))
            return -1;
    }
    return ftruncate(to, size);
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int out = in < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int failed = out < 0 || copy_content(in, out, st->st_size) || copy_metadata(in, out, st);
    int failure = errno;
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    errno = failure;
    return failed ? -1 : 0;
}

static int copy_directory(struct walk *walk, int from, int to, unsigned depth);

static int copy_below(struct walk *walk, int from, int to, const char *name, const struct stat *st, unsigned depth)
{
    if (st->st_dev != walk->device)
        return 0;
    if (mkdirat(to, name, 0700))
        return -1;
    int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int out = in < 0 ? -1 : openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int failed = out < 0 || copy_directory(walk, in, out, depth + 1);
    int failure = errno;
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    errno = failure;
    return failed ? -1 : 0;
}

static int copy_entry(struct walk *walk, int from, int to, const char *name, unsigned depth)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    if (S_ISDIR(st.st_mode))
        return copy_below(walk, from, to, name, &st, depth);
    if (S_ISREG(st.st_mode))
        return copy_file(from, to, name, &st);
    return S_ISSOCK(st.st_mode) ? 0 : copy_special(from, to, name, &st);
}

static int copy_directory(struct walk *walk, int from, int to, unsigned depth)
{
    struct stat st;
    const char *name;
    int more;
    if (depth > DEPTH_MAX) {
        errno = ELOOP;
        return -1;
    }
    DIR *dir = list(from);
    if (!dir)
        return -1;
    while ((more = next_name(dir, &name)) > 0) {
        size_t length = enter(walk, name);
        if (copy_entry(walk, dirfd(dir), to, name, depth)) {
            more = -1;
            break;
        }
        walk->path[length] = 0;
    }
    int failed = more < 0 || fstat(dirfd(dir), &st) || copy_metadata(dirfd(dir), to, &st);
    int failure = errno;
    closedir(dir);
    errno = failure;
    return failed ? -1 : 0;
}

int tree_copy(int from, int to, char failed[PATH_MAX])
{
    struct stat st;
    struct walk walk = {.path = failed};
    failed[0] = 0;
    int out = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = out < 0 || fstat(from, &st) ? -1 : 0;
    walk.device = st.st_dev;
    if (result == 0)
        result = copy_directory(&walk, from, out, 0);
    int failure = errno;
    if (out >= 0)
        close(out);
    errno = failure;
    return result;
}

/* By way of /proc, the host's as yet: a descriptor that is only a path takes no fsetxattr(2), and a link no other. */
int file_label(int fd, const char *label)
{
    char path[64], before[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    size_t size = strlen(label) + 1;
    /* Mostly it is there already: a volume of millions of files is not written anew at each start. */
    ssize_t n = getxattr(path, "security.selinux", before, sizeof before);
    if (n > 0 && (size_t)n <= size && (size_t)n >= size - 1 && memcmp(before, label, (size_t)n) == 0)
        return 0;
    return setxattr(path, "security.selinux", label, size, 0) && errno != ENOTSUP ? -1 : 0;
}

static int label_entry(struct walk *walk, int fd, unsigned depth)
{
    struct stat st;
    const char *name;
    int more;
    if (fstat(fd, &st))
        return -1;
    if (st.st_dev != walk->device)
        return 0;
    if (file_label(fd, walk->label))
        return -1;
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (depth > DEPTH_MAX) {
        errno = ELOOP;
        return -1;
    }
    DIR *dir = list(fd);
    if (!dir)
        return -1;
    while ((more = next_name(dir, &name)) > 0) {
        size_t length = enter(walk, name);
        int entry = openat(dirfd(dir), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        int failed = entry < 0 ? errno != ENOENT : label_entry(walk, entry, depth + 1);
        int failure = errno;
        if (entry >= 0)
            close(entry);
        errno = failure;
        if (failed) {
            more = -1;
            break;
        }
        walk->path[length] = 0;
    }
    int failure = errno;
    closedir(dir);
    errno = failure;
    return more < 0 ? -1 : 0;
}

int tree_label(int fd, const char *label, char failed[PATH_MAX])
{
    struct stat st;
    struct walk walk = {.path = failed, .label = label};
    failed[0] = 0;
    if (fstat(fd, &st))
        return -1;
    walk.device = st.st_dev;
    return label_entry(&walk, fd, 0);
}
