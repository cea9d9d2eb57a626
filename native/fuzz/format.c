/* Any bytes at all: telling formats apart, and what follows. */
#include "decoding.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  decode_both_ways(data, size);
  return 0;
}
