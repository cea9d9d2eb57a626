/*
 * The addon: one function per kernel call that Node lacks. Nothing here decides
 * anything, forks without exec, leaves a thread in a namespace, or blocks the event loop:
 * what may wait runs on a pool thread, and ends are learnt by pidfd.
 * The TypeScript side, with the contracts, is src/native/addon.ts.
 */
#define _GNU_SOURCE
#include "addon.h"

#include <uv.h>

#include "../lib/vfork.h"
#include "batch.h"
#include "table_call.h"
#include "file_calls.h"
#include "null.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif

#define MAX_ARGS 512 /* a layer on its chain names every layer below it */
#define MAX_ENV 64
#define MAX_FDS 16
#define STACK_BYTES 65536

/* ---- helpers ---- */

napi_value make_errno(napi_env env, const char *call, int failure)
{
    char message[160];
    napi_value error, code, text, number;
    snprintf(message, sizeof message, "%s: %s", call, strerror(failure));
    napi_create_string_utf8(env, uv_err_name(-failure), NAPI_AUTO_LENGTH, &code);
    napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text);
    napi_create_error(env, code, text, &error);
    napi_create_int32(env, failure, &number);
    napi_set_named_property(env, error, "errno", number);
    return error;
}

static napi_value throw_errno(napi_env env, const char *call)
{
    napi_throw(env, make_errno(env, call, errno));
    return NULL;
}

static napi_value int_value(napi_env env, int64_t number)
{
    napi_value value;
    napi_create_int64(env, number, &value);
    return value;
}

int get_int(napi_env env, napi_value value, int *number)
{
    return napi_get_value_int32(env, value, number) == napi_ok ? 0 : -1;
}

char *get_string(napi_env env, napi_value value)
{
    size_t length;
    if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "a string is expected");
        return NULL;
    }
    char *text = malloc(length + 1);
    if (text)
        napi_get_value_string_utf8(env, value, text, length + 1, &length);
    if (text && strlen(text) != length) {
        free(text);
        napi_throw_type_error(env, NULL, "a string without NUL is expected");
        return NULL;
    }
    return text;
}

size_t arguments(napi_env env, napi_callback_info info, napi_value *values, size_t wanted)
{
    size_t count = wanted;
    napi_get_cb_info(env, info, &count, values, NULL, NULL);
    if (count < wanted)
        napi_throw_type_error(env, NULL, "too few arguments");
    return count >= wanted;
}

/* ---- memfd(bytes, name) -> fd: a sealed copy of a program, which nothing can write to ---- */

static napi_value memfd(napi_env env, napi_callback_info info)
{
    napi_value args[2];
    void *data;
    size_t length, done = 0;
    if (!arguments(env, info, args, 2))
        return NULL;
    if (napi_get_buffer_info(env, args[0], &data, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "a Buffer is expected");
        return NULL;
    }
    char *name = get_string(env, args[1]);
    if (!name)
        return NULL;
    int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 there is no MFD_EXEC */
        fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    free(name);
    if (fd < 0)
        return throw_errno(env, "memfd_create");
    while (done < length) {
        ssize_t n = write(fd, (char *)data + done, length - done);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    if (done < length || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) {
        napi_value failed = throw_errno(env, "write and seal a memfd");
        close(fd);
        return failed;
    }
    return int_value(env, fd);
}

/* ---- spawn(programFd, argv, fds, cgroupFd) -> Promise<{pid, pidfd}> ---- */

struct spawn {
    napi_async_work work;
    napi_deferred deferred;
    int program;
    int cgroup;
    int fd_count;
    int fds[MAX_FDS];
    char *argv[MAX_ARGS + 1];
    char *path; /* NULL: `program` is executed */
    char *envp[MAX_ENV + 1];
    int pid;
    int pidfd;
    int failure;
};

/* Runs in the vfork'ed child: only system calls. Puts fds[i] at number i, whatever they were. */
static int spawn_child(void *argument)
{
    struct spawn *s = argument;
    sigset_t none;
    int base = 3 + MAX_FDS, program, fds[MAX_FDS];
    for (int i = 0; i < s->fd_count; i++)
        if (s->fds[i] >= base)
            base = s->fds[i] + 1;
    if (s->program >= base)
        base = s->program + 1;
    program = fcntl(s->path ? s->fds[0] : s->program, F_DUPFD_CLOEXEC, base);
    for (int i = 0; i < s->fd_count; i++)
        if ((fds[i] = fcntl(s->fds[i], F_DUPFD_CLOEXEC, base)) < 0)
            goto failed;
    for (int i = 0; i < s->fd_count; i++)
        if (dup2(fds[i], i) < 0)
            goto failed;
    if (program < 0)
        goto failed;
    if (s->fd_count < program)
        sys_close_range((unsigned)s->fd_count, (unsigned)program - 1, 0);
    sys_close_range((unsigned)program + 1, ~0U, 0);
    memset(&none, 0, sizeof none);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    if (s->path) {
        setsid(); /* what it starts can be ended with it, by its group */
        execve(s->path, s->argv, s->envp);
    } else {
        syscall(SYS_execveat, program, "", s->argv, s->envp, AT_EMPTY_PATH);
    }
failed:
    s->failure = errno;
    return 127;
}

static void spawn_run(napi_env env, void *data)
{
    (void)env;
    struct spawn *s = data;
    sigset_t all, before;
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        s->failure = errno;
        return;
    }
    struct clone3_args args = {
        .flags = BERTH_CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&s->pidfd,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = STACK_BYTES,
    };
    if (s->cgroup >= 0) {
        args.flags |= BERTH_CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)s->cgroup;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of Node's may run in the shared memory */
    s->pid = vfork_into(&args, spawn_child, s);
    int failure = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_BYTES);
    if (s->pid < 0)
        s->failure = failure;
    else if (s->failure) { /* the child said why and is gone: reap it */
        siginfo_t ended;
        waitid((idtype_t)P_PIDFD, (id_t)s->pidfd, &ended, WEXITED | __WALL);
        close(s->pidfd);
    }
}

static void free_spawn(struct spawn *s)
{
    for (int i = 0; s && s->argv[i]; i++)
        free(s->argv[i]);
    for (int i = 0; s && s->envp[i]; i++)
        free(s->envp[i]);
    if (s)
        free(s->path);
    free(s);
}

static void spawn_done(napi_env env, napi_status status, void *data)
{
    struct spawn *s = data;
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    if (status == napi_ok && s->failure == 0) {
        napi_value result;
        napi_create_object(env, &result);
        napi_set_named_property(env, result, "pid", int_value(env, s->pid));
        napi_set_named_property(env, result, "pidfd", int_value(env, s->pidfd));
        napi_resolve_deferred(env, s->deferred, result);
    } else {
        napi_reject_deferred(env, s->deferred, make_errno(env, "spawn", s->failure ? s->failure : ECANCELED));
    }
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, s->work);
    free_spawn(s);
}

static int read_list(napi_env env, napi_value list, uint32_t limit, uint32_t *count)
{
    if (napi_get_array_length(env, list, count) != napi_ok || *count > limit) {
        napi_throw_type_error(env, NULL, "a list, not too long, is expected");
        return -1;
    }
    return 0;
}

static int read_strings(napi_env env, napi_value list, uint32_t limit, char **strings)
{
    uint32_t count;
    if (read_list(env, list, limit, &count))
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        napi_value item;
        napi_get_element(env, list, i, &item);
        if (!(strings[i] = get_string(env, item)))
            return -1;
    }
    return 0;
}

static int read_fds(napi_env env, napi_value list, struct spawn *s)
{
    uint32_t count;
    if (read_list(env, list, MAX_FDS, &count))
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        napi_value item;
        napi_get_element(env, list, i, &item);
        if (get_int(env, item, &s->fds[i]))
            return -1;
    }
    s->fd_count = (int)count;
    return 0;
}

static napi_value queue_spawn(napi_env env, struct spawn *s)
{
    napi_value promise, name;
    napi_create_promise(env, &s->deferred, &promise);
    napi_create_string_utf8(env, "berth spawn", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, spawn_run, spawn_done, s, &s->work);
    napi_queue_async_work(env, s->work);
    return promise;
}

static napi_value spawn(napi_env env, napi_callback_info info)
{
    napi_value args[4];
    if (!arguments(env, info, args, 4))
        return NULL;
    struct spawn *s = calloc(1, sizeof *s);
    if (s && !get_int(env, args[0], &s->program) && !read_strings(env, args[1], MAX_ARGS, s->argv) &&
        !read_fds(env, args[2], s) && !get_int(env, args[3], &s->cgroup))
        return queue_spawn(env, s);
    free_spawn(s);
    return NULL;
}

/* spawnPath(path, argv, fds, environment) -> Promise<{pid, pidfd}>: a program of the system's, in a session of its own */
static napi_value spawn_path(napi_env env, napi_callback_info info)
{
    napi_value args[4];
    if (!arguments(env, info, args, 4))
        return NULL;
    struct spawn *s = calloc(1, sizeof *s);
    if (s)
        s->program = s->cgroup = -1;
    if (s && (s->path = get_string(env, args[0])) && !read_strings(env, args[1], MAX_ARGS, s->argv) &&
        !read_fds(env, args[2], s) && s->fd_count > 0 && !read_strings(env, args[3], MAX_ENV, s->envp))
        return queue_spawn(env, s);
    free_spawn(s);
    return NULL;
}

/* ---- umount(path, flags) -> Promise<void> ---- */

struct path_call {
    napi_async_work work;
    napi_deferred deferred;
    char *path;
    int flags;
    int failure;
};

static void umount_run(napi_env env, void *data)
{
    (void)env;
    struct path_call *call = data;
    call->failure = umount2(call->path, call->flags) ? errno : 0;
}

static void umount_done(napi_env env, napi_status status, void *data)
{
    struct path_call *call = data;
    napi_handle_scope scope;
    napi_value nothing;
    napi_open_handle_scope(env, &scope);
    napi_get_undefined(env, &nothing);
    if (status == napi_ok && call->failure == 0)
        napi_resolve_deferred(env, call->deferred, nothing);
    else
        napi_reject_deferred(env, call->deferred, make_errno(env, "umount2", call->failure ? call->failure : ECANCELED));
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, call->work);
    free(call->path);
    free(call);
}

static napi_value unmount(napi_env env, napi_callback_info info)
{
    napi_value args[2], promise, name;
    if (!arguments(env, info, args, 2))
        return NULL;
    struct path_call *call = calloc(1, sizeof *call);
    if (!call || get_int(env, args[1], &call->flags) || !(call->path = get_string(env, args[0]))) {
        free(call);
        return NULL;
    }
    napi_create_promise(env, &call->deferred, &promise);
    napi_create_string_utf8(env, "berth umount", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, umount_run, umount_done, call, &call->work);
    napi_queue_async_work(env, call->work);
    return promise;
}

/* ---- attachDeviceProgram(cgroup directory, instructions) -> Promise<void> ---- */

struct device_program {
    napi_async_work work;
    napi_deferred deferred;
    char *cgroup;
    void *instructions;
    size_t bytes;
    const char *call;
    int failure;
};

/* An attached program is the cgroup's, and goes with it; the descriptor is only for who loads it. */
static int load_and_attach(struct device_program *p)
{
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uint64_t)(uintptr_t)p->instructions,
        .insn_cnt = (uint32_t)(p->bytes / 8),
        .license = (uint64_t)(uintptr_t) "none",
    };
    p->call = "bpf(BPF_PROG_LOAD)";
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (program < 0)
        return -1;
    p->call = "open";
    int cgroup = open(p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = cgroup < 0;
    if (!failed) {
        union bpf_attr attach = {
            .target_fd = (uint32_t)cgroup,
            .attach_bpf_fd = (uint32_t)program,
            .attach_type = BPF_CGROUP_DEVICE,
            .attach_flags = BPF_F_ALLOW_MULTI, /* cgroups above and below may have programs of their own: all must allow */
        };
        p->call = "bpf(BPF_PROG_ATTACH)";
        failed = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) != 0;
    }
    int failure = errno;
    if (cgroup >= 0)
        close(cgroup);
    close(program);
    errno = failure;
    return failed ? -1 : 0;
}

static void device_program_run(napi_env env, void *data)
{
    (void)env;
    struct device_program *p = data;
    p->failure = load_and_attach(p) ? errno : 0;
}

static void device_program_free(struct device_program *p)
{
    if (p) {
        free(p->cgroup);
        free(p->instructions);
    }
    free(p);
}

static void device_program_done(napi_env env, napi_status status, void *data)
{
    struct device_program *p = data;
    napi_handle_scope scope;
    napi_value nothing;
    napi_open_handle_scope(env, &scope);
    napi_get_undefined(env, &nothing);
    if (status == napi_ok && p->failure == 0)
        napi_resolve_deferred(env, p->deferred, nothing);
    else
        napi_reject_deferred(env, p->deferred,
                             make_errno(env, p->call ? p->call : "bpf", p->failure ? p->failure : ECANCELED));
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, p->work);
    device_program_free(p);
}

static napi_value attach_device_program(napi_env env, napi_callback_info info)
{
    napi_value args[2], promise, name;
    void *instructions;
    if (!arguments(env, info, args, 2))
        return NULL;
    struct device_program *p = calloc(1, sizeof *p);
    if (!p || !(p->cgroup = get_string(env, args[0]))) {
        device_program_free(p);
        return NULL;
    }
    if (napi_get_buffer_info(env, args[1], &instructions, &p->bytes) != napi_ok || p->bytes == 0 || p->bytes % 8 != 0) {
        device_program_free(p);
        napi_throw_type_error(env, NULL, "a Buffer of whole instructions is expected");
        return NULL;
    }
    if (!(p->instructions = malloc(p->bytes))) {
        device_program_free(p);
        return throw_errno(env, "malloc");
    }
    memcpy(p->instructions, instructions, p->bytes);
    napi_create_promise(env, &p->deferred, &promise);
    napi_create_string_utf8(env, "berth device program", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, device_program_run, device_program_done, p, &p->work);
    napi_queue_async_work(env, p->work);
    return promise;
}

/* ---- readText(path) -> the text of a file of the kernel's, which no disk or network holds up ---- */

#define TEXT_BYTES 4096

static napi_value read_text(napi_env env, napi_callback_info info)
{
    napi_value args[1], result = NULL;
    char first[TEXT_BYTES], *text = first;
    size_t size = sizeof first, length = 0;
    ssize_t n;
    if (!arguments(env, info, args, 1))
        return NULL;
    char *path = get_string(env, args[0]);
    if (!path)
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd < 0)
        return throw_errno(env, "open");
    while ((n = read(fd, text + length, size - length)) > 0) {
        length += (size_t)n;
        if (length < size)
            continue;
        char *larger = malloc(size * 4);
        if (!larger) {
            n = -1;
            break;
        }
        memcpy(larger, text, length);
        if (text != first)
            free(text);
        text = larger;
        size *= 4;
    }
    int failure = errno;
    close(fd);
    errno = failure;
    if (n < 0)
        throw_errno(env, "read");
    else
        napi_create_string_utf8(env, text, length, &result);
    if (text != first)
        free(text);
    return result;
}

/* ---- pidfds ---- */

static napi_value pidfd_open_(napi_env env, napi_callback_info info)
{
    napi_value args[1];
    int pid;
    if (!arguments(env, info, args, 1) || get_int(env, args[0], &pid))
        return NULL;
    int fd = sys_pidfd_open(pid, 0);
    return fd < 0 ? throw_errno(env, "pidfd_open") : int_value(env, fd);
}

static napi_value pidfd_signal(napi_env env, napi_callback_info info)
{
    napi_value args[2], nothing;
    int fd, number;
    if (!arguments(env, info, args, 2) || get_int(env, args[0], &fd) || get_int(env, args[1], &number))
        return NULL;
    if (sys_pidfd_send_signal(fd, number))
        return throw_errno(env, "pidfd_send_signal");
    napi_get_undefined(env, &nothing);
    return nothing;
}

/* reap(pidfd) -> exit code (128 + signal when killed), or null while it runs or when it is no child of ours */
static napi_value reap(napi_env env, napi_callback_info info)
{
    napi_value args[1], nothing;
    siginfo_t ended = {0};
    int fd;
    if (!arguments(env, info, args, 1) || get_int(env, args[0], &fd))
        return NULL;
    napi_get_null(env, &nothing);
    if (waitid((idtype_t)P_PIDFD, (id_t)fd, &ended, WEXITED | WNOHANG | __WALL))
        return errno == ECHILD ? nothing : throw_errno(env, "waitid");
    if (ended.si_pid == 0)
        return nothing;
    return int_value(env, ended.si_code == CLD_EXITED ? ended.si_status : 128 + ended.si_status);
}

/* ---- watch(fd, callback) -> stop(): calls back whenever the descriptor is readable ---- */

struct watch {
    uv_poll_t poll;
    napi_env env;
    napi_ref callback;
    napi_async_context context;
    int closing;
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct watch *watch = poll->data;
    napi_handle_scope scope;
    napi_value callback, global, result;
    napi_open_handle_scope(watch->env, &scope);
    napi_get_reference_value(watch->env, watch->callback, &callback);
    napi_get_global(watch->env, &global);
    if (napi_make_callback(watch->env, watch->context, global, callback, 0, NULL, &result) == napi_pending_exception) {
        napi_value error;
        napi_get_and_clear_last_exception(watch->env, &error);
        napi_fatal_exception(watch->env, error);
    }
    napi_close_handle_scope(watch->env, scope);
}

static void watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    napi_handle_scope scope;
    napi_open_handle_scope(watch->env, &scope);
    napi_delete_reference(watch->env, watch->callback);
    napi_async_destroy(watch->env, watch->context);
    napi_close_handle_scope(watch->env, scope);
    free(watch);
}

static napi_value watch_stop(napi_env env, napi_callback_info info)
{
    struct watch *watch;
    napi_value nothing;
    napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&watch);
    napi_get_undefined(env, &nothing);
    if (!watch->closing) {
        watch->closing = 1;
        uv_close((uv_handle_t *)&watch->poll, watch_closed);
    }
    return nothing;
}

static napi_value watch(napi_env env, napi_callback_info info)
{
    napi_value args[2], name, stop;
    uv_loop_t *loop;
    int fd;
    if (!arguments(env, info, args, 2) || get_int(env, args[0], &fd))
        return NULL;
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return throw_errno(env, "calloc");
    napi_get_uv_event_loop(env, &loop);
    int status = uv_poll_init(loop, &watch->poll, fd);
    if (status) {
        free(watch);
        errno = -status;
        return throw_errno(env, "uv_poll_init");
    }
    watch->env = env;
    watch->poll.data = watch;
    napi_create_reference(env, args[1], 1, &watch->callback);
    napi_create_string_utf8(env, "berth watch", NAPI_AUTO_LENGTH, &name);
    napi_async_init(env, NULL, name, &watch->context);
    uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_readable);
    napi_create_function(env, "stop", NAPI_AUTO_LENGTH, watch_stop, watch, &stop);
    return stop;
}

/* ---- small descriptors ---- */

static napi_value pair(napi_env env, int first, int second)
{
    napi_value list;
    napi_create_array_with_length(env, 2, &list);
    napi_set_element(env, list, 0, int_value(env, first));
    napi_set_element(env, list, 1, int_value(env, second));
    return list;
}

static napi_value socket_pair(napi_env env, napi_callback_info info)
{
    (void)info;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        return throw_errno(env, "socketpair");
    return pair(env, ends[0], ends[1]);
}

/*
 * pipe([bytes]): the read end does not block; the write end, which a process
 * inherits, does. The size is a wish: a kernel out of pipe pages says no.
 */
static napi_value pipe_(napi_env env, napi_callback_info info)
{
    napi_value args[1];
    size_t count = 1;
    int ends[2], bytes = 0;
    napi_get_cb_info(env, info, &count, args, NULL, NULL);
    if (count > 0 && get_int(env, args[0], &bytes))
        return NULL;
    if (pipe2(ends, O_CLOEXEC))
        return throw_errno(env, "pipe2");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (bytes > 0)
        fcntl(ends[1], F_SETPIPE_SZ, bytes);
    return pair(env, ends[0], ends[1]);
}

/*
 * receive(socket) -> [bytes, fd]: what has come on a unix socket, and the descriptor that came with it or -1; no bytes at
 * its end, null when nothing is there
 */
static napi_value receive(napi_env env, napi_callback_info info)
{
    napi_value args[1], result, bytes;
    char data[4096], control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int socket, fd = -1;
    if (!arguments(env, info, args, 1) || get_int(env, args[0], &socket))
        return NULL;
    ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        napi_get_null(env, &result);
        return result;
    }
    if (n < 0)
        return throw_errno(env, "recvmsg");
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(at), sizeof fd);
    napi_create_buffer_copy(env, (size_t)n, data, NULL, &bytes);
    napi_create_array_with_length(env, 2, &result);
    napi_set_element(env, result, 0, bytes);
    napi_set_element(env, result, 1, int_value(env, fd));
    return result;
}

/* sendFds(socket, bytes, fds): one message with descriptors on a unix socket; it is short, and the socket takes it or has ended */
static napi_value send_fds(napi_env env, napi_callback_info info)
{
    napi_value args[3];
    char control[CMSG_SPACE(sizeof(int) * MAX_FDS)] = {0};
    struct iovec part;
    int socket;
    uint32_t count;
    if (!arguments(env, info, args, 3) || get_int(env, args[0], &socket) || read_list(env, args[2], MAX_FDS, &count))
        return NULL;
    if (napi_get_buffer_info(env, args[1], &part.iov_base, &part.iov_len) != napi_ok) {
        napi_throw_type_error(env, NULL, "bytes are expected");
        return NULL;
    }
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (uint32_t i = 0; i < count; i++) {
        napi_value item;
        int fd;
        napi_get_element(env, args[2], i, &item);
        if (get_int(env, item, &fd))
            return NULL;
        memcpy(CMSG_DATA(header) + sizeof fd * i, &fd, sizeof fd);
    }
    if (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return throw_errno(env, "sendmsg");
    return NULL;
}

/* lock(fd) -> true when this process now holds the file's lock, false when another does */
static napi_value lock(napi_env env, napi_callback_info info)
{
    napi_value args[1], result;
    int fd;
    if (!arguments(env, info, args, 1) || get_int(env, args[0], &fd))
        return NULL;
    int failed = flock(fd, LOCK_EX | LOCK_NB);
    if (failed && errno != EWOULDBLOCK)
        return throw_errno(env, "flock");
    napi_get_boolean(env, !failed, &result);
    return result;
}

/*
 * raiseHardLimit(resource, hard) -> this process's hard limit now, the old one where it may not be raised or is higher;
 * Infinity is none. The soft limit stays.
 */
static napi_value raise_hard_limit(napi_env env, napi_callback_info info)
{
    napi_value args[2], result;
    struct rlimit limit;
    double hard;
    int resource;
    if (!arguments(env, info, args, 2) || get_int(env, args[0], &resource))
        return NULL;
    if (napi_get_value_double(env, args[1], &hard) != napi_ok) {
        napi_throw_type_error(env, NULL, "a number is expected");
        return NULL;
    }
    if (getrlimit(resource, &limit))
        return throw_errno(env, "getrlimit");
    rlim_t wanted = isinf(hard) ? RLIM_INFINITY : (rlim_t)hard, before = limit.rlim_max;
    if (wanted > before) {
        limit.rlim_max = wanted;
        if (setrlimit(resource, &limit))
            limit.rlim_max = before;
    }
    napi_create_double(env, limit.rlim_max == RLIM_INFINITY ? INFINITY : (double)limit.rlim_max, &result);
    return result;
}

NAPI_MODULE_INIT()
{
    const struct {
        const char *name;
        napi_callback call;
    } functions[] = {
        {"memfd", memfd},   {"spawn", spawn},  {"spawnPath", spawn_path},  {"umount", unmount},         {"pidfdOpen", pidfd_open_},
        {"readText", read_text},
        {"reap", reap},     {"watch", watch},  {"pidfdSignal", pidfd_signal}, {"socketPair", socket_pair},
        {"pipe", pipe_},    {"lock", lock},    {"attachDeviceProgram", attach_device_program},
        {"receive", receive}, {"sendFds", send_fds}, {"readTable", read_table}, {"wakeTable", wake_table}, {"readFiles", read_files}, {"treeUsage", tree_usage},
        {"stopCounting", stop_counting}, {"descriptorCounts", descriptor_counts},
        {"netlink", netlink},
        {"releasePages", release_pages}, {"raiseHardLimit", raise_hard_limit},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        napi_value function;
        napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &function);
        napi_set_named_property(env, exports, functions[i].name, function);
    }
    export_file_calls(env, exports);
    export_null(env, exports);
    return exports;
}
