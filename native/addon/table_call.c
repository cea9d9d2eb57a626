#define _GNU_SOURCE
#include "table_call.h"
#include "table.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Of one environment (the main thread, a worker): how the readers tell it what they have read. */
struct teller {
    napi_threadsafe_function tell;
    unsigned untold; /* the environment's own thread's: calls that wait for it */
    pthread_mutex_t lock;
    pthread_cond_t all_read;
    unsigned unread; /* what the readers still have */
};

struct call {
    struct table_job job; /* first: the readers know no more of it */
    struct teller *teller;
    napi_deferred deferred;
    napi_ref filled; /* the caller's array: what is read goes into it from memory that no environment takes away */
    double *target;
    size_t cell_count;
};

static void free_call(struct call *call)
{
    if (!call)
        return;
    free(call->job.layout_text.text);
    free(call->job.rows.text);
    free(call->job.cells);
    free(call);
}

/* The call has its answer. */
static void settled(napi_env env, struct call *call)
{
    struct teller *teller = call->teller;
    napi_delete_reference(env, call->filled);
    if (--teller->untold == 0)
        napi_unref_threadsafe_function(env, teller->tell);
}

/* On the environment's thread; without `env` when that ends. */
static void told(napi_env env, napi_value nothing, void *context, void *data)
{
    (void)context;
    struct call *call = data;
    if (env) {
        if (call->cell_count > 0)
            memcpy(call->target, call->job.cells, call->cell_count * sizeof *call->target);
        napi_get_undefined(env, &nothing);
        napi_resolve_deferred(env, call->deferred, nothing);
        settled(env, call);
    }
    free_call(call);
}

static void one_less_unread(struct teller *teller)
{
    pthread_mutex_lock(&teller->lock);
    if (--teller->unread == 0)
        pthread_cond_signal(&teller->all_read);
    pthread_mutex_unlock(&teller->lock);
}

/* On the thread that tells of what is read. */
static void tell(struct table_job *job)
{
    struct call *call = (struct call *)job;
    struct teller *teller = call->teller;
    if (napi_call_threadsafe_function(teller->tell, call, napi_tsfn_nonblocking) != napi_ok)
        free_call(call);
    one_less_unread(teller);
}

/* An environment that ends waits for what is read for it, as it does for the pool's threads. */
static void wait_for_readers(void *data)
{
    struct teller *teller = data;
    pthread_mutex_lock(&teller->lock);
    while (teller->unread > 0)
        pthread_cond_wait(&teller->all_read, &teller->lock);
    pthread_mutex_unlock(&teller->lock);
}

static void free_teller(napi_env env, void *data, void *context)
{
    (void)env;
    (void)data;
    free(context);
}

static struct teller *make_teller(napi_env env)
{
    napi_value name;
    struct teller *teller = calloc(1, sizeof *teller);
    if (!teller)
        return NULL;
    pthread_mutex_init(&teller->lock, NULL);
    pthread_cond_init(&teller->all_read, NULL);
    napi_create_string_utf8(env, "berth table", NAPI_AUTO_LENGTH, &name);
    if (napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, free_teller, teller, told, &teller->tell) !=
        napi_ok) {
        free(teller);
        return NULL;
    }
    napi_unref_threadsafe_function(env, teller->tell);
    /* After the function's own hook, and so run before it. */
    napi_add_env_cleanup_hook(env, wait_for_readers, teller);
    napi_set_instance_data(env, teller, NULL, NULL);
    return teller;
}

static struct teller *teller_of(napi_env env)
{
    void *teller = NULL;
    napi_get_instance_data(env, &teller);
    return teller ? teller : make_teller(env);
}

/* The last argument's memory, which stays where it is as long as there is a reference; -1 with a thrown error. */
static int take_target(napi_env env, napi_value value, struct call *call)
{
    napi_typedarray_type type;
    void *data;
    size_t length;
    call->cell_count = call->job.layout.columns * call->job.rows.count;
    if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
        type != napi_float64_array || length < call->cell_count) {
        napi_throw_type_error(env, NULL, "a Float64Array with a number for each row and key is expected");
        return -1;
    }
    call->target = data;
    call->job.cells = malloc((call->cell_count + 1) * sizeof *call->job.cells);
    call->teller = teller_of(env);
    if (call->job.cells && call->teller && napi_create_reference(env, value, 1, &call->filled) == napi_ok)
        return 0;
    napi_throw_error(env, "ENOMEM", "no memory for a table");
    return -1;
}

/* -1 with a thrown error. */
static int take_arguments(napi_env env, napi_callback_info info, struct call *call)
{
    napi_value args[3];
    size_t count = 3;
    napi_get_cb_info(env, info, &count, args, NULL, NULL);
    if (get_parts(env, args[0], &call->job.layout_text) || get_parts(env, args[1], &call->job.rows))
        return -1;
    if (table_layout(&call->job.layout_text, &call->job.layout)) {
        napi_throw_type_error(env, NULL, "a layout of files and keys is expected");
        return -1;
    }
    return take_target(env, args[2], call);
}

static void begin(napi_env env, struct call *call)
{
    struct teller *teller = call->teller;
    pthread_mutex_lock(&teller->lock);
    teller->unread++;
    pthread_mutex_unlock(&teller->lock);
    if (teller->untold++ == 0)
        napi_ref_threadsafe_function(env, teller->tell);
    if (table_read(&call->job) == 0)
        return;
    napi_value code, text, error;
    napi_create_string_utf8(env, "EAGAIN", NAPI_AUTO_LENGTH, &code);
    napi_create_string_utf8(env, "read the files of cgroups: the system has no thread for it", NAPI_AUTO_LENGTH, &text);
    napi_create_error(env, code, text, &error);
    napi_reject_deferred(env, call->deferred, error);
    settled(env, call);
    one_less_unread(teller);
    free_call(call);
}

napi_value read_table(napi_env env, napi_callback_info info)
{
    napi_value promise;
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        napi_throw_error(env, "ENOMEM", "no memory for a table");
        return NULL;
    }
    call->job.done = tell;
    if (take_arguments(env, info, call) || napi_create_promise(env, &call->deferred, &promise) != napi_ok) {
        free_call(call);
        return NULL;
    }
    begin(env, call);
    return promise;
}

napi_value wake_table(napi_env env, napi_callback_info info)
{
    (void)env;
    (void)info;
    table_wake();
    return NULL;
}
