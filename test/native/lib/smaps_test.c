/* What is not in the program's file must never be let go of. */
#include "check.h"
#include "smaps.h"

#include <stdio.h>
#include <string.h>

#define PROGRAM "/usr/bin/no de"

/* One mapping, with the counts that matter among those that do not. */
static size_t mapping(char *at, size_t room, const char *access, const char *path, int own, int swapped)
{
    return (size_t)snprintf(at, room,
                            "aaaaa000-aaaab000 %s 00001000 fe:01 42                   %s\n"
                            "Size:                  4 kB\nRss:                   4 kB\nAnonymous:  %10d kB\n"
                            "AnonHugePages:         0 kB\nSwap:       %10d kB\nSwapPss:               0 kB\n"
                            "VmFlags: rd ex mr mw me sd \n",
                            access, path, own, swapped);
}

static void note(unsigned long from, unsigned long to, void *count)
{
    CHECK(from == 0xaaaaa000 && to == 0xaaaab000);
    ++*(int *)count;
}

static int found_in(const char *text)
{
    int count = 0;
    FILE *smaps = fmemopen((void *)text, strlen(text), "r");
    smaps_unchanged(smaps, PROGRAM, note, &count);
    fclose(smaps);
    return count;
}

static int found(const char *access, const char *path, int own, int swapped)
{
    char text[4096];
    size_t length = mapping(text, sizeof text, access, path, own, swapped);
    mapping(text + length, sizeof text - length, "rw-p", PROGRAM, 0, 0);
    return found_in(text);
}

static void finds_what_is_as_in_the_file(void)
{
    CHECK(found("r-xp", PROGRAM, 0, 0) == 1);
    CHECK(found("r--p", PROGRAM, 0, 0) == 1);
}

static void leaves_pages_that_are_not_in_the_file(void)
{
    CHECK(found("r--p", PROGRAM, 4, 0) == 0);
    CHECK(found("r--p", PROGRAM, 0, 4) == 0); /* relocations that are all swapped out */
    CHECK(found("r--p", PROGRAM, 4, 4) == 0);
}

static void leaves_other_mappings(void)
{
    CHECK(found("rwxp", PROGRAM, 0, 0) == 0);
    CHECK(found("r--s", PROGRAM, 0, 0) == 0);
    CHECK(found("r-xp", PROGRAM " (deleted)", 0, 0) == 0);
    CHECK(found("r-xp", "/usr/bin/no", 0, 0) == 0);
    CHECK(found("r-xp", "", 0, 0) == 0);
    CHECK(found("r-xp", "[vdso]", 0, 0) == 0);
}

static void finds_nothing_where_the_kernel_does_not_count(void)
{
    CHECK(found_in("aaaaa000-aaaab000 r-xp 00001000 fe:01 42    " PROGRAM "\nSize:  4 kB\nSwap:  0 kB\n") == 0);
    CHECK(found_in("aaaaa000-aaaab000 r-xp 00001000 fe:01 42    " PROGRAM "\nSize:  4 kB\nAnonymous:  0 kB\n") == 0);
    CHECK(found_in("") == 0);
}

void test_smaps(void)
{
    RUN(finds_what_is_as_in_the_file);
    RUN(leaves_pages_that_are_not_in_the_file);
    RUN(leaves_other_mappings);
    RUN(finds_nothing_where_the_kernel_does_not_count);
}
