#include "users.h"

#include "rooted.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
    int fd;
    size_t total;
    size_t have;
    size_t at;
    int failure; /* errno that ended the reading before the file's end, or 0 */
    unsigned char buffer[8192];
};

int users_number(const char *text, uint32_t *value)
{
    uint64_t number = 0;
    if (*text == 0)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        number = number * 10 + (uint64_t)(*text - '0');
        if (number >= UINT32_MAX)
            return 0;
    }
    *value = (uint32_t)number;
    return 1;
}

static int open_regular(int root, const char *path, uint64_t flags)
{
    int fd = rooted_open(root, path, flags);
    struct stat st;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

/* Looked at before it is opened: opening a device does something, and may be forbidden. */
int users_open(int root, const char *path)
{
    int seen = open_regular(root, path, O_PATH);
    if (seen < 0)
        return -1;
    close(seen);
    return open_regular(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

/* One byte, or -1 at the end, at an error and past the limit. */
static int next_byte(struct reader *in)
{
    if (in->at == in->have) {
        ssize_t n = read(in->fd, in->buffer, sizeof in->buffer);
        if (n < 0 || (n > 0 && in->total >= USERS_FILE_BYTES))
            in->failure = n < 0 ? errno : EFBIG;
        if (n <= 0 || in->failure)
            return -1;
        in->have = (size_t)n;
        in->total += (size_t)n;
        in->at = 0;
    }
    return in->buffer[in->at++];
}

/* The next line without its newline; lines too long for `line`, or with a NUL, come back empty. 0 at the end. */
static int next_line(struct reader *in, char line[USERS_LINE])
{
    size_t length = 0;
    int bad = 0, c = next_byte(in);
    if (c < 0)
        return 0;
    for (; c >= 0 && c != '\n'; c = next_byte(in)) {
        if (c == 0 || length == USERS_LINE - 1)
            bad = 1;
        else
            line[length++] = (char)c;
    }
    line[bad ? 0 : length] = 0;
    return 1;
}

/* Cuts the next colon-separated field off; NULL when there is none left. */
static char *next_field(char **rest)
{
    char *field = *rest;
    if (!field)
        return NULL;
    char *colon = strchr(field, ':');
    if (colon)
        *colon = 0;
    *rest = colon ? colon + 1 : NULL;
    return field;
}

static int start(struct reader *in, int fd)
{
    in->fd = fd;
    in->total = in->have = in->at = 0;
    in->failure = 0;
    return lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0;
}

/* What is not found in a file that was not read to its end may be there all the same. */
static int not_found(const struct reader *in)
{
    errno = in->failure;
    return in->failure ? -1 : 0;
}

static void copy_home(char home[USERS_HOME], const char *text)
{
    size_t length = strlen(text);
    home[0] = 0;
    if (length >= USERS_HOME || text[0] != '/')
        return;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return;
    memcpy(home, text, length + 1);
}

int users_find(int fd, const char *name, uint32_t uid, struct user_entry *found)
{
    struct reader in;
    char line[USERS_LINE];
    if (start(&in, fd) < 0)
        return -1;
    while (next_line(&in, line)) {
        char *rest = line;
        char *field_name = next_field(&rest);
        next_field(&rest);
        char *field_uid = next_field(&rest), *field_gid = next_field(&rest);
        next_field(&rest);
        char *field_home = next_field(&rest);
        uint32_t this_uid, this_gid;
        if (!field_gid || strlen(field_name) >= USERS_NAME || field_name[0] == 0)
            continue;
        if (!users_number(field_uid, &this_uid) || !users_number(field_gid, &this_gid))
            continue;
        if (name ? strcmp(name, field_name) != 0 : uid != this_uid)
            continue;
        strcpy(found->name, field_name);
        copy_home(found->home, field_home ? field_home : "");
        found->uid = this_uid;
        found->gid = this_gid;
        return 1;
    }
    return not_found(&in);
}

int users_find_group(int fd, const char *name, uint32_t *gid)
{
    struct reader in;
    char line[USERS_LINE];
    if (start(&in, fd) < 0)
        return -1;
    while (next_line(&in, line)) {
        char *rest = line;
        char *field_name = next_field(&rest);
        next_field(&rest);
        char *field_gid = next_field(&rest);
        if (field_gid && strcmp(field_name, name) == 0 && users_number(field_gid, gid))
            return 1;
    }
    return not_found(&in);
}

int users_add_group(uint32_t gid, uint32_t *groups, size_t *count, size_t limit)
{
    for (size_t i = 0; i < *count; i++)
        if (groups[i] == gid)
            return 0;
    if (*count == limit) {
        errno = EOVERFLOW;
        return -1;
    }
    groups[(*count)++] = gid;
    return 0;
}

static int lists(char *members, const char *member)
{
    while (members && *members) {
        char *comma = strchr(members, ',');
        if (comma)
            *comma = 0;
        if (strcmp(members, member) == 0)
            return 1;
        members = comma ? comma + 1 : NULL;
    }
    return 0;
}

int users_member_groups(int fd, const char *member, uint32_t *groups, size_t *count, size_t limit)
{
    struct reader in;
    char line[USERS_LINE];
    if (start(&in, fd) < 0)
        return -1;
    while (next_line(&in, line)) {
        char *rest = line;
        char *field_name = next_field(&rest);
        next_field(&rest);
        char *field_gid = next_field(&rest), *members = next_field(&rest);
        uint32_t gid;
        if (field_name[0] == 0 || !members || !users_number(field_gid, &gid) || !lists(members, member))
            continue;
        if (users_add_group(gid, groups, count, limit) < 0)
            return -1;
    }
    return not_found(&in);
}
