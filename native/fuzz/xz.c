/* A stream of xz; its first six bytes are not the input's, so that none is wasted on another format. */
#include "decoding.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static uint8_t stream[64 * 1024] = {0xfd, '7', 'z', 'X', 'Z', 0};
  if (size > sizeof stream - 6)
    return 0;
  memcpy(stream + 6, data, size);
  decode_both_ways(stream, size + 6);
  return 0;
}
