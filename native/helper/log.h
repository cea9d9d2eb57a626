/*
 * A container's log. What cannot be written (a full disk) is dropped and counted,
 * and the log says so as soon as it takes something again: the container never
 * waits for it. Holds memory only while there is much to write.
 */
#ifndef BERTH_LOG_H
#define BERTH_LOG_H

#include <stddef.h>
#include <stdint.h>

/* So much is read at a time. */
#define LOG_READ_BYTES (256 * 1024)

/* Opens the log's file; a longer line becomes several records; 0: CRILOG_DEFAULT_LINE. -1 and errno when that fails. */
int log_open(const char *path, uint32_t max_line);
/* Opens the path anew; 0, or an errno, and then the old file goes on. */
int log_reopen(void);
/* Output (0 stdout, 1 stderr) as it comes; nothing of it waits here but the beginning of a line. */
void log_feed(int which, const char *data, size_t length);
/* That output is at its end. */
void log_end(int which);
/* All output has ended: says what there is to say yet. */
void log_close(void);
/* Tries to say what was dropped; returns how long poll may wait for the next time, in ms, or -1. */
int log_watch(void);
/* Whether it holds more memory than a page or two; that can be given back while nothing comes. */
int log_is_large(void);
void log_rest(void);

/* Bytes of output that are in no file, and why the last of them are not. */
uint64_t log_dropped(void);
int log_error(void);

#endif
