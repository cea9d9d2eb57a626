/*
 * Turns a container's output into the log lines that the kubelet reads:
 *   2006-01-02T15:04:05.999999999Z stdout F text
 * F ends a line, P is a part of one: bytes in are bytes out. A part is written
 * when a line outgrows the limit and when the stream ends without a newline.
 */
#ifndef BERTH_CRILOG_H
#define BERTH_CRILOG_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CRILOG_MAX_LINE 16384
#define CRILOG_PREFIX 64

/* Writes one record; the caller's file, in one call. Negative when it was dropped. */
typedef int crilog_sink(void *to, const char *prefix, size_t prefix_length, const char *text, size_t length);

struct crilog {
    const char *stream; /* "stdout" or "stderr" */
    size_t max_line;    /* at most CRILOG_MAX_LINE */
    crilog_sink *sink;
    void *to;
    size_t length;
    char line[CRILOG_MAX_LINE + 1];
};

/* Takes output as it comes. `now` is the time of arrival (UTC). */
void crilog_feed(struct crilog *log, const char *data, size_t length, const struct timespec *now);

/* The stream has ended: what is left is written as a part. */
void crilog_end(struct crilog *log, const struct timespec *now);

/* The prefix of a record; returns its length. `tag` is 'F' or 'P'. */
size_t crilog_prefix(char out[CRILOG_PREFIX], const struct timespec *now, const char *stream, char tag);

#endif
