/* Frames of the control socket: those that come, and those that are built out of anything. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "../lib/wire.h"

#include <string.h>
#include <unistd.h>

static void receive(const uint8_t *data, size_t size)
{
  struct wire_in in = {0};
  unsigned char payload[WIRE_MAX_PAYLOAD];
  size_t length, taken = 0;
  const int fd = file_of(data, size);
  for (int more = 1; more > 0;) {
    more = wire_fill(&in, fd);
    int type;
    while ((type = wire_take(&in, payload, &length)) > 0) {
      MUST(length <= sizeof payload && memcmp(payload, data + taken + 8, length) == 0);
      taken += 8 + length;
    }
    if (type < 0)
      return; /* a broken peer */
    MUST(in.length < sizeof in.bytes); /* there is room for the rest of the frame, however long it may be */
  }
  MUST(taken <= size);
}

/* The input is instructions: a kind, and for bytes a length. */
static void build(const uint8_t *data, size_t size)
{
  static struct wire_out out;
  struct wire_in in = {0};
  unsigned char payload[WIRE_MAX_PAYLOAD];
  size_t length;
  wire_begin(&out, 1 + (size ? data[0] : 0));
  for (size_t i = 0; i + 2 < size; i += 3) {
    const size_t want = (size_t)data[i + 1] << 8 | data[i + 2], have = size - i;
    if (data[i] % 3 == 0)
      wire_u32(&out, (uint32_t)want);
    else if (data[i] % 3 == 1)
      wire_u64(&out, want);
    else
      wire_bytes(&out, data + i, want < have ? want : have);
    MUST(out.length >= 8 && out.length <= sizeof out.bytes && out.length % 4 == 0);
  }
  memcpy(in.bytes, out.bytes, out.length);
  in.length = out.length;
  const uint32_t payload_length = (uint32_t)(out.length - 8); /* which wire_send puts in front */
  for (int i = 0; i < 4; i++)
    in.bytes[i] = (unsigned char)(payload_length >> (8 * i));
  MUST(wire_take(&in, payload, &length) == 1 + (size ? data[0] : 0) && length == payload_length && in.length == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  receive(data, size);
  build(data, size);
  return 0;
}
