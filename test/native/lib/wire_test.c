/* Frames come out whole and in order, however they are cut; a peer that breaks the rules is noticed. */
#include "check.h"
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void one_stream_of_frames(void)
{
    static struct wire_in in;
    static struct wire_out out;
    static unsigned char payload[WIRE_MAX_PAYLOAD], stream[20 * (8 + WIRE_MAX_PAYLOAD)];
    size_t lengths[20], total = 0;
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    uint32_t count = 1 + random_below(20);
    for (uint32_t i = 0; i < count; i++) {
        wire_begin(&out, 1 + i);
        for (uint32_t n = random_below(random_below(3) ? 20 : 2000); n > 0; n--)
            wire_u32(&out, n);
        lengths[i] = out.length - 8;
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        CHECK(wire_send(pair[0], &out) == 0);
        CHECK(read(pair[1], stream + total, out.length) == (ssize_t)out.length);
        total += out.length;
        close(pair[0]);
        close(pair[1]);
    }
    in.length = 0;
    uint32_t taken = 0;
    int is_wrong = 0;
    for (size_t at = 0; at < total;) {
        size_t piece = 1 + random_below(random_below(2) ? 7 : 3000), length;
        piece = piece < total - at ? piece : total - at;
        is_wrong |= write(ends[0], stream + at, piece) != (ssize_t)piece;
        at += piece;
        for (size_t left = piece; left > 0;) {
            size_t before = in.length;
            is_wrong |= wire_fill(&in, ends[1]) != 1;
            left -= in.length - before;
            for (int type; (type = wire_take(&in, payload, &length)) > 0; taken++)
                is_wrong |= type != (int)taken + 1 || length != lengths[taken];
        }
    }
    CHECK(!is_wrong);
    CHECK(taken == count);
    close(ends[0]);
    CHECK(wire_fill(&in, ends[1]) == 0);
    close(ends[1]);
}

static void frames_survive_any_cut(void)
{
    for (int i = 0; i < 30; i++)
        one_stream_of_frames();
}

static void a_broken_peer_is_noticed(void)
{
    static struct wire_in in;
    static unsigned char payload[WIRE_MAX_PAYLOAD];
    static const struct {
        unsigned char bytes[8];
    } broken[] = {
        {{1, 16, 0, 0, 1, 0, 0, 0}},             /* one byte too long */
        {{255, 255, 255, 255, 1, 0, 0, 0}},      /* far too long */
        {{0, 0, 0, 0, 0, 0, 0, 0}},              /* type 0 */
        {{0, 0, 0, 0, 0, 0, 1, 0}},              /* a type past the range */
        {{0, 0, 0, 0, 0, 0, 0, 128}},            /* a negative one */
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        size_t length;
        memcpy(in.bytes, broken[i].bytes, 8);
        in.length = 8;
        CHECK(wire_take(&in, payload, &length) == -1);
    }
}

static void noise_is_harmless(void)
{
    static struct wire_in in;
    static unsigned char payload[WIRE_MAX_PAYLOAD];
    size_t length;
    for (int round = 0; round < 1000; round++) {
        in.length = random_below(sizeof in.bytes + 1);
        random_bytes(in.bytes, in.length);
        if (random_below(2) && in.length >= 8)
            memcpy(in.bytes, (unsigned char[]){(unsigned char)random_below(256), (unsigned char)random_below(17), 0, 0, 1, 0, 0, 0}, 8);
        while (wire_take(&in, payload, &length) > 0)
            CHECK(length <= WIRE_MAX_PAYLOAD);
    }
}

static void too_much_is_cut(void)
{
    static struct wire_out out;
    static char text[2 * WIRE_MAX_PAYLOAD];
    memset(text, 'x', sizeof text - 1);
    wire_begin(&out, 1);
    wire_str(&out, text);
    wire_str(&out, text);
    for (int i = 0; i < 3000; i++)
        wire_u64(&out, 1);
    CHECK(out.length <= sizeof out.bytes);
}

static void a_reader_that_is_gone_is_an_error_and_no_signal(void)
{
    static struct wire_out out;
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    close(ends[1]);
    wire_begin(&out, 1);
    CHECK(wire_send(ends[0], &out) == -1 && errno == EPIPE);
    close(ends[0]);
}

void test_wire(void)
{
    RUN(frames_survive_any_cut);
    RUN(a_broken_peer_is_noticed);
    RUN(noise_is_harmless);
    RUN(too_much_is_cut);
    RUN(a_reader_that_is_gone_is_an_error_and_no_signal);
}
