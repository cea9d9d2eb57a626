#define _GNU_SOURCE
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME)

/* A process that ends waits for its pool threads, and a tree of millions of files takes minutes. */
static atomic_int is_stopped;

void tree_stop(void)
{
    atomic_store(&is_stopped, 1);
}

static int stopped(void)
{
    if (!atomic_load_explicit(&is_stopped, memory_order_relaxed))
        return 0;
    errno = ECANCELED;
    return -1;
}

/*
 * Directories are known by their file handles (name_to_handle_at(2)): a tree may be deeper than a path can be long and
 * than a process may have descriptors, and ".." of a directory that is being moved leads anywhere.
 */
struct pending {
    unsigned char bytes[MAX_HANDLE_SZ];
    unsigned size;
    int type;
};

struct walk {
    struct tree_usage *usage;
    dev_t device;
    int top;
    char *stack; /* handles, each as its bytes, its type and its size */
    size_t used;
    size_t room;
    ino_t *linked; /* a hash table of inodes with several names; 0 is free */
    size_t linked_count;
    size_t linked_room;
};

static int push(struct walk *walk, const struct file_handle *handle)
{
    unsigned tail[2] = {(unsigned)handle->handle_type, handle->handle_bytes};
    size_t size = handle->handle_bytes + sizeof tail;
    if (walk->used + size > walk->room) {
        size_t room = walk->room ? walk->room * 2 : 4096;
        char *grown = realloc(walk->stack, room);
        if (!grown)
            return -1;
        walk->stack = grown;
        walk->room = room;
    }
    memcpy(walk->stack + walk->used, handle->f_handle, handle->handle_bytes);
    memcpy(walk->stack + walk->used + handle->handle_bytes, tail, sizeof tail);
    walk->used += size;
    return 0;
}

static int pop(struct walk *walk, struct pending *pending)
{
    unsigned tail[2];
    if (walk->used == 0)
        return 0;
    memcpy(tail, walk->stack + walk->used - sizeof tail, sizeof tail);
    walk->used -= sizeof tail + tail[1];
    memcpy(pending->bytes, walk->stack + walk->used, tail[1]);
    pending->type = (int)tail[0];
    pending->size = tail[1];
    return 1;
}

static size_t slot_of(const ino_t *table, size_t room, ino_t inode)
{
    size_t at = (size_t)(inode * 0x9e3779b97f4a7c15ULL) & (room - 1);
    while (table[at] && table[at] != inode)
        at = (at + 1) & (room - 1);
    return at;
}

static int grow_linked(struct walk *walk)
{
    size_t room = walk->linked_room ? walk->linked_room * 2 : 256;
    ino_t *table = calloc(room, sizeof *table);
    if (!table)
        return -1;
    for (size_t i = 0; i < walk->linked_room; i++)
        if (walk->linked[i])
            table[slot_of(table, room, walk->linked[i])] = walk->linked[i];
    free(walk->linked);
    walk->linked = table;
    walk->linked_room = room;
    return 0;
}

/* 1 for a file that was counted by another name, 0 for one that is new, -1 without memory. */
static int was_counted(struct walk *walk, ino_t inode)
{
    if (walk->linked_count * 2 >= walk->linked_room && grow_linked(walk))
        return -1;
    size_t slot = slot_of(walk->linked, walk->linked_room, inode);
    if (walk->linked[slot])
        return 1;
    walk->linked[slot] = inode;
    walk->linked_count++;
    return 0;
}

/* A directory below: its contents' turn comes later. */
static int remember(struct walk *walk, int directory, const char *name)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } found;
    int mount;
    found.handle.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(directory, name, &found.handle, &mount, 0))
        return errno == ENOENT ? 0 : -1;
    return push(walk, &found.handle);
}

static int count_entry(struct walk *walk, int directory, const char *name)
{
    struct stat found;
    if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (found.st_dev != walk->device)
        return 0;
    if (!S_ISDIR(found.st_mode) && found.st_nlink > 1) {
        int counted = was_counted(walk, found.st_ino);
        if (counted)
            return counted < 0 ? -1 : 0;
    }
    walk->usage->bytes += (uint64_t)found.st_blocks * 512;
    walk->usage->inodes++;
    return S_ISDIR(found.st_mode) ? remember(walk, directory, name) : 0;
}

/* Takes the descriptor. */
static int count_entries(struct walk *walk, int directory)
{
    DIR *list = fdopendir(directory);
    int failed = 0;
    if (!list) {
        close(directory);
        return -1;
    }
    for (struct dirent *entry; !failed && !(failed = stopped()) && (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            failed = count_entry(walk, dirfd(list), entry->d_name);
    closedir(list);
    return failed;
}

static int count_pending(struct walk *walk, const struct pending *pending)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } wanted;
    wanted.handle.handle_bytes = pending->size;
    wanted.handle.handle_type = pending->type;
    memcpy(wanted.handle.f_handle, pending->bytes, pending->size);
    int fd = open_by_handle_at(walk->top, &wanted.handle, DIRECTORY_FLAGS);
    if (fd < 0)
        return errno == ESTALE || errno == ENOENT ? 0 : -1;
    return count_entries(walk, fd);
}

int tree_measure(const char *directory, struct tree_usage *usage)
{
    struct walk walk = {.usage = usage};
    struct pending pending;
    struct stat top;
    usage->bytes = usage->inodes = 0;
    if ((walk.top = open(directory, DIRECTORY_FLAGS)) < 0)
        return -1;
    int failed = fstat(walk.top, &top);
    if (!failed) {
        walk.device = top.st_dev;
        usage->bytes = (uint64_t)top.st_blocks * 512;
        usage->inodes = 1;
        int list = open(directory, DIRECTORY_FLAGS);
        failed = list < 0 ? -1 : count_entries(&walk, list);
    }
    while (!failed && !(failed = stopped()) && pop(&walk, &pending))
        failed = count_pending(&walk, &pending);
    int failure = errno;
    close(walk.top);
    free(walk.stack);
    free(walk.linked);
    errno = failure;
    return failed ? -1 : 0;
}
