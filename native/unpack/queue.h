/*
 * Chunks of bytes from one thread to another, in order, in buffers that are
 * used again and again.
 *
 *   produced - consumed = chunks that wait; chunk i lives in slot i % slots.
 */
#ifndef BERTH_UNPACK_QUEUE_H
#define BERTH_UNPACK_QUEUE_H

#include "failure.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { QUEUE_SLOTS = 8 };

struct chunk {
  size_t len;
  uint8_t *data;
};

struct queue {
  size_t chunk_bytes;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned produced, consumed;
  int ended;     /* no chunk follows: the end, or a failure when failed.step is set */
  int abandoned; /* nobody takes anything any more */
  struct failure failed;
  struct chunk slots[QUEUE_SLOTS];
};

/* 0, or -1 when the memory is not to be had. */
int queue_init(struct queue *q, size_t chunk_bytes);
void queue_free(struct queue *q);

/* ---- the producer's side ---- */

/* An empty chunk to fill, once there is one; NULL when the queue is abandoned. */
struct chunk *queue_blank(struct queue *q);
/* Hands over the chunk that queue_blank gave; one without bytes is kept back. */
void queue_push(struct queue *q);
/* The last word: the end, or `failed` when it is not NULL. */
void queue_end(struct queue *q, const struct failure *failed);

/* ---- the consumer's side ---- */

/* The oldest chunk, once there is one; *end is set with NULL at the end, and with a failure `f` is filled. */
const struct chunk *queue_first(struct queue *q, int *end, struct failure *f);
/* Gives the oldest chunk back. */
void queue_pop(struct queue *q);
void queue_abandon(struct queue *q);

#endif
