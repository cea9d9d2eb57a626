/* SHA-256 and SHA-512 by nettle, which uses the CPU's instructions where they exist; a digest as OCI writes it. */
#ifndef BERTH_UNPACK_HASH_H
#define BERTH_UNPACK_HASH_H

#include <nettle/sha2.h>
#include <stddef.h>

enum hash_name { HASH_SHA256, HASH_SHA512 };

struct hash {
  enum hash_name name;
  union {
    struct sha256_ctx sha256;
    struct sha512_ctx sha512;
  };
};

/* "sha512:", 128 digits, NUL */
enum { DIGEST_TEXT = 7 + 2 * SHA512_DIGEST_SIZE + 1 };

/* 0, or -1 when nothing is called `text`. */
int hash_named(const char *text, enum hash_name *name);

void hash_start(struct hash *h, enum hash_name name);
void hash_update(struct hash *h, const void *data, size_t len);
/* `sha256:<digits>` or `sha512:<digits>`; the hash is then of no more use. */
void hash_finish(struct hash *h, char out[DIGEST_TEXT]);

#endif
