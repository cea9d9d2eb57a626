#include "attach.h"
#include "helper.h"
#include "../lib/sys.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* A client's socket holds this much for it, as far as the kernel allows. */
#define SOCKET_BYTES (1 << 20)

static struct client {
    int fd; /* 0: a free place */
    uint32_t stream;
    int is_behind;
    size_t sent; /* of the output's chunk when it is behind, of `data` for stdin */
    size_t have;
    char data[4096]; /* of stdin, on its way */
} clients[ATTACH_CLIENTS];

#define CHUNK_HEADER 4

static struct {
    char data[CHUNK_HEADER + ATTACH_CHUNK];
    size_t length;
    uint64_t since; /* when the first fell behind */
} chunks[2];

static struct {
    int fd;
    int mode;
} input = {.fd = -1};

static void close_input(void)
{
    if (input.fd >= 0)
        close(input.fd);
    input.fd = -1;
}

static void drop(struct client *client)
{
    int was_input = client->stream == 0;
    close(client->fd);
    *client = (struct client){0};
    if (was_input && input.mode & STDIN_ONCE && !(input.mode & STDIN_TERMINAL))
        close_input();
}

void attach_input(int fd, int mode)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    input.fd = fd;
    input.mode = mode;
}

int attach_add(int fd, uint32_t stream)
{
    int bytes = SOCKET_BYTES;
    if (stream > 2)
        return EINVAL;
    if (stream == 0 && input.fd < 0)
        return EPIPE;
    for (int i = 0; i < ATTACH_CLIENTS; i++) {
        struct client *client = &clients[i];
        if (client->fd)
            continue;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        *client = (struct client){.fd = fd, .stream = stream};
        return 0;
    }
    return EUSERS;
}

/* ---- output ---- */

static int is_client_of(const struct client *client, int output)
{
    return client->fd && client->stream == (uint32_t)output + 1;
}

int attach_is_ready(int output)
{
    for (int i = 0; i < ATTACH_CLIENTS; i++)
        if (is_client_of(&clients[i], output) && clients[i].is_behind)
            return 0;
    return 1;
}

/* Sends the chunk from `client->sent` on; it is behind when not all of it went. */
static void push(struct client *client, int output)
{
    const char *rest = chunks[output].data + client->sent;
    size_t length = chunks[output].length;
    ssize_t n = send(client->fd, rest, length - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(client);
        return;
    }
    client->sent += n > 0 ? (size_t)n : 0;
    client->is_behind = client->sent < length;
}

int attach_has_clients(int output)
{
    for (int i = 0; i < ATTACH_CLIENTS; i++)
        if (is_client_of(&clients[i], output))
            return 1;
    return 0;
}

void attach_feed(int output, const char *data, size_t length)
{
    if (!attach_has_clients(output))
        return;
    for (int i = 0; i < CHUNK_HEADER; i++)
        chunks[output].data[i] = (char)(length >> (8 * i));
    memcpy(chunks[output].data + CHUNK_HEADER, data, length);
    chunks[output].length = CHUNK_HEADER + length;
    chunks[output].since = monotonic_ns();
    for (int i = 0; i < ATTACH_CLIENTS; i++) {
        if (!is_client_of(&clients[i], output))
            continue;
        clients[i].sent = 0;
        push(&clients[i], output);
    }
}

void attach_close(int output)
{
    attach_flush();
    attach_feed(output, "", 0);
    attach_flush();
    for (int i = 0; i < ATTACH_CLIENTS; i++)
        if (is_client_of(&clients[i], output))
            drop(&clients[i]);
}

int attach_is_large(void)
{
    return (chunks[0].length > 0 && !attach_has_clients(0)) || (chunks[1].length > 0 && !attach_has_clients(1));
}

void attach_rest(void)
{
    for (int i = 0; i < 2; i++) {
        if (attach_has_clients(i))
            continue;
        char *first = (char *)(((uintptr_t)&chunks[i] + 4095) & ~(uintptr_t)4095);
        madvise(first, (size_t)(chunks[i].data + sizeof chunks[i].data - first) & ~(size_t)4095, MADV_DONTNEED);
        chunks[i].length = 0;
    }
}

/* ---- stdin ---- */

/* What the container does not take now waits here, and with it the client. */
static void push_input(struct client *client)
{
    ssize_t n = input.fd < 0 ? (ssize_t)(client->have - client->sent)
                             : write(input.fd, client->data + client->sent, client->have - client->sent);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        close_input(); /* nobody reads it any more: what comes is taken and dropped */
        n = (ssize_t)(client->have - client->sent);
    }
    client->sent += n > 0 ? (size_t)n : 0;
    if (client->sent == client->have)
        client->sent = client->have = 0;
}

static void take_input(struct client *client)
{
    ssize_t n = recv(client->fd, client->data, sizeof client->data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(client);
        return;
    }
    client->have = (size_t)n;
    push_input(client);
}

/* ---- the poll loop's part ---- */

int attach_watch(struct pollfd *watched)
{
    int wait = -1, wants_input = 0;
    uint64_t now = monotonic_ns();
    for (int i = 0; i < ATTACH_CLIENTS; i++) {
        const struct client *client = &clients[i];
        /* One whose stdin waits is not looked at: its hanging up would be told again and again. */
        watched[i] = (struct pollfd){.fd = client->fd && !client->have ? client->fd : -1, .events = client->stream ? POLLRDHUP : POLLIN};
        wants_input |= client->have > 0;
        if (!client->is_behind)
            continue;
        watched[i].events |= POLLOUT;
        uint64_t until = chunks[client->stream - 1].since + ATTACH_STALL_MS * 1000000ull;
        int left = now >= until ? 0 : (int)((until - now) / 1000000) + 1;
        if (wait < 0 || left < wait)
            wait = left;
    }
    watched[ATTACH_CLIENTS] = (struct pollfd){.fd = wants_input ? input.fd : -1, .events = POLLOUT};
    return wait;
}

static void serve_output(struct client *client, short events)
{
    int output = (int)client->stream - 1;
    if (events & (POLLERR | POLLHUP | POLLRDHUP)) {
        drop(client);
        return;
    }
    if (client->is_behind && events & POLLOUT)
        push(client, output);
    if (client->fd && client->is_behind && monotonic_ns() >= chunks[output].since + ATTACH_STALL_MS * 1000000ull)
        drop(client);
}

void attach_serve(const struct pollfd *watched)
{
    for (int i = 0; i < ATTACH_CLIENTS; i++) {
        struct client *client = &clients[i];
        if (client->fd && client->have && (watched[ATTACH_CLIENTS].revents || input.fd < 0))
            push_input(client);
        else if (!client->fd || watched[i].fd != client->fd)
            continue;
        else if (client->stream > 0)
            serve_output(client, watched[i].revents);
        else if (watched[i].revents)
            take_input(client);
    }
}

void attach_flush(void)
{
    struct pollfd watched[ATTACH_POLLED];
    for (;;) {
        int wait = attach_watch(watched);
        if (wait < 0)
            return;
        poll(watched, ATTACH_CLIENTS, wait);
        for (int i = 0; i < ATTACH_CLIENTS; i++)
            if (clients[i].fd && clients[i].stream > 0)
                serve_output(&clients[i], watched[i].revents);
    }
}
