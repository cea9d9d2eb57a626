/*
 * netlink(protocol, namespace, request) -> Promise<Buffer>: sends one datagram of netlink messages, whatever they say, and
 * resolves with all that the kernel answered, messages one after the other. `namespace` is the path of a network namespace,
 * or "" for this process's own.
 *
 * A socket belongs to the namespace of the thread that makes it.
 */
#define _GNU_SOURCE
#include "addon.h"
#include "network.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/* The kernel writes an answer for each message before sendmsg returns: there has to be room for all of them. */
#define SOCKET_BYTES (4 * 1024 * 1024)
#define ANSWER_BYTES (64 * 1024)
#define ANSWERS_MAX (256u * 1024 * 1024)

struct netlink_call {
    napi_async_work work;
    napi_deferred deferred;
    int protocol;
    char *namespace;
    char *request;
    size_t request_bytes;
    char *answer;
    size_t answer_bytes;
    const char *call;
    int failure;
};

static int fail(struct netlink_call *c, const char *call)
{
    c->call = call;
    c->failure = errno;
    return -1;
}

static int room_for(struct netlink_call *c, size_t *capacity)
{
    if (*capacity - c->answer_bytes >= ANSWER_BYTES)
        return 0;
    size_t wanted = *capacity * 2 + ANSWER_BYTES;
    char *grown = wanted > ANSWERS_MAX ? NULL : realloc(c->answer, wanted);
    if (!grown) {
        errno = ENOMEM;
        return -1;
    }
    c->answer = grown;
    *capacity = wanted;
    return 0;
}

/* All is there when sendmsg has returned; a dump's next part is written as one is read. So nothing is waited for. */
static int receive_all(struct netlink_call *c, int fd)
{
    size_t capacity = 0;
    for (;;) {
        if (room_for(c, &capacity))
            return fail(c, "netlink: keep the answer");
        ssize_t n = recv(fd, c->answer + c->answer_bytes, ANSWER_BYTES, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : fail(c, "netlink: receive");
        if (n > ANSWER_BYTES) {
            errno = EMSGSIZE;
            return fail(c, "netlink: receive");
        }
        c->answer_bytes += (size_t)n;
    }
}

static void talk(struct netlink_call *c)
{
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int bytes = SOCKET_BYTES, yes = 1;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, c->protocol);
    if (fd < 0) {
        fail(c, "netlink: socket");
        return;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof yes);
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &yes, sizeof yes);
    if (sendto(fd, c->request, c->request_bytes, 0, (const struct sockaddr *)&kernel, sizeof kernel) < 0)
        fail(c, "netlink: send");
    else
        receive_all(c, fd);
    close(fd);
}

static void *talk_inside(void *data)
{
    struct netlink_call *c = data;
    if (enter_network(c->namespace))
        fail(c, "netlink: enter the namespace");
    else
        talk(c);
    return NULL;
}

static void netlink_run(napi_env env, void *data)
{
    (void)env;
    struct netlink_call *c = data;
    if (!*c->namespace) {
        talk(c);
        return;
    }
    int failure = run_in_own_thread(talk_inside, c);
    if (failure) {
        errno = failure;
        fail(c, "netlink: start a thread");
    }
}

static void netlink_free(struct netlink_call *c)
{
    if (c) {
        free(c->namespace);
        free(c->request);
        free(c->answer);
    }
    free(c);
}

static void netlink_done(napi_env env, napi_status status, void *data)
{
    struct netlink_call *c = data;
    napi_handle_scope scope;
    napi_value answer;
    napi_open_handle_scope(env, &scope);
    if (status == napi_ok && !c->failure &&
        napi_create_buffer_copy(env, c->answer_bytes, c->answer, NULL, &answer) == napi_ok)
        napi_resolve_deferred(env, c->deferred, answer);
    else
        napi_reject_deferred(env, c->deferred,
                             make_errno(env, c->call ? c->call : "netlink", c->failure ? c->failure : ECANCELED));
    napi_close_handle_scope(env, scope);
    napi_delete_async_work(env, c->work);
    netlink_free(c);
}

napi_value netlink(napi_env env, napi_callback_info info)
{
    napi_value args[3], promise, name;
    void *request;
    if (!arguments(env, info, args, 3))
        return NULL;
    struct netlink_call *c = calloc(1, sizeof *c);
    if (!c || get_int(env, args[0], &c->protocol) || !(c->namespace = get_string(env, args[1]))) {
        netlink_free(c);
        return NULL;
    }
    if (napi_get_buffer_info(env, args[2], &request, &c->request_bytes) != napi_ok || c->request_bytes == 0) {
        netlink_free(c);
        napi_throw_type_error(env, NULL, "a Buffer of messages is expected");
        return NULL;
    }
    if (!(c->request = malloc(c->request_bytes))) {
        netlink_free(c);
        napi_throw(env, make_errno(env, "malloc", ENOMEM));
        return NULL;
    }
    memcpy(c->request, request, c->request_bytes);
    napi_create_promise(env, &c->deferred, &promise);
    napi_create_string_utf8(env, "berth netlink", NAPI_AUTO_LENGTH, &name);
    napi_create_async_work(env, NULL, name, netlink_run, netlink_done, c, &c->work);
    napi_queue_async_work(env, c->work);
    return promise;
}
