#include "decoding.h"
#include "fuzz.h"
#include "../unpack/decode.h"

#include <string.h>
#include <xxhash.h>

/* Small inputs decode to gigabytes: the first of them are enough. */
enum { ROOM = 64 * 1024, BYTES_MAX = 4 * 1024 * 1024, TURNS_MAX = 2000 };

struct decoded {
  const char *step; /* of the failure, or NULL */
  uint64_t bytes, hash;
  unsigned turns;
  int cut; /* there was more */
};

static void run(struct decoder *d, struct decoder_io *io, int last, size_t room, XXH64_state_t *hash, struct decoded *to)
{
  struct failure f = {0};
  for (;;) {
    uint8_t *out = guarded_end(0) - room;
    io->out = out;
    io->out_len = room;
    const int result = decoder_run(d, io, last, &f);
    MUST(io->out >= out && io->out + io->out_len == guarded_end(0));
    XXH64_update(hash, out, room - io->out_len);
    to->bytes += room - io->out_len;
    to->cut |= to->bytes >= BYTES_MAX || ++to->turns >= TURNS_MAX;
    if (result < 0)
      to->step = f.step;
    MUST(result == 0 || f.step);
    if (result < 0 || to->cut || io->out_len > 0)
      return;
  }
}

/* `piece` bytes at a time, each copied to the end of guarded memory; `room` bytes of output at a time. */
static struct decoded decode(const uint8_t *data, size_t size, size_t piece, size_t room)
{
  struct decoded to = {0};
  struct decoder *d = decoder_new();
  XXH64_state_t *hash = XXH64_createState();
  MUST(d && hash);
  XXH64_reset(hash, 0);
  for (size_t at = 0; at < size && !to.step && !to.cut; at += piece) {
    const size_t n = size - at < piece ? size - at : piece;
    struct decoder_io io = {.in = memcpy(guarded_end(1) - n, data + at, n), .in_len = n};
    run(d, &io, 0, room, hash, &to);
    MUST(io.in_len == 0 || to.step || to.cut);
  }
  struct decoder_io nothing = {.in = guarded_end(1)};
  if (!to.step && !to.cut)
    run(d, &nothing, 1, room, hash, &to);
  to.hash = XXH64_digest(hash);
  XXH64_freeState(hash);
  decoder_free(d);
  return to;
}

void decode_both_ways(const uint8_t *data, size_t size)
{
  if (size > GUARDED)
    return;
  const struct decoded whole = decode(data, size, size ? size : 1, ROOM);
  const struct decoded pieces = decode(data, size, 1 + size / 7, 1 + size % 4093);
  if (whole.cut || pieces.cut)
    return;
  MUST(!whole.step == !pieces.step);
  if (!whole.step) /* of a broken stream more or less may come before that is seen */
    MUST(whole.bytes == pieces.bytes && whole.hash == pieces.hash);
}
