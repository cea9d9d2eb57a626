/*
 * fileCalls(bytes) -> Promise<Int32Array>: many small calls on files, in order, in one turn of a pool thread. Each of
 * them by itself would be a turn of its own, and the event loop's work to send it there costs more than the call.
 * The format and the contract are in src/native/file-calls.ts.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "file_calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { CALL_MKDIR = 1, CALL_RMDIR, CALL_WRITE, CALL_CREATE, CALL_CHOWN, CALL_CHMOD, CALL_UMOUNT, CALL_RENAME, CALL_REMOVE_TREE,
       CALL_IS_OPAQUE };

#define MAX_CALLS 1024
/* Deeper directories are moved up first: descriptors are finite, and depth is not. */
#define MAX_DEPTH 48
/* What one turn removes: the pool has few threads. */
#define ENTRIES_PER_TURN 2000

struct call_header {
    uint32_t kind, first, second, path_bytes, data_bytes; /* the path and its NUL, then the data, padded to 4 */
};

struct file_calls {
    napi_async_work work;
    napi_deferred deferred;
    unsigned char *bytes;
    size_t length;
    uint32_t count;
    int32_t failures[MAX_CALLS];
};

/* 0, or -1: ENODATA where an overlay shows what is below, too. */
static int is_opaque(const char *path)
{
    char value = 0;
    const ssize_t length = lgetxattr(path, "trusted.overlay.opaque", &value, sizeof value);
    if (length >= 0 && value != 'y')
        errno = ENODATA;
    return length >= 0 && value == 'y' ? 0 : -1;
}

/* ---- a tree ---- */

struct removal {
    int top;
    dev_t device;
    unsigned left;
    unsigned moved;
};

static int remove_below(struct removal *r, int directory, unsigned depth);

static int remove_directory(struct removal *r, int parent, const char *name, unsigned depth)
{
    struct stat about;
    if (depth >= MAX_DEPTH) {
        char moved[32];
        int failed;
        do { /* one of the turn before may be there still */
            snprintf(moved, sizeof moved, ".deep-%d-%u", (int)getpid(), r->moved++);
            failed = renameat(parent, name, r->top, moved);
        } while (failed && (errno == ENOTEMPTY || errno == EEXIST));
        return failed;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    int failed = fstat(fd, &about);
    if (!failed && about.st_dev != r->device) { /* something is mounted here: not ours to empty */
        errno = EBUSY;
        failed = -1;
    }
    if (!failed)
        failed = remove_below(r, fd, depth);
    int failure = errno;
    close(fd);
    errno = failure;
    return failed ? -1 : unlinkat(parent, name, AT_REMOVEDIR);
}

static int remove_entry(struct removal *r, int parent, const struct dirent *entry, unsigned depth)
{
    if (r->left-- == 0) {
        r->left = 0;
        errno = EAGAIN;
        return -1;
    }
    if (entry->d_type != DT_DIR) {
        if (!unlinkat(parent, entry->d_name, 0) || errno == ENOENT)
            return 0;
        if (errno != EISDIR) /* a file system that tells no types */
            return -1;
    }
    return remove_directory(r, parent, entry->d_name, depth + 1);
}

/* Until a pass finds nothing: what is moved up comes while the top is being read. */
static int remove_below(struct removal *r, int directory, unsigned depth)
{
    for (int found = 1; found;) {
        int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *entries = copy < 0 ? NULL : fdopendir(copy);
        if (!entries) {
            if (copy >= 0)
                close(copy);
            return -1;
        }
        found = 0;
        int failed = 0;
        for (struct dirent *entry; !failed && (errno = 0, entry = readdir(entries));) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            found = 1;
            failed = remove_entry(r, directory, entry, depth);
        }
        int failure = errno;
        closedir(entries);
        errno = failure;
        if (failed || failure)
            return -1;
    }
    return 0;
}

static int remove_tree(const char *path)
{
    struct stat about;
    struct removal r = {.left = ENTRIES_PER_TURN};
    r.top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r.top < 0) {
        if (errno == ENOTDIR || errno == ELOOP)
            return unlink(path);
        return errno == ENOENT ? 0 : -1;
    }
    int failed = fstat(r.top, &about);
    r.device = about.st_dev;
    if (!failed)
        failed = remove_below(&r, r.top, 0);
    int failure = errno;
    close(r.top);
    errno = failure;
    return failed ? -1 : rmdir(path) && errno != ENOENT ? -1 : 0;
}

/* ---- one call ---- */

static int write_file(const char *path, int flags, mode_t mode, const void *data, size_t bytes)
{
    int fd = open(path, flags | O_WRONLY | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    size_t done = 0;
    int failed = 0;
    do { /* also of nothing: to a cgroup's file that means something */
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        failed = n < 0;
        done += n < 0 ? 0 : (size_t)n;
    } while (!failed && done < bytes);
    int failure = errno;
    close(fd);
    errno = failure;
    return failed ? -1 : 0;
}

static int make_call(const struct call_header *h, const char *path, const char *data)
{
    switch (h->kind) {
    case CALL_MKDIR:
        return mkdir(path, h->first);
    case CALL_RMDIR:
        return rmdir(path);
    case CALL_WRITE:
        return write_file(path, 0, 0, data, h->data_bytes);
    case CALL_CREATE:
        return write_file(path, O_CREAT, h->first, data, h->data_bytes);
    case CALL_CHOWN:
        return lchown(path, h->first, h->second);
    case CALL_CHMOD:
        return chmod(path, h->first);
    case CALL_UMOUNT:
        return umount2(path, (int)h->first);
    case CALL_RENAME:
        return h->data_bytes > 0 && data[h->data_bytes - 1] == 0 ? rename(path, data) : (errno = EINVAL, -1);
    case CALL_REMOVE_TREE:
        return remove_tree(path);
    case CALL_IS_OPAQUE:
        return is_opaque(path);
    }
    errno = ENOSYS;
    return -1;
}

/* ---- the turn ---- */

static void calls_run(napi_env env, void *data)
{
    (void)env;
    struct file_calls *calls = data;
    size_t at = 0;
    while (calls->count < MAX_CALLS && calls->length - at >= sizeof(struct call_header)) {
        struct call_header h;
        memcpy(&h, calls->bytes + at, sizeof h);
        at += sizeof h;
        size_t room = calls->length - at;
        if (h.path_bytes == 0 || h.path_bytes > room || h.data_bytes > room - h.path_bytes)
            break;
        const char *path = (const char *)calls->bytes + at;
        int isText = memchr(path, 0, h.path_bytes) == path + h.path_bytes - 1;
        int failed = isText ? make_call(&h, path, path + h.path_bytes) : (errno = EINVAL, -1);
        calls->failures[calls->count++] = failed ? errno : 0;
        size_t bytes = ((size_t)h.path_bytes + h.data_bytes + 3) & ~(size_t)3;
        at += bytes > room ? room : bytes;
    }
}

static void calls_done(napi_env env, napi_status status, void *data)
{
    struct file_calls *calls = data;
    napi_handle_scope scope;
    napi_value buffer, result;
    void *copy;
    size_t bytes = calls->count * sizeof *calls->failures;
    napi_open_handle_scope(env, &scope);
    napi_create_arraybuffer(env, bytes, &copy, &buffer);
    if (bytes)
        memcpy(copy, calls->failures, bytes);
    napi_create_typedarray(env, napi_int32_array, status == napi_ok ? calls->count : 0, buffer, 0, &result);
    napi_resolve_deferred(env, calls->deferred, result);
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, calls->work);
    free(calls->bytes);
    free(calls);
}

static napi_value file_calls(napi_env env, napi_callback_info info)
{
    napi_value args[1], promise, name;
    size_t count = 1, length;
    void *bytes;
    napi_get_cb_info(env, info, &count, args, NULL, NULL);
    if (count < 1 || napi_get_buffer_info(env, args[0], &bytes, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "a Buffer is expected");
        return NULL;
    }
    struct file_calls *calls = calloc(1, sizeof *calls);
    if (!calls || !(calls->bytes = malloc(length ? length : 1))) {
        free(calls);
        napi_throw_error(env, NULL, "out of memory");
        return NULL;
    }
    memcpy(calls->bytes, bytes, length);
    calls->length = length;
    napi_create_promise(env, &calls->deferred, &promise);
    napi_create_string_utf8(env, "berth file calls", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, calls_run, calls_done, calls, &calls->work);
    napi_queue_async_work(env, calls->work);
    return promise;
}

void export_file_calls(napi_env env, napi_value exports)
{
    napi_value function;
    napi_create_function(env, "fileCalls", NAPI_AUTO_LENGTH, file_calls, NULL, &function);
    napi_set_named_property(env, exports, "fileCalls", function);
}
