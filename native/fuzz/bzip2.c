/* A stream of bzip2; its first ten bytes are not the input's, so that none is wasted on another format. */
#include "decoding.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static uint8_t stream[64 * 1024] = {'B', 'Z', 'h', '9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59};
  if (size > sizeof stream - 10)
    return 0;
  memcpy(stream + 10, data, size);
  decode_both_ways(stream, size + 10);
  return 0;
}
