#include "queue.h"

#include <stdlib.h>
#include <string.h>

int queue_init(struct queue *q, size_t chunk_bytes)
{
  memset(q, 0, sizeof *q);
  q->chunk_bytes = chunk_bytes;
  pthread_mutex_init(&q->lock, NULL);
  pthread_cond_init(&q->changed, NULL);
  uint8_t *bytes = malloc(QUEUE_SLOTS * chunk_bytes);
  for (size_t i = 0; bytes && i < QUEUE_SLOTS; i++)
    q->slots[i].data = bytes + i * chunk_bytes;
  return bytes ? 0 : -1;
}

void queue_free(struct queue *q)
{
  free(q->slots[0].data);
  pthread_cond_destroy(&q->changed);
  pthread_mutex_destroy(&q->lock);
}

struct chunk *queue_blank(struct queue *q)
{
  pthread_mutex_lock(&q->lock);
  while (q->produced - q->consumed == QUEUE_SLOTS && !q->abandoned)
    pthread_cond_wait(&q->changed, &q->lock);
  const int abandoned = q->abandoned;
  pthread_mutex_unlock(&q->lock);
  struct chunk *c = &q->slots[q->produced % QUEUE_SLOTS];
  c->len = 0;
  return abandoned ? NULL : c;
}

void queue_push(struct queue *q)
{
  if (q->slots[q->produced % QUEUE_SLOTS].len == 0)
    return;
  pthread_mutex_lock(&q->lock);
  q->produced++;
  pthread_cond_signal(&q->changed);
  pthread_mutex_unlock(&q->lock);
}

void queue_end(struct queue *q, const struct failure *failed)
{
  pthread_mutex_lock(&q->lock);
  if (failed)
    q->failed = *failed;
  q->ended = 1;
  pthread_cond_signal(&q->changed);
  pthread_mutex_unlock(&q->lock);
}

const struct chunk *queue_first(struct queue *q, int *end, struct failure *f)
{
  pthread_mutex_lock(&q->lock);
  while (q->produced == q->consumed && !q->ended)
    pthread_cond_wait(&q->changed, &q->lock);
  const int empty = q->produced == q->consumed;
  pthread_mutex_unlock(&q->lock);
  *end = empty && !q->failed.step;
  if (empty && q->failed.step)
    *f = q->failed;
  return empty ? NULL : &q->slots[q->consumed % QUEUE_SLOTS];
}

void queue_pop(struct queue *q)
{
  pthread_mutex_lock(&q->lock);
  q->consumed++;
  pthread_cond_signal(&q->changed);
  pthread_mutex_unlock(&q->lock);
}

void queue_abandon(struct queue *q)
{
  pthread_mutex_lock(&q->lock);
  q->abandoned = 1;
  pthread_cond_signal(&q->changed);
  pthread_mutex_unlock(&q->lock);
}
