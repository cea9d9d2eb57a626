/*
 * Looks names up in an image's passwd and group files. The files are hostile:
 * memory is fixed, lines of more than USERS_LINE bytes are passed over, a file of
 * more than USERS_FILE_BYTES is an error (EFBIG) unless what is looked for comes
 * before, and anything but a regular file is refused.
 */
#ifndef BERTH_USERS_H
#define BERTH_USERS_H

#include <stdint.h>
#include <sys/types.h>

#define USERS_LINE 65536
#define USERS_FILE_BYTES (16u << 20)
#define USERS_GROUPS 1000
#define USERS_NAME 256
#define USERS_HOME 1024

struct user_entry {
    char name[USERS_NAME]; /* "" when unknown */
    char home[USERS_HOME]; /* "" when unknown or when it holds control characters */
    uint32_t uid;
    uint32_t gid;
};

/* All digits, no sign, below 2^32 - 1 (which means "no change" to the kernel): 1 and the value, else 0. */
int users_number(const char *text, uint32_t *value);

/* Opens a passwd or group file: ENOENT when absent, EINVAL when it is no regular file. */
int users_open(int root, const char *path);

/* By name (name != NULL) or by uid. 1 found, 0 not found, -1 error. Reads `fd` from its start. */
int users_find(int fd, const char *name, uint32_t uid, struct user_entry *found);

/* The id of a group by name. 1 found, 0 not found, -1 error. */
int users_find_group(int fd, const char *name, uint32_t *gid);

/* Adds the groups that list `member` to `groups`, once each; -1 with EOVERFLOW past `limit`. */
int users_member_groups(int fd, const char *member, uint32_t *groups, size_t *count, size_t limit);

/* Adds one group unless it is there. */
int users_add_group(uint32_t gid, uint32_t *groups, size_t *count, size_t limit);

#endif
