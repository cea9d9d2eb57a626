/* The decoder, fed in more than one way: however a stream comes, it means the same. */
#ifndef BERTH_FUZZ_DECODING_H
#define BERTH_FUZZ_DECODING_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the stream whole and in pieces, into memory with a guard behind it, and compares. */
void decode_both_ways(const uint8_t *data, size_t size);

#endif
