/* passwd and group files of images are hostile. */
#include "check.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int with(const char *text)
{
    return file_with("users", text, strlen(text));
}

static void numbers(void)
{
    static const struct {
        const char *text;
        int ok;
        uint32_t value;
    } table[] = {
        {"0", 1, 0},           {"00", 1, 0},          {"0007", 1, 7},
        {"4294967294", 1, 4294967294u}, {"4294967295", 0, 0}, {"4294967296", 0, 0},
        {"18446744073709551616", 0, 0}, {"100000000000000000000", 0, 0},
        {"", 0, 0},            {"-1", 0, 0},          {"+1", 0, 0},
        {" 1", 0, 0},          {"1 ", 0, 0},          {"0x1", 0, 0},
        {"1a", 0, 0},          {"\xd9\xa1", 0, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        uint32_t value = 99;
        CHECK(users_number(table[i].text, &value) == table[i].ok);
        CHECK(!table[i].ok || value == table[i].value);
    }
}

static void finds_by_name_and_number(void)
{
    struct user_entry entry;
    int fd = with("# comment\n\nbroken\nroot:x:0:0:root:/root:/bin/sh\n::5:5::/x:\nuser:x:1000:1001::/home/user\n"
                  "late:x:1000:7::/late:\nnohome:x:8:8\n99:x:0:0::/root:\nneg:x:-1:0::/:\nbig:x:4294967295:0::/:\nlast:x:9:9::/last:/bin/sh");
    CHECK(users_find(fd, "user", 0, &entry) == 1 && entry.uid == 1000 && entry.gid == 1001);
    CHECK(strcmp(entry.home, "/home/user") == 0);
    CHECK(users_find(fd, NULL, 1000, &entry) == 1 && strcmp(entry.name, "user") == 0);
    CHECK(users_find(fd, "last", 0, &entry) == 1 && entry.uid == 9 && strcmp(entry.home, "/last") == 0);
    CHECK(users_find(fd, "nohome", 0, &entry) == 1 && entry.home[0] == 0);
    CHECK(users_find(fd, NULL, 99, &entry) == 0);
    CHECK(users_find(fd, "neg", 0, &entry) == 0);
    CHECK(users_find(fd, "big", 0, &entry) == 0);
    CHECK(users_find(fd, "", 0, &entry) == 0);
    CHECK(users_find(fd, "roo", 0, &entry) == 0 && users_find(fd, "root:", 0, &entry) == 0);
    close(fd);
}

static void refuses_homes_with_control_characters(void)
{
    struct user_entry entry;
    int fd = with("a:x:1:1::/x\ry:\nb:x:2:2::relative:\nc:x:3:3::/ok:\n");
    CHECK(users_find(fd, "a", 0, &entry) == 1 && entry.home[0] == 0);
    CHECK(users_find(fd, "b", 0, &entry) == 1 && entry.home[0] == 0);
    CHECK(users_find(fd, "c", 0, &entry) == 1 && strcmp(entry.home, "/ok") == 0);
    close(fd);
}

static void adds_the_groups_of_a_member(void)
{
    uint32_t groups[USERS_GROUPS];
    size_t count = 0;
    int fd = with("root:x:0:\na:x:1:user\nb:x:2:other,user\nc:x:3:users,xuser,use\nd:x:4:user,\na2:x:1:user\nbad:x:-5:user\n");
    CHECK(users_member_groups(fd, "user", groups, &count, USERS_GROUPS) == 0);
    CHECK(count == 3 && groups[0] == 1 && groups[1] == 2 && groups[2] == 4);
    count = 0;
    CHECK(users_member_groups(fd, "user", groups, &count, 2) == -1 && errno == EOVERFLOW && count == 2);
    uint32_t gid = 0;
    CHECK(users_find_group(fd, "b", &gid) == 1 && gid == 2);
    CHECK(users_find_group(fd, "bad", &gid) == 0);
    CHECK(users_find_group(fd, "", &gid) == 0);
    close(fd);
}

static void skips_long_lines_and_nuls(void)
{
    struct user_entry entry;
    size_t length = 3 * USERS_LINE;
    char *text = malloc(length + 64);
    memset(text, 'x', length);
    /* The end of the long line would be an entry of its own. */
    size_t end = length + (size_t)sprintf(text + length, "evil:x:0:0::/:\nuser:x:7:7::/:\n");
    int fd = file_with("users", text, end);
    CHECK(users_find(fd, "user", 0, &entry) == 1 && entry.uid == 7);
    CHECK(users_find(fd, "evil", 0, &entry) == 0);
    close(fd);
    fd = file_with("users", "us\0er:x:0:0::/:\nuser:x:7:7::/:\n", 32);
    CHECK(users_find(fd, "us", 0, &entry) == 0);
    CHECK(users_find(fd, "user", 0, &entry) == 1 && entry.uid == 7);
    close(fd);
    free(text);
}

/* Sparse: 17 MiB of NULs on one line, then a name that is past the limit. */
static void stops_reading(void)
{
    struct user_entry entry;
    int fd = file_with("users", "", 0);
    CHECK(pwrite(fd, "\nlate:x:5:5::/:\n", 16, USERS_FILE_BYTES + (1 << 20)) == 16);
    CHECK(users_find(fd, "late", 0, &entry) == -1 && errno == EFBIG);
    close(fd);
}

static void opens_regular_files_only(void)
{
    mkdirat(scratch, "etc", 0700);
    mkfifoat(scratch, "etc/fifo", 0600);
    symlinkat("/etc/passwd", scratch, "etc/link");
    symlinkat("fifo", scratch, "etc/to-fifo");
    CHECK(users_open(scratch, "/etc/fifo") == -1 && errno == EINVAL);
    CHECK(users_open(scratch, "/etc/to-fifo") == -1 && errno == EINVAL);
    CHECK(users_open(scratch, "/etc") == -1 && errno == EINVAL);
    CHECK(users_open(scratch, "/etc/link") == -1 && errno == ENOENT);
    CHECK(users_open(scratch, "/etc/none") == -1 && errno == ENOENT);
}

static void survives_noise(void)
{
    static const char alphabet[] = "ab:,\n0129x/\r";
    for (int round = 0; round < 300; round++) {
        char text[2000];
        size_t length = random_below(sizeof text), count = 0;
        uint32_t groups[8], gid;
        struct user_entry entry;
        for (size_t i = 0; i < length; i++)
            text[i] = alphabet[random_below(sizeof alphabet)];
        int fd = file_with("users", text, length);
        int found = users_find(fd, "a", 0, &entry);
        CHECK(found == 0 || (strcmp(entry.name, "a") == 0 && strlen(entry.home) < USERS_HOME));
        users_find(fd, NULL, 0, &entry);
        users_find_group(fd, "b", &gid);
        users_member_groups(fd, "a", groups, &count, 8);
        CHECK(count <= 8);
        close(fd);
    }
}

void test_users(void)
{
    RUN(numbers);
    RUN(finds_by_name_and_number);
    RUN(refuses_homes_with_control_characters);
    RUN(adds_the_groups_of_a_member);
    RUN(skips_long_lines_and_nuls);
    RUN(stops_reading);
    RUN(opens_regular_files_only);
    RUN(survives_noise);
}
