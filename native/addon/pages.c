#define _GNU_SOURCE
#include "pages.h"

#include "addon.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct release {
    napi_async_work work;
    napi_deferred deferred;
    int failure;
};

/* A mapping as /proc/self/smaps has it: a line of its own, then one for each count. */
struct mapping {
    unsigned long from, to;
    int is_of_program; /* read-only and private, of the file that this process executes */
};

/* 0 for what is no first line of a mapping. */
static int read_mapping(const char *line, const char *program, struct mapping *mapping)
{
    char access[5];
    int path = 0;
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &from, &to, access, &path) != 3 || !path)
        return 0;
    mapping->from = from;
    mapping->to = to;
    size_t length = strlen(program);
    mapping->is_of_program = access[1] == '-' && access[3] == 'p' && strncmp(line + path, program, length) == 0 &&
                             line[path + length] == '\n';
    return 1;
}

/*
 * A mapping that has pages of its own (relocations, a debugger's breakpoints) keeps all of them: they are not in the
 * file. The program is never unmapped, so that what was read of it stays true.
 */
static int release_program(void)
{
    char program[4096], *line = NULL;
    size_t room = 0;
    unsigned long own;
    struct mapping mapping = {0, 0, 0};
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return -1;
    program[length] = '\0';
    FILE *maps = fopen("/proc/self/smaps", "re");
    if (!maps)
        return -1;
    while (getline(&line, &room, maps) > 0) {
        if (read_mapping(line, program, &mapping))
            continue;
        if (sscanf(line, "Anonymous: %lu kB", &own) == 1 && mapping.is_of_program && own == 0)
            madvise((void *)mapping.from, mapping.to - mapping.from, MADV_DONTNEED);
    }
    free(line);
    fclose(maps);
    return 0;
}

static void release_run(napi_env env, void *data)
{
    (void)env;
    struct release *release = data;
    malloc_trim(0);
    release->failure = release_program() ? errno : 0;
}

static void release_done(napi_env env, napi_status status, void *data)
{
    struct release *release = data;
    napi_handle_scope scope;
    napi_value nothing;
    napi_open_handle_scope(env, &scope);
    napi_get_undefined(env, &nothing);
    int failure = status == napi_ok ? release->failure : ECANCELED;
    if (failure)
        napi_reject_deferred(env, release->deferred, make_errno(env, "read /proc/self", failure));
    else
        napi_resolve_deferred(env, release->deferred, nothing);
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, release->work);
    free(release);
}

/* releasePages() -> Promise<void> */
static napi_value release_pages(napi_env env, napi_callback_info info)
{
    (void)info;
    napi_value promise, name;
    struct release *release = calloc(1, sizeof *release);
    if (!release) {
        napi_throw(env, make_errno(env, "calloc", ENOMEM));
        return NULL;
    }
    napi_create_promise(env, &release->deferred, &promise);
    napi_create_string_utf8(env, "berth pages", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, release_run, release_done, release, &release->work);
    napi_queue_async_work(env, release->work);
    return promise;
}

void export_pages(napi_env env, napi_value exports)
{
    napi_value function;
    napi_create_function(env, "releasePages", NAPI_AUTO_LENGTH, release_pages, NULL, &function);
    napi_set_named_property(env, exports, "releasePages", function);
}
