/* Frames on a helper's control socket; messages in wire.def. */
#ifndef BERTH_WIRE_H
#define BERTH_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum wire_type {
#define MSG(name, type, fields) MSG_##name = (type),
#include "wire.def"
#undef MSG
};

/* Longest payload either side sends; a longer frame is a broken peer. */
#define WIRE_MAX_PAYLOAD 4096

struct wire_out {
    size_t length;
    unsigned char bytes[8 + WIRE_MAX_PAYLOAD];
};

void wire_begin(struct wire_out *out, uint32_t type);
void wire_u32(struct wire_out *out, uint32_t value);
void wire_u64(struct wire_out *out, uint64_t value);
/* Cut to what fits. */
void wire_bytes(struct wire_out *out, const void *data, size_t length);
void wire_str(struct wire_out *out, const char *text);
/* Sends the whole frame, waiting at most a second for a slow reader; -1 and errno otherwise. Never raises SIGPIPE. */
int wire_send(int fd, struct wire_out *out);

struct wire_in {
    size_t length;
    unsigned char bytes[8 + WIRE_MAX_PAYLOAD];
};

/* Reads what is there: 1 data, 0 end of stream, -1 error (EAGAIN included). */
int wire_fill(struct wire_in *in, int fd);
/* Takes the next whole frame out: its type, or 0 when there is none, or -1 for a broken peer. */
int wire_take(struct wire_in *in, unsigned char *payload, size_t *length);

#endif
