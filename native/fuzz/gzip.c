/* A gzip stream; its first two bytes are not the input's, so that none is wasted on another format. */
#include "decoding.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static uint8_t stream[64 * 1024] = {0x1f, 0x8b};
  if (size > sizeof stream - 2)
    return 0;
  memcpy(stream + 2, data, size);
  decode_both_ways(stream, size + 2);
  return 0;
}
