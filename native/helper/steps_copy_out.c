/*
 * What is copied out of a container: COPY_STAT tells what a path is, COPY_OUT
 * writes a tar of it. Both end the process, as an execve would end the plan.
 * The container is hostile, and may change what is read meanwhile: the path is
 * resolved inside the root, what lies below is reached by descriptors, and no
 * link is followed.
 */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"
#include "tarball.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 400 /* each level holds a descriptor or two */
#define OCTAL_MAX 077777777777LL /* of a size; what is longer goes into an extended header */

void copy_failed(const char *path, const char *what)
{
    int failure = errno;
    dprintf(2, "%s: %s%s%s\n", *path ? path : "/", what, failure ? ": " : "", failure ? strerror(failure) : "");
    _exit(failure == ENOENT ? COPY_NOT_THERE : 1);
}

/* From here on the launcher takes the process for running. */
static void begin(struct launch *launch)
{
    close(launch->sync);
    launch->sync = -1;
}

/* ---- output ---- */

static char buffer[65536];
static size_t filled;

static void flush(void)
{
    for (size_t done = 0; done < filled;) {
        ssize_t n = write(1, buffer + done, filled - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            _exit(1); /* nobody reads it any more */
        done += (size_t)n;
    }
    filled = 0;
}

static void put(const void *data, size_t length)
{
    for (const char *at = data; length > 0;) {
        size_t part = sizeof buffer - filled < length ? sizeof buffer - filled : length;
        memcpy(buffer + filled, at, part);
        filled += part;
        at += part;
        length -= part;
        if (filled == sizeof buffer)
            flush();
    }
}

static void pad(uint64_t length)
{
    static const char zeros[TAR_BLOCK];
    put(zeros, (size_t)(-length & (TAR_BLOCK - 1)));
}

/* ---- headers ---- */

static void octal(char *field, size_t size, uint64_t value)
{
    snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)value);
}

static void put_header(struct tar_header *header)
{
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    snprintf(header->checksum, sizeof header->checksum, "%06o", tar_checksum(header));
    header->checksum[7] = ' ';
    put(header, TAR_BLOCK);
}

/* A record is "LENGTH key=value\n", and its length counts its own digits. */
static size_t record(char *at, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, length = rest + 1;
    while (length != rest + (size_t)snprintf(NULL, 0, "%zu", length))
        length = rest + (size_t)snprintf(NULL, 0, "%zu", length);
    return (size_t)sprintf(at, "%zu %s=%s\n", length, key, value);
}

/* What does not fit into the header's fields goes before it (pax, POSIX 2001). */
static void put_extended(const char *path, const char *link, uint64_t size, const struct stat *st)
{
    static char text[2 * PATH_MAX + 512];
    char number[32];
    size_t length = 0;
    if (strlen(path) > sizeof((struct tar_header *)0)->name)
        length += record(text + length, "path", path);
    if (strlen(link) > sizeof((struct tar_header *)0)->link)
        length += record(text + length, "linkpath", link);
    if (size > OCTAL_MAX && snprintf(number, sizeof number, "%llu", (unsigned long long)size))
        length += record(text + length, "size", number);
    if (st->st_uid > 07777777 && snprintf(number, sizeof number, "%u", st->st_uid))
        length += record(text + length, "uid", number);
    if (st->st_gid > 07777777 && snprintf(number, sizeof number, "%u", st->st_gid))
        length += record(text + length, "gid", number);
    if (length == 0)
        return;
    struct tar_header header = {.type = 'x'};
    strcpy(header.name, "PaxHeaders/x");
    octal(header.mode, sizeof header.mode, 0644);
    octal(header.uid, sizeof header.uid, 0);
    octal(header.gid, sizeof header.gid, 0);
    octal(header.size, sizeof header.size, length);
    octal(header.mtime, sizeof header.mtime, 0);
    put_header(&header);
    put(text, length);
    pad(length);
}

static void put_entry(char type, const char *path, const char *link, uint64_t size, const struct stat *st)
{
    struct tar_header header = {.type = type};
    put_extended(path, link, size, st);
    strncpy(header.name, path, sizeof header.name); /* without an end when it is full, as tar has it */
    strncpy(header.link, link, sizeof header.link);
    octal(header.mode, sizeof header.mode, st->st_mode & 07777);
    octal(header.uid, sizeof header.uid, st->st_uid & 07777777);
    octal(header.gid, sizeof header.gid, st->st_gid & 07777777);
    octal(header.size, sizeof header.size, size > OCTAL_MAX ? 0 : size);
    octal(header.mtime, sizeof header.mtime, st->st_mtim.tv_sec < 0 ? 0 : (uint64_t)st->st_mtim.tv_sec);
    octal(header.major, sizeof header.major, major(st->st_rdev));
    octal(header.minor, sizeof header.minor, minor(st->st_rdev));
    put_header(&header);
}

/* ---- the walk ---- */

static char path[PATH_MAX]; /* in the archive, of what is looked at */

static void put_file(int fd, const struct stat *st)
{
    static char chunk[65536];
    uint64_t left = (uint64_t)st->st_size;
    put_entry('0', path, "", left, st);
    while (left > 0) {
        ssize_t n = read(fd, chunk, left < sizeof chunk ? (size_t)left : sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            copy_failed(path, "read");
        if (n == 0) { /* it has become shorter meanwhile: the header has its length */
            memset(chunk, 0, sizeof chunk);
            n = left < sizeof chunk ? (ssize_t)left : (ssize_t)sizeof chunk;
        }
        put(chunk, (size_t)n);
        left -= (uint64_t)n;
    }
    pad((uint64_t)st->st_size);
}

/* File systems of the kernel's whose files are no files; f_type of linux/magic.h. */
static int is_kernels(int fd)
{
    static const unsigned long types[] = {0x9fa0 /* proc */,     0x62656572 /* sysfs */,  0x27e0eb /* cgroup */,
                                          0x63677270 /* cgroup2 */, 0x1cd1 /* devpts */,  0x19800202 /* mqueue */,
                                          0x64626720 /* debugfs */, 0x74726163 /* tracefs */, 0xcafe4a11 /* bpf */};
    struct statfs fs;
    if (fstatfs(fd, &fs))
        return 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((unsigned long)fs.f_type == types[i])
            return 1;
    return 0;
}

static void walk(int parent, const char *name, int depth);

static void put_directory(int fd, const struct stat *st, int depth)
{
    size_t length = strlen(path);
    if (length + 2 > sizeof path)
        errno = ENAMETOOLONG, copy_failed(path, "copy");
    if (length == 0 || path[length - 1] != '/')
        path[length++] = '/', path[length] = 0;
    put_entry('5', path, "", 0, st);
    if (depth == DEPTH_MAX)
        errno = ELOOP, copy_failed(path, "copy");
    DIR *dir = is_kernels(fd) ? NULL : fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (errno = 0, entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (length + strlen(entry->d_name) >= sizeof path)
            errno = ENAMETOOLONG, copy_failed(path, "copy");
        strcpy(path + length, entry->d_name);
        walk(fd, entry->d_name, depth + 1);
        path[length] = 0;
    }
    if (errno)
        copy_failed(path, "list");
    closedir(dir);
}

/* What is no file and no directory is never opened: that alone may do something. */
static void put_special(int parent, const char *name, const struct stat *st)
{
    char link[PATH_MAX];
    ssize_t length;
    switch (st->st_mode & S_IFMT) {
    case S_IFLNK:
        length = readlinkat(parent, name, link, sizeof link - 1);
        if (length < 0)
            copy_failed(path, "read the link");
        link[length] = 0;
        return put_entry('2', path, link, 0, st);
    case S_IFCHR:
        return put_entry('3', path, "", 0, st);
    case S_IFBLK:
        return put_entry('4', path, "", 0, st);
    case S_IFIFO:
        return put_entry('6', path, "", 0, st);
    default:
        return; /* a socket is nothing without its process */
    }
}

static void walk(int parent, const char *name, int depth)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT && depth > 0)
            return; /* it went meanwhile */
        copy_failed(path, "copy");
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return put_special(parent, name, &st);
    int kind = S_ISDIR(st.st_mode) ? O_DIRECTORY : 0;
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | kind);
    if (fd < 0 && errno == ENOENT && depth > 0)
        return;
    /* Another thing may have come into its place: what is open counts. */
    if (fd < 0 || fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        copy_failed(path, "open");
    if (S_ISDIR(st.st_mode))
        return put_directory(fd, &st, depth);
    put_file(fd, &st);
    close(fd);
}

/* ---- the steps ---- */

/* What is at a path below the root, opened with `how`. */
static int find(const char *wanted, uint32_t flags, uint64_t how)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = root < 0 ? -1 : rooted_open(root, wanted, how | (flags & COPY_FOLLOW ? 0 : O_NOFOLLOW));
    if (fd < 0)
        copy_failed(wanted, "open");
    close(root);
    return fd;
}

/* One line: what it is (`d`, `-`, `l` or another letter), its size, its mode in octal, its time, and where a link leads. */
int step_copy_stat(struct launch *launch, struct fields *fields)
{
    const char *wanted = field_str(fields);
    char link[PATH_MAX] = "";
    struct stat st;
    int fd;
    begin(launch);
    fd = find(wanted, field_u32(fields), O_PATH);
    if (fstat(fd, &st))
        copy_failed(wanted, "look at");
    if (S_ISLNK(st.st_mode) && readlinkat(fd, "", link, sizeof link - 1) < 0)
        copy_failed(wanted, "read the link");
    char kind = S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? '-' : S_ISLNK(st.st_mode) ? 'l' : '?';
    dprintf(1, "%c %lld %o %lld %s\n", kind, (long long)st.st_size, st.st_mode & 07777, (long long)st.st_mtim.tv_sec, link);
    _exit(0);
}

/* `name` is what it is called in the archive; empty for a directory whose content is meant. */
int step_copy_out(struct launch *launch, struct fields *fields)
{
    const char *wanted = field_str(fields), *name = field_str(fields);
    static const char end[2 * TAR_BLOCK];
    struct stat st;
    uint32_t flags = field_u32(fields);
    begin(launch);
    int fd = find(wanted, flags, O_PATH);
    snprintf(path, sizeof path, "%s", *name ? name : ".");
    if (fstat(fd, &st))
        copy_failed(wanted, "look at");
    if (S_ISDIR(st.st_mode)) {
        int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            copy_failed(wanted, "open");
        put_directory(dir, &st, 0);
    } else if (S_ISREG(st.st_mode)) {
        int file = find(wanted, flags, O_RDONLY | O_NONBLOCK);
        if (fstat(file, &st) || !S_ISREG(st.st_mode)) /* another thing may have come into its place */
            copy_failed(wanted, "open");
        put_file(file, &st);
    } else {
        put_special(fd, "", &st);
    }
    put(end, sizeof end);
    flush();
    _exit(0);
}
