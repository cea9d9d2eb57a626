/*
 * COPY_IN: takes a tar from stdin and writes what is in it below a directory.
 * It ends the process. What the archive names is resolved inside the root that
 * the step is given, whatever links stand there or come with the archive; the
 * archive itself is checked field by field.
 */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"
#include "tarball.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Of an extended header, or of a long name. */
#define EXTENDED_MAX 65536
#define DIRECTORIES_MAX 100000

struct entry {
    char type;
    char path[PATH_MAX];
    char link[PATH_MAX];
    uint64_t size;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    dev_t device;
    struct timespec mtime;
};

/* What an extended header says of the entry that follows. */
static struct {
    int has_path, has_link, has_size, has_uid, has_gid, has_mtime;
    char path[PATH_MAX];
    char link[PATH_MAX];
    uint64_t size;
    uid_t uid;
    gid_t gid;
    int64_t mtime;
} extended;

/* Where it goes, and how. */
static struct {
    int root;
    const char *dir;
    uint32_t flags;
    uid_t uid;
    gid_t gid;
} into;

/* A directory's time is set once nothing is written into it any more. */
struct directory {
    struct directory *next;
    struct timespec mtime;
    char path[];
};
static struct directory *directories;
static size_t directory_count;

static void fail(const char *path, int error, const char *what)
{
    errno = error;
    copy_failed(path, what);
}

/* ---- input ---- */

/* 0 at the end of the input, when that is where a block would begin. */
static int get(void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = read(0, (char *)data + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("stdin", errno, "read");
        if (n == 0 && done == 0)
            return 0;
        if (n == 0)
            fail("the archive", 0, "it ends within an entry");
        done += (size_t)n;
    }
    return 1;
}

static void skip(uint64_t length)
{
    static char chunk[65536];
    for (length = (length + TAR_BLOCK - 1) & ~(uint64_t)(TAR_BLOCK - 1); length > 0;) {
        size_t part = length < sizeof chunk ? (size_t)length : sizeof chunk;
        if (!get(chunk, part))
            fail("the archive", 0, "it ends within an entry");
        length -= part;
    }
}

/* An octal number, or, as GNU tar has it for large ones, a binary one with the first bit set; 0 when it is none. */
static int parse(const char *field, size_t size, uint64_t *value)
{
    size_t i = 0;
    *value = 0;
    if ((unsigned char)field[0] == 0x80) {
        for (i = 1; i < size && *value >> 55 == 0; i++)
            *value = *value << 8 | (unsigned char)field[i];
        return i == size;
    }
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    return i == size || field[i] == 0 || field[i] == ' ';
}

static uint64_t number(const char *field, size_t size)
{
    uint64_t value;
    if (!parse(field, size, &value))
        fail("the archive", 0, "a number in it is none");
    return value;
}

/* The decimal number of an extended header, up to its end or a dot. */
static uint64_t decimal(const char *text)
{
    uint64_t value = 0;
    if (*text < '0' || *text > '9')
        fail("the archive", 0, "a number in it is none");
    for (; *text >= '0' && *text <= '9'; text++) {
        if (value > UINT64_MAX / 10 - 1)
            fail("the archive", 0, "a number in it is too large");
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value;
}

static void copy_text(char *to, const char *from, size_t length)
{
    if (length >= PATH_MAX || memchr(from, 0, length))
        fail("the archive", ENAMETOOLONG, "read a name");
    memcpy(to, from, length);
    to[length] = 0;
}

/* ---- extended headers ---- */

static void take_record(const char *key, char *value, size_t length)
{
    if (strcmp(key, "path") == 0) {
        copy_text(extended.path, value, length);
        extended.has_path = 1;
    } else if (strcmp(key, "linkpath") == 0) {
        copy_text(extended.link, value, length);
        extended.has_link = 1;
    } else if (strcmp(key, "size") == 0) {
        extended.size = decimal(value);
        extended.has_size = 1;
    } else if (strcmp(key, "uid") == 0) {
        extended.uid = (uid_t)decimal(value);
        extended.has_uid = 1;
    } else if (strcmp(key, "gid") == 0) {
        extended.gid = (gid_t)decimal(value);
        extended.has_gid = 1;
    } else if (strcmp(key, "mtime") == 0 && *value != '-') {
        extended.mtime = (int64_t)decimal(value);
        extended.has_mtime = 1;
    } else if (strncmp(key, "GNU.sparse.", 11) == 0) {
        fail("the archive", 0, "it has sparse files of GNU's, which are not read");
    }
}

/* "LENGTH key=value\n", one after the other; `text` has room for a byte behind it. */
static void take_records(char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        char *space = memchr(text + at, ' ', length - at);
        uint64_t size = decimal(text + at);
        if (!space || size < 5 || size > length - at || text[at + size - 1] != '\n')
            fail("the archive", 0, "an extended header in it is none");
        char *key = space + 1, *end = text + at + size - 1;
        char *equals = key < end ? memchr(key, '=', (size_t)(end - key)) : NULL;
        if (!equals)
            fail("the archive", 0, "an extended header in it is none");
        *equals = 0;
        *end = 0;
        take_record(key, equals + 1, (size_t)(end - equals - 1));
        at += size;
    }
}

static size_t get_text(char text[EXTENDED_MAX + TAR_BLOCK + 1], uint64_t size)
{
    if (size > EXTENDED_MAX)
        fail("the archive", ENAMETOOLONG, "read an extended header");
    size_t padded = (size_t)((size + TAR_BLOCK - 1) & ~(uint64_t)(TAR_BLOCK - 1));
    if (padded > 0 && !get(text, padded))
        fail("the archive", 0, "it ends within an entry");
    text[size] = 0;
    return (size_t)size;
}

/* 1 when the header was no entry of its own but says more of the next one. */
static int take_extended(char type, uint64_t size)
{
    static char text[EXTENDED_MAX + TAR_BLOCK + 1];
    switch (type) {
    case 'x':
        take_records(text, get_text(text, size));
        return 1;
    case 'g': /* for all that follow: comments, mostly */
        skip(size);
        return 1;
    case 'L': /* GNU's long names end with a NUL */
        get_text(text, size);
        copy_text(extended.path, text, strlen(text));
        extended.has_path = 1;
        return 1;
    case 'K':
        get_text(text, size);
        copy_text(extended.link, text, strlen(text));
        extended.has_link = 1;
        return 1;
    default:
        return 0;
    }
}

/* ---- entries ---- */

static size_t text_in(char *to, const char *field, size_t size)
{
    size_t length = strnlen(field, size);
    memcpy(to, field, length);
    to[length] = 0;
    return length;
}

static void describe(const struct tar_header *header, struct entry *entry)
{
    size_t length = 0;
    entry->type = header->type ? header->type : '0';
    if (memcmp(header->magic, "ustar", 6) == 0 && header->prefix[0]) {
        length = text_in(entry->path, header->prefix, sizeof header->prefix);
        entry->path[length++] = '/';
    }
    text_in(entry->path + length, header->name, sizeof header->name);
    text_in(entry->link, header->link, sizeof header->link);
    if (extended.has_path)
        strcpy(entry->path, extended.path);
    if (extended.has_link)
        strcpy(entry->link, extended.link);
    entry->size = extended.has_size ? extended.size : number(header->size, sizeof header->size);
    entry->mode = (mode_t)number(header->mode, sizeof header->mode) & 07777;
    entry->uid = extended.has_uid ? extended.uid : (uid_t)number(header->uid, sizeof header->uid);
    entry->gid = extended.has_gid ? extended.gid : (gid_t)number(header->gid, sizeof header->gid);
    entry->mtime.tv_sec = (time_t)(extended.has_mtime ? (uint64_t)extended.mtime : number(header->mtime, sizeof header->mtime));
    entry->mtime.tv_nsec = 0;
    if (entry->type == '3' || entry->type == '4')
        entry->device = makedev((unsigned)number(header->major, sizeof header->major),
                                (unsigned)number(header->minor, sizeof header->minor));
    if (entry->type != '0' && entry->type != '7')
        entry->size = 0;
}

/* The next entry; 0 at the archive's end. */
static int next(struct entry *entry)
{
    struct tar_header header;
    memset(&extended, 0, sizeof extended);
    while (get(&header, sizeof header)) {
        if (header.name[0] == 0 && header.checksum[0] == 0)
            return 0;
        uint64_t sum;
        if (!parse(header.checksum, sizeof header.checksum, &sum) || sum != tar_checksum(&header))
            fail("stdin", 0, "it is no tar archive, or a compressed one");
        if (take_extended(header.type, header.size[0] ? number(header.size, sizeof header.size) : 0))
            continue;
        describe(&header, entry);
        return 1;
    }
    return 0;
}

/* ---- writing ---- */

/* The entry's path below the root, without "." and slashes at its ends; empty for the directory itself. */
static int place(const char *path, char whole[PATH_MAX])
{
    size_t length = (size_t)snprintf(whole, PATH_MAX, "%s", into.dir);
    while (*path) {
        size_t part = strcspn(path, "/");
        int is_dot = part == 0 || (part == 1 && path[0] == '.');
        if (part == 2 && path[0] == '.' && path[1] == '.')
            fail(path, EINVAL, "copy"); /* nothing that is packed as it is has such a name */
        if (!is_dot && length + part + 2 > PATH_MAX)
            fail(path, ENAMETOOLONG, "copy");
        if (!is_dot) {
            whole[length++] = '/';
            memcpy(whole + length, path, part);
            whole[length += part] = 0;
        }
        path += part + (path[part] == '/');
    }
    return strcmp(whole, into.dir) != 0;
}

static uid_t uid_of(const struct entry *entry)
{
    return into.flags & COPY_KEEP_OWNER ? entry->uid : into.uid;
}

static gid_t gid_of(const struct entry *entry)
{
    return into.flags & COPY_KEEP_OWNER ? entry->gid : into.gid;
}

/*
 * A descriptor of what was just made, for what is to be set: who is in the container may have put something else in its
 * place, which must not get another owner by that.
 */
static int made(int parent, const char *name, mode_t kind, const struct entry *entry)
{
    struct stat st;
    int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        fail(entry->path, errno, "look at");
    if ((st.st_mode & S_IFMT) != kind || st.st_nlink != 1)
        fail(entry->path, 0, "somebody else has put something in its place");
    return fd;
}

static void own(int fd, const struct entry *entry)
{
    if (fchownat(fd, "", uid_of(entry), gid_of(entry), AT_EMPTY_PATH))
        fail(entry->path, errno, "set the owner of");
}

/* After the owner, whose change takes set-user-id bits away. */
static mode_t mode_of(const struct entry *entry)
{
    return into.flags & COPY_KEEP_OWNER ? entry->mode : entry->mode & 01777;
}

static void note_directory(const char *whole, const struct entry *entry)
{
    size_t length = strlen(whole) + 1;
    struct directory *noted = directory_count < DIRECTORIES_MAX ? malloc(sizeof *noted + length) : NULL;
    if (!noted)
        return; /* then its time is that of the copy */
    memcpy(noted->path, whole, length);
    noted->mtime = entry->mtime;
    noted->next = directories;
    directories = noted;
    directory_count++;
}

/* By a descriptor: the container may have put a link in its place, and fchmodat(2) would follow it to the host's files. */
static void dress_directory(int parent, const char *name, const struct entry *entry)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, uid_of(entry), gid_of(entry)) || fchmod(fd, mode_of(entry)))
        fail(entry->path, errno, "set the owner and mode of");
    close(fd);
}

static void put_directory(int parent, const char *name, const char *whole, const struct entry *entry)
{
    struct stat st;
    if (mkdirat(parent, name, 0700) == 0) {
        dress_directory(parent, name, entry);
        note_directory(whole, entry);
        return;
    }
    if (errno != EEXIST)
        fail(entry->path, errno, "make");
    /* A link to a directory is as good: it is followed inside the root. */
    int fd = rooted_open(into.root, whole, O_PATH | O_DIRECTORY);
    if (fd < 0 || fstat(fd, &st))
        fail(entry->path, EEXIST, "a directory cannot take the place of a file");
    close(fd);
}

/* Makes room for what is no directory; a mount in its place stays, and is written into. */
static int clear(int parent, const char *name, const struct entry *entry)
{
    struct stat st;
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 1;
    int failure = errno;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
        fail(entry->path, EISDIR, "a file cannot take the place of a directory");
    if (failure != EBUSY)
        fail(entry->path, failure, "replace");
    return 0;
}

static void put_content(int fd, const struct entry *entry)
{
    static char chunk[65536];
    for (uint64_t left = entry->size; left > 0;) {
        size_t part = left < sizeof chunk ? (size_t)left : sizeof chunk;
        if (!get(chunk, part))
            fail("the archive", 0, "it ends within an entry");
        for (size_t done = 0; done < part;) {
            ssize_t n = write(fd, chunk + done, part - done);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                fail(entry->path, errno, "write");
            done += (size_t)n;
        }
        left -= part;
    }
    if (entry->size % TAR_BLOCK)
        get(chunk, TAR_BLOCK - entry->size % TAR_BLOCK);
}

static void put_file(int parent, const char *name, const struct entry *entry)
{
    struct timespec times[2] = {entry->mtime, entry->mtime};
    int flags = clear(parent, name, entry) ? O_CREAT | O_EXCL : O_TRUNC;
    int fd = openat(parent, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        fail(entry->path, errno, "make");
    put_content(fd, entry);
    if (fchown(fd, uid_of(entry), gid_of(entry)) || fchmod(fd, mode_of(entry)) || futimens(fd, times))
        fail(entry->path, errno, "set the owner, mode and time of");
    if (close(fd))
        fail(entry->path, errno, "write");
}

static void put_hard_link(int parent, const char *name, const struct entry *entry)
{
    char whole[PATH_MAX];
    const char *old;
    if (!place(entry->link, whole))
        fail(entry->path, EINVAL, "link");
    int from = rooted_parent(into.root, whole, &old);
    if (from < 0)
        fail(entry->path, errno, "link");
    clear(parent, name, entry);
    if (linkat(from, old, parent, name, 0))
        fail(entry->path, errno, "link");
    close(from);
}

static void put_link(int parent, const char *name, const struct entry *entry)
{
    struct timespec times[2] = {entry->mtime, entry->mtime};
    clear(parent, name, entry);
    if (symlinkat(entry->link, parent, name))
        fail(entry->path, errno, "make the link");
    int fd = made(parent, name, S_IFLNK, entry);
    own(fd, entry);
    utimensat(fd, "", times, AT_EMPTY_PATH);
    close(fd);
}

static void put_node(int parent, const char *name, const struct entry *entry)
{
    mode_t kind = entry->type == '3' ? S_IFCHR : entry->type == '4' ? S_IFBLK : S_IFIFO;
    if (kind != S_IFIFO && into.flags & COPY_NO_DEVICES)
        fail(entry->path, 0, "it is a device, and those are not copied to the node");
    clear(parent, name, entry);
    /* With its mode, which no umask changes here: set later, it could be that of what a link in its place leads to. */
    if (mknodat(parent, name, kind | mode_of(entry), entry->device))
        fail(entry->path, errno, "make");
    int fd = made(parent, name, kind, entry);
    own(fd, entry);
    close(fd);
}

static void put_entry(const struct entry *entry)
{
    char whole[PATH_MAX];
    const char *name;
    if (!place(entry->path, whole)) {
        skip(entry->size);
        return;
    }
    int parent = rooted_parent(into.root, whole, &name);
    if (parent < 0)
        fail(entry->path, errno, "copy");
    switch (entry->type) {
    case '0':
    case '7':
        put_file(parent, name, entry);
        break;
    case '1':
        put_hard_link(parent, name, entry);
        break;
    case '2':
        put_link(parent, name, entry);
        break;
    case '3':
    case '4':
    case '6':
        put_node(parent, name, entry);
        break;
    case '5':
        put_directory(parent, name, whole, entry);
        break;
    default:
        fail(entry->path, 0, "the archive has an entry of a kind that is not known");
    }
    close(parent);
}

static void set_directory_times(void)
{
    for (struct directory *at = directories; at; at = at->next) {
        struct timespec times[2] = {at->mtime, at->mtime};
        int fd = rooted_open(into.root, at->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0) {
            futimens(fd, times);
            close(fd);
        }
    }
}

/* Whatever comes behind the archive's end: its writer must not find the pipe closed. */
static void drain(void)
{
    static char chunk[65536];
    while (read(0, chunk, sizeof chunk) > 0)
        ;
}

int step_copy_in(struct launch *launch, struct fields *fields)
{
    static struct entry entry;
    const char *root = field_str(fields);
    into.dir = field_str(fields);
    into.flags = field_u32(fields);
    into.uid = field_u32(fields);
    into.gid = field_u32(fields);
    close(launch->sync); /* from here on the launcher takes the process for running */
    into.root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int dir = into.root < 0 ? -1 : rooted_open(into.root, *into.dir ? into.dir : ".", O_PATH | O_DIRECTORY);
    if (dir < 0)
        copy_failed(*into.dir ? into.dir : root, "open");
    close(dir);
    umask(0);
    while (next(&entry))
        put_entry(&entry);
    set_directory_times();
    drain();
    _exit(0);
}
