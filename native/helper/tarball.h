/* The header of a tar archive's entry (POSIX ustar), and what both ways of copying share. */
#ifndef BERTH_TARBALL_H
#define BERTH_TARBALL_H

#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK 512

struct tar_header {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char padding[12];
};

_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is a block");

/* The sum of the header's bytes, with its own field counted as spaces. */
static inline unsigned tar_checksum(const struct tar_header *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct tar_header, checksum), to = from + sizeof header->checksum;
    unsigned sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= from && i < to ? ' ' : bytes[i];
    return sum;
}

/* COPY_OUT's and COPY_IN's flags. */
enum {
    COPY_FOLLOW = 1,      /* out: the path's last component may be a link */
    COPY_KEEP_OWNER = 2,  /* in: owners as the archive has them, and set-user-id bits */
    COPY_NO_DEVICES = 4,  /* in: device nodes are refused */
};

/* The exit code for what is not there; 1 for all else. */
enum { COPY_NOT_THERE = 2 };

/* Says what went wrong on stderr and ends the process: the failure of a copy is that of a command. */
_Noreturn void copy_failed(const char *path, const char *what);

#endif
