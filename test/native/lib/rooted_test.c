/* Nothing leaves the root, whatever links stand in it. */
#include "check.h"
#include "rooted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int root;

/* The path of a descriptor as seen from the scratch directory; "" when it lies outside. */
static const char *where(int fd)
{
    static char path[4096], base[4096];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", scratch);
    ssize_t n = readlink(link, base, sizeof base - 1);
    base[n > 0 ? n : 0] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t m = readlink(link, path, sizeof path - 1);
    path[m > 0 ? m : 0] = 0;
    return fd >= 0 && strncmp(path, base, (size_t)n) == 0 ? path + n : "";
}

static int exists(const char *name)
{
    struct stat st;
    return fstatat(scratch, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void makes(const char *path, enum rooted_kind kind, const char *expected)
{
    struct stat st;
    int fd = rooted_make(root, path, kind, 0755);
    CHECK(fd >= 0);
    CHECK(strcmp(where(fd), expected) == 0);
    CHECK(fstat(fd, &st) == 0 && (kind == ROOTED_DIRECTORY ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)));
    int again = rooted_make(root, path, kind, 0755);
    CHECK(again >= 0 && strcmp(where(again), expected) == 0);
    close(fd);
    close(again);
}

static void fails(const char *path, int error)
{
    CHECK(rooted_make(root, path, ROOTED_DIRECTORY, 0755) == -1 && errno == error);
}

static void set_up(void)
{
    mkdirat(scratch, "root", 0755);
    mkdirat(scratch, "outside", 0755);
    root = openat(scratch, "root", O_PATH | O_DIRECTORY);
    mkdirat(root, "dir", 0755);
    symlinkat("/", root, "to-root");
    symlinkat("../../../../../outside", root, "up");
    symlinkat("/outside", root, "absolute");
    symlinkat("dir", root, "inner");
    symlinkat("/new/place", root, "dangling");
    symlinkat("other", root, "dir/relative");
    symlinkat("a", root, "b");
    symlinkat("b", root, "a");
    symlinkat("/proc/self/root/tmp", root, "magic");
    close(openat(root, "file", O_CREAT | O_WRONLY, 0644));

}

static void makes_what_is_missing_inside(void)
{
    makes("/plain", ROOTED_DIRECTORY, "/root/plain");
    makes("deep/er/still", ROOTED_DIRECTORY, "/root/deep/er/still");
    makes("//odd///slashes/", ROOTED_DIRECTORY, "/root/odd/slashes");
    makes("/conf/file.txt", ROOTED_FILE, "/root/conf/file.txt");
    makes("inner/x", ROOTED_DIRECTORY, "/root/dir/x");
    makes("up/x", ROOTED_DIRECTORY, "/root/outside/x");
    makes("absolute/y", ROOTED_DIRECTORY, "/root/outside/y");
    makes("dangling/z", ROOTED_DIRECTORY, "/root/new/place/z");
    makes("dir/relative", ROOTED_DIRECTORY, "/root/dir/other");
    makes("/../../../outside2", ROOTED_DIRECTORY, "/root/outside2");
    makes("to-root/to-root/here", ROOTED_DIRECTORY, "/root/here");
    makes("/", ROOTED_DIRECTORY, "/root");
    makes("magic/q", ROOTED_DIRECTORY, "/root/proc/self/root/tmp/q");
    CHECK(!exists("outside/x") && !exists("outside/y") && !exists("outside2") && !exists("new"));

}

static void refuses_what_cannot_be(void)
{
    fails("a/x", ELOOP);
    fails("file/x", ENOTDIR);
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    fails(longest, ENAMETOOLONG);
    longest[300] = 0;
    fails(longest, ENAMETOOLONG);

}

static void opens_inside_only(void)
{
    CHECK(rooted_open_nolinks(root, "inner") == -1 && errno == ELOOP);
    CHECK(rooted_open_nolinks(root, "up/x") == -1 && errno == ELOOP);
    int fd = rooted_open_nolinks(root, "/dir");
    CHECK(strcmp(where(fd), "/root/dir") == 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    fd = rooted_open(root, "/../../dir/..", O_PATH);
    CHECK(strcmp(where(fd), "/root") == 0);
    close(fd);

}

static void finds_parents(void)
{
    const char *name;
    int fd = rooted_parent(root, "/parent/leaf", &name);
    CHECK(strcmp(where(fd), "/root/parent") == 0 && strcmp(name, "leaf") == 0);
    close(fd);
    fd = rooted_parent(root, "leaf", &name);
    CHECK(strcmp(where(fd), "/root") == 0);
    close(fd);
    static const char *const none[] = {"", "/", "x/", "x/..", "..", "."};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        CHECK(rooted_parent(root, none[i], &name) == -1 && errno == EINVAL);
}

void test_rooted(void)
{
    set_up();
    RUN(makes_what_is_missing_inside);
    RUN(refuses_what_cannot_be);
    RUN(opens_inside_only);
    RUN(finds_parents);
    close(root);
}
