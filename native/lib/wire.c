#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void store32(unsigned char *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t load32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void wire_begin(struct wire_out *out, uint32_t type)
{
    store32(out->bytes + 4, type);
    out->length = 8;
}

void wire_u32(struct wire_out *out, uint32_t value)
{
    if (out->length + 4 > sizeof out->bytes)
        return;
    store32(out->bytes + out->length, value);
    out->length += 4;
}

void wire_u64(struct wire_out *out, uint64_t value)
{
    wire_u32(out, (uint32_t)value);
    wire_u32(out, (uint32_t)(value >> 32));
}

void wire_bytes(struct wire_out *out, const void *data, size_t length)
{
    size_t room = sizeof out->bytes - out->length;
    if (room < 8)
        return;
    if (length > room - 8)
        length = room - 8;
    size_t padded = (length + 4) & ~(size_t)3;
    store32(out->bytes + out->length, (uint32_t)length);
    memset(out->bytes + out->length + 4, 0, padded);
    memcpy(out->bytes + out->length + 4, data, length);
    out->length += 4 + padded;
}

void wire_str(struct wire_out *out, const char *text)
{
    wire_bytes(out, text, strlen(text));
}

int wire_send(int fd, struct wire_out *out)
{
    store32(out->bytes, (uint32_t)(out->length - 8));
    for (size_t sent = 0; sent < out->length;) {
        ssize_t n = send(fd, out->bytes + sent, out->length - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -1;
        struct pollfd slow = {.fd = fd, .events = POLLOUT};
        if (poll(&slow, 1, 1000) <= 0)
            return -1;
    }
    return 0;
}

int wire_fill(struct wire_in *in, int fd)
{
    if (in->length == sizeof in->bytes) {
        errno = EMSGSIZE;
        return -1;
    }
    ssize_t n = read(fd, in->bytes + in->length, sizeof in->bytes - in->length);
    if (n < 0)
        return -1;
    in->length += (size_t)n;
    return n > 0;
}

int wire_take(struct wire_in *in, unsigned char *payload, size_t *length)
{
    if (in->length < 8)
        return 0;
    size_t size = load32(in->bytes);
    uint32_t type = load32(in->bytes + 4);
    if (size > WIRE_MAX_PAYLOAD || type == 0 || type > 0xffff)
        return -1;
    if (in->length < 8 + size)
        return 0;
    memcpy(payload, in->bytes + 8, size);
    *length = size;
    in->length -= 8 + size;
    memmove(in->bytes, in->bytes + 8 + size, in->length);
    return (int)type;
}
