#define _GNU_SOURCE
#include "addon.h"
#include "../lib/smaps.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct release {
    napi_async_work work;
    napi_deferred deferred;
    int failure;
};

static void let_go(unsigned long from, unsigned long to, void *nothing)
{
    (void)nothing;
    madvise((void *)from, to - from, MADV_DONTNEED);
}

/*
 * A mapping that has pages of its own (relocations, a debugger's breakpoints) keeps all of them: they are not in the
 * file. The program is never unmapped, so that what was read of it stays true. That its file may have been replaced is no
 * matter: the kernel keeps what is executed, and drops such pages itself when it needs memory.
 */
static int release_program(void)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return -1;
    program[length] = '\0';
    FILE *maps = fopen("/proc/self/smaps", "re");
    if (!maps)
        return -1;
    smaps_unchanged(maps, program, let_go, NULL);
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
napi_value release_pages(napi_env env, napi_callback_info info)
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
