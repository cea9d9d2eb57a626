/* SHA-256 (FIPS 180-4), with the CPU's SHA instructions where they exist. */
#ifndef BERTH_UNPACK_SHA256_H
#define BERTH_UNPACK_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
  void (*compress)(uint32_t state[8], const uint8_t *data, size_t blocks);
};

void sha256_init(struct sha256 *h);
/* The same without SHA instructions, so that a test can compare the two. */
void sha256_init_portable(struct sha256 *h);
void sha256_update(struct sha256 *h, const void *data, size_t len);
void sha256_final(struct sha256 *h, uint8_t out[32]);
/* 64 lower-case digits and a NUL. */
void sha256_hex(const uint8_t digest[32], char out[65]);

#endif
