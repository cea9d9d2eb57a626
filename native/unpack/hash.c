#include "hash.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

int hash_named(const char *text, enum hash_name *name)
{
  const int is_512 = strcmp(text, "sha512") == 0;
  if (!is_512 && strcmp(text, "sha256") != 0)
    return -1;
  *name = is_512 ? HASH_SHA512 : HASH_SHA256;
  return 0;
}

void hash_start(struct hash *h, enum hash_name name)
{
  h->name = name;
  if (name == HASH_SHA512)
    sha512_init(&h->sha512);
  else
    sha256_init(&h->sha256);
}

void hash_update(struct hash *h, const void *data, size_t len)
{
  if (h->name == HASH_SHA512)
    sha512_update(&h->sha512, len, data);
  else
    sha256_update(&h->sha256, len, data);
}

void hash_finish(struct hash *h, char out[DIGEST_TEXT])
{
  static const char digits[] = "0123456789abcdef";
  uint8_t bytes[SHA512_DIGEST_SIZE];
  const size_t len = h->name == HASH_SHA512 ? SHA512_DIGEST_SIZE : SHA256_DIGEST_SIZE;
  if (h->name == HASH_SHA512)
    sha512_digest(&h->sha512, len, bytes);
  else
    sha256_digest(&h->sha256, len, bytes);
  char *at = out + sprintf(out, "%s:", h->name == HASH_SHA512 ? "sha512" : "sha256");
  for (size_t i = 0; i < len; i++) {
    *at++ = digits[bytes[i] >> 4];
    *at++ = digits[bytes[i] & 15];
  }
  *at = 0;
}
