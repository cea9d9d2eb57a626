/* A zstd stream; its first four bytes are not the input's, so that none is wasted on another format. */
#include "decoding.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static uint8_t stream[64 * 1024] = {0x28, 0xb5, 0x2f, 0xfd};
  if (size > sizeof stream - 4)
    return 0;
  memcpy(stream + 4, data, size);
  decode_both_ways(stream, size + 4);
  return 0;
}
