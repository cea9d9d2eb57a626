/* Runs the tests of native/lib; built with the address and undefined behaviour sanitizers. */
#include "check.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int scratch;
static int passed, failed, wrong;
static uint64_t state;

void check(int ok, const char *file, int line, const char *what)
{
    if (ok || wrong++ > 10)
        return;
    printf("  %s:%d: %s\n", file, line, what);
}

void run_test(const char *name, void (*test)(void))
{
    wrong = 0;
    test();
    *(wrong ? &failed : &passed) += 1;
    if (wrong)
        printf("not ok: %s\n", name);
}

/* xorshift64*: the same numbers for the same seed everywhere. */
static uint32_t next_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 2685821657736338717u) >> 32);
}

uint32_t random_below(uint32_t limit)
{
    return next_random() % limit;
}

void random_bytes(unsigned char *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (unsigned char)next_random();
}

int file_with(const char *name, const void *data, size_t length)
{
    int fd = openat(scratch, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) != 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/berth-lib-test-XXXXXX";
    state = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    state = state ? state : 1;
    printf("seed 0x%llx\n", (unsigned long long)state);
    if (!mkdtemp(dir) || (scratch = open(dir, O_RDONLY | O_DIRECTORY)) < 0) {
        perror(dir);
        return 1;
    }
    test_crilog();
    test_users();
    test_plan();
    test_rooted();
    test_wire();
    test_smaps();
    close(scratch);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
