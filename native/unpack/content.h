/*
 * What a file holds, as 128 bits: XXH3 over its bytes, with blocks of zeros left out, so that holes cost nothing and
 * that it does not matter which zeros are holes. It finds damage; it is no defence against someone who writes files.
 */
#ifndef BERTH_UNPACK_CONTENT_H
#define BERTH_UNPACK_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { CONTENT_BYTES = 16, CONTENT_BLOCK = 4096 };

struct content_hash;

/* NULL with errno set. One serves for any number of files. */
struct content_hash *content_new(void);
void content_free(struct content_hash *h);

void content_start(struct content_hash *h);
void content_data(struct content_hash *h, const uint8_t *p, size_t n);
void content_hole(struct content_hash *h, uint64_t n);
void content_end(struct content_hash *h, uint8_t out[CONTENT_BYTES]);

/* The whole of a regular file; `*bytes` is how much of it was read, holes left out. 0, or -1 and errno. */
int content_of_file(struct content_hash *h, int fd, uint8_t out[CONTENT_BYTES], uint64_t *bytes);

/* All attributes that unpacking may have set, in no order; 0 when there are none. 0, or -1 and errno. */
int content_of_xattrs(int fd, uint64_t *out);

/* For names: equal names have equal hashes. */
uint64_t content_of_name(const char *name, size_t len);

#endif
