#include "smaps.h"

#include <stdlib.h>
#include <string.h>

/* A mapping: a line of its own, then one for each count. */
struct mapping {
    unsigned long from, to;
    int is_of_program; /* read-only and private, of the program */
    int is_unchanged;  /* so far: none of its pages in memory is its own */
};

/* 0 for what is no first line of a mapping. */
static int read_mapping(const char *line, const char *program, struct mapping *mapping)
{
    char access[5];
    int path = 0;
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &from, &to, access, &path) != 3 || !path)
        return 0;
    size_t length = strlen(program);
    *mapping = (struct mapping){.from = from, .to = to};
    mapping->is_of_program = access[1] == '-' && access[3] == 'p' && strncmp(line + path, program, length) == 0 &&
                             line[path + length] == '\n';
    return 1;
}

/* "Swap" comes after "Anonymous", which does not count what is swapped out. A kernel that says neither has nothing found. */
void smaps_unchanged(FILE *smaps, const char *program, void (*found)(unsigned long, unsigned long, void *), void *argument)
{
    char *line = NULL;
    size_t room = 0;
    unsigned long own;
    struct mapping mapping = {0, 0, 0, 0};
    while (getline(&line, &room, smaps) > 0) {
        if (read_mapping(line, program, &mapping) || !mapping.is_of_program)
            continue;
        if (sscanf(line, "Anonymous: %lu kB", &own) == 1)
            mapping.is_unchanged = own == 0;
        else if (sscanf(line, "Swap: %lu kB", &own) == 1 && own == 0 && mapping.is_unchanged)
            found(mapping.from, mapping.to, argument);
    }
    free(line);
}
