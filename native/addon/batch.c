#define _GNU_SOURCE
#include "batch.h"
#include "network.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_ROOM 65536

int get_parts(napi_env env, napi_value value, struct parts *parts)
{
    size_t length;
    if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "a string is expected");
        return -1;
    }
    if (!(parts->text = malloc(length + 2))) {
        napi_throw_error(env, "ENOMEM", "no memory for a list of paths");
        return -1;
    }
    napi_get_value_string_utf8(env, value, parts->text, length + 1, &length);
    parts->text[length] = parts->text[length + 1] = '\0';
    parts->bytes = length;
    parts->count = length > 0;
    for (size_t i = 0; i < length; i++)
        parts->count += parts->text[i] == '\0';
    return 0;
}

const char *next_part(const char *part)
{
    return part + strlen(part) + 1;
}

ptrdiff_t read_whole(int fd, char *buffer, size_t room)
{
    size_t have = 0;
    while (have < room - 1) {
        ssize_t n = pread(fd, buffer + have, room - 1 - have, (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        have += (size_t)n;
        if (n == 0)
            break;
    }
    if (have == room - 1) {
        /* Half of a number is a wrong number. */
        const char *last = memrchr(buffer, '\n', have);
        have = last ? (size_t)(last + 1 - buffer) : 0;
    }
    buffer[have] = '\0';
    return (ptrdiff_t)have;
}

/* ---- a call on a pool thread ---- */

struct call {
    napi_async_work work;
    napi_deferred deferred;
    struct parts first;
    struct parts second;
    double *cells;
    size_t cell_count;
    char *text;
    size_t text_bytes;
    int failure;
};

static void free_call(struct call *call)
{
    if (!call)
        return;
    free(call->first.text);
    free(call->second.text);
    free(call->cells);
    free(call->text);
    free(call);
}

static napi_value cells_value(napi_env env, const struct call *call)
{
    void *data;
    napi_value buffer, array;
    if (napi_create_arraybuffer(env, call->cell_count * sizeof *call->cells, &data, &buffer) != napi_ok)
        return NULL;
    if (call->cell_count > 0)
        memcpy(data, call->cells, call->cell_count * sizeof *call->cells);
    napi_create_typedarray(env, napi_float64_array, call->cell_count, buffer, 0, &array);
    return array;
}

static napi_value result_of(napi_env env, const struct call *call)
{
    napi_value result = NULL;
    if (call->failure)
        return NULL;
    if (!call->text)
        return cells_value(env, call);
    napi_create_string_latin1(env, call->text, call->text_bytes, &result);
    return result;
}

static void call_done(napi_env env, napi_status status, void *data)
{
    struct call *call = data;
    napi_handle_scope scope;
    napi_value result, code, text, error;
    napi_open_handle_scope(env, &scope);
    result = status == napi_ok ? result_of(env, call) : NULL;
    if (result) {
        napi_resolve_deferred(env, call->deferred, result);
    } else {
        napi_create_string_utf8(env, "ENOMEM", NAPI_AUTO_LENGTH, &code);
        napi_create_string_utf8(env, "read many files: no memory, or no thread", NAPI_AUTO_LENGTH, &text);
        napi_create_error(env, code, text, &error);
        napi_reject_deferred(env, call->deferred, error);
    }
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, call->work);
    free_call(call);
}

static napi_value queue_call(napi_env env, struct call *call, const char *what, napi_async_execute_callback run)
{
    napi_value promise, name;
    napi_create_promise(env, &call->deferred, &promise);
    napi_create_string_utf8(env, what, NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, run, call_done, call, &call->work);
    napi_queue_async_work(env, call->work);
    return promise;
}

/* The call with its one or two lists; NULL with a thrown error. */
static struct call *begin_call(napi_env env, napi_callback_info info, size_t lists)
{
    napi_value args[2];
    size_t count = 2;
    napi_get_cb_info(env, info, &count, args, NULL, NULL);
    struct call *call = calloc(1, sizeof *call);
    if (!call || count < lists) {
        napi_throw_type_error(env, NULL, "too few arguments");
        free_call(call);
        return NULL;
    }
    if (get_parts(env, args[0], &call->first) || (lists > 1 && get_parts(env, args[1], &call->second))) {
        free_call(call);
        return NULL;
    }
    return call;
}

/* ---- readFiles(paths, networks) -> Promise<string> ---- */

/* Appends a text and a NUL; -1 without memory. */
static int append(struct call *call, size_t *room, const char *bytes, size_t count)
{
    if (call->text_bytes + count + 1 > *room) {
        size_t more = (*room + count + 1) * 2;
        char *grown = realloc(call->text, more);
        if (!grown)
            return -1;
        call->text = grown;
        *room = more;
    }
    memcpy(call->text + call->text_bytes, bytes, count);
    call->text[call->text_bytes + count] = '\0';
    call->text_bytes += count + 1;
    return 0;
}

static void files_run(napi_env env, void *data)
{
    (void)env;
    struct call *call = data;
    const char *path = call->first.text, *network = call->second.count > 0 ? call->second.text : NULL;
    size_t room = 0;
    char *buffer = malloc(FILE_ROOM);
    call->failure = !buffer || append(call, &room, "", 0);
    call->text_bytes = 0; /* there is a text, of nothing yet */
    for (size_t i = 0; i < call->first.count && !call->failure; i++) {
        ptrdiff_t n = -1;
        int fd = network && enter_network(network) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            n = read_whole(fd, buffer, FILE_ROOM);
            close(fd);
        }
        call->failure = append(call, &room, buffer, n < 0 ? 0 : (size_t)n) != 0;
        path = next_part(path);
        network = network ? next_part(network) : NULL;
    }
    free(buffer);
}

static void *files_thread(void *data)
{
    files_run(NULL, data);
    return NULL;
}

static void network_files_run(napi_env env, void *data)
{
    (void)env;
    struct call *call = data;
    int failure = run_in_own_thread(files_thread, call);
    if (failure)
        call->failure = failure;
}

napi_value read_files(napi_env env, napi_callback_info info)
{
    struct call *call = begin_call(env, info, 2);
    if (!call)
        return NULL;
    int in_networks = call->second.count > 0;
    if (in_networks && call->second.count != call->first.count) {
        free_call(call);
        napi_throw_type_error(env, NULL, "a network for each path is expected, or none");
        return NULL;
    }
    return queue_call(env, call, "berth files", in_networks ? network_files_run : files_run);
}

/* ---- treeUsage(directories) -> Promise<Float64Array> ---- */

static void tree_run(napi_env env, void *data)
{
    (void)env;
    struct call *call = data;
    const char *path = call->first.text;
    for (size_t i = 0; i < call->first.count; i++, path = next_part(path)) {
        struct tree_usage usage;
        int failed = tree_measure(path, &usage);
        call->cells[i * 2] = failed ? NAN : (double)usage.bytes;
        call->cells[i * 2 + 1] = failed ? NAN : (double)usage.inodes;
    }
}

/* Two numbers for each part. */
static napi_value queue_pairs(napi_env env, napi_callback_info info, const char *what, napi_async_execute_callback run)
{
    struct call *call = begin_call(env, info, 1);
    if (!call)
        return NULL;
    call->cell_count = call->first.count * 2;
    if (!(call->cells = calloc(call->cell_count + 1, sizeof *call->cells))) {
        free_call(call);
        napi_throw_error(env, "ENOMEM", "no memory for numbers");
        return NULL;
    }
    return queue_call(env, call, what, run);
}

napi_value tree_usage(napi_env env, napi_callback_info info)
{
    return queue_pairs(env, info, "berth tree usage", tree_run);
}

napi_value stop_counting(napi_env env, napi_callback_info info)
{
    (void)env;
    (void)info;
    tree_stop();
    return NULL;
}

/* ---- descriptorCounts(directories) -> Promise<Float64Array> ---- */

static int count_descriptors(const char *path, double *all, double *sockets)
{
    DIR *list = opendir(path);
    char target[16];
    if (!list)
        return -1;
    for (struct dirent *entry; (entry = readdir(list));) {
        if (entry->d_name[0] == '.')
            continue;
        ssize_t n = readlinkat(dirfd(list), entry->d_name, target, sizeof target);
        ++*all;
        *sockets += n > 7 && memcmp(target, "socket:", 7) == 0;
    }
    closedir(list);
    return 0;
}

static void descriptors_run(napi_env env, void *data)
{
    (void)env;
    struct call *call = data;
    const char *path = call->first.text;
    for (size_t i = 0; i < call->first.count; i++, path = next_part(path)) {
        double *cells = call->cells + i * 2;
        if (count_descriptors(path, &cells[0], &cells[1]))
            cells[0] = cells[1] = NAN;
    }
}

napi_value descriptor_counts(napi_env env, napi_callback_info info)
{
    return queue_pairs(env, info, "berth descriptors", descriptors_run);
}
