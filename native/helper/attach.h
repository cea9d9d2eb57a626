/*
 * Who is attached to a container's stdio, a connection for each stream. Output
 * is copied to them as it comes; what was before is in the log only. A client
 * that does not keep up stops the output for ATTACH_STALL_MS at most and is
 * dropped then: the container goes on. Fixed buffers, no allocation.
 *
 * Output goes as chunks, each a u32 length, little endian, and so many bytes; one
 * without bytes is its end. A connection that ends without it was dropped.
 */
#ifndef BERTH_ATTACH_H
#define BERTH_ATTACH_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#define ATTACH_CLIENTS 24
#define ATTACH_POLLED (ATTACH_CLIENTS + 1)
#define ATTACH_CHUNK 65536
#define ATTACH_STALL_MS 1000

/* Where stdin goes: a pipe or a terminal's master, set to be non-blocking; it is this file's from then on. */
void attach_input(int fd, int mode);
/* Takes a connection that becomes stream 0, 1 or 2; 0, or an errno, and then it still is the caller's. */
int attach_add(int fd, uint32_t stream);
/* 0 while somebody has not taken all of what was fed last: no more is to be read from the container then. */
int attach_is_ready(int output);
int attach_has_clients(int output);
/* Hands output (0 stdout, 1 stderr) to its clients; at most ATTACH_CHUNK bytes, and only when it is ready. */
void attach_feed(int output, const char *data, size_t length);
/* Whether there is memory that was needed for clients who have left; that can be given back. */
int attach_is_large(void);
void attach_rest(void);
/* That output is at its end. */
void attach_close(int output);
/* Fills ATTACH_POLLED entries; returns how long poll may wait, in ms, or -1. */
int attach_watch(struct pollfd *watched);
void attach_serve(const struct pollfd *watched);
/* Waits until nobody is behind: ATTACH_STALL_MS at most. */
void attach_flush(void);

#endif
