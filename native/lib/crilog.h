/*
 * Turns a container's output into the log lines that the kubelet reads:
 *   2006-01-02T15:04:05.999999999Z stdout F text
 * F ends a line, P is a part of one: bytes in are bytes out. A part is written
 * when a line outgrows the limit and when the stream ends without a newline.
 * Records are collected, many for a write.
 */
#ifndef BERTH_CRILOG_H
#define BERTH_CRILOG_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CRILOG_DEFAULT_LINE 16384
#define CRILOG_MAX_LINE (256 * 1024)
/* Of a record before its text: the names of both streams are equally long. */
#define CRILOG_PREFIX 40
/* The longest record, its newline included. */
#define CRILOG_RECORD (CRILOG_PREFIX + CRILOG_MAX_LINE + 1)

/* Takes whole records, each with its newline, `length` bytes together. */
typedef void crilog_sink(const char *records, size_t length);

/* Where the records of both streams are collected, in their order; `size` is CRILOG_RECORD at least. */
struct crilog_out {
    char *bytes;
    size_t size;
    size_t length;
    crilog_sink *sink;
};

struct crilog {
    const char *stream; /* "stdout" or "stderr" */
    size_t max_line;    /* at most CRILOG_MAX_LINE */
    size_t length;
    char line[CRILOG_MAX_LINE]; /* the beginning of a line whose end has not come */
};

/* Takes output as it comes. `now` is the time of arrival (UTC). */
void crilog_feed(struct crilog *log, struct crilog_out *out, const char *data, size_t length, const struct timespec *now);

/* The stream has ended: what is left of it is a part. */
void crilog_end(struct crilog *log, struct crilog_out *out, const struct timespec *now);

/* Hands what has been collected to the sink. */
void crilog_flush(struct crilog_out *out);

/* The prefix of a record. `tag` is 'F' or 'P'. */
void crilog_prefix(char out[CRILOG_PREFIX], const struct timespec *now, const char *stream, char tag);

/* How many bytes of the container's stand in whole records from offset `from` on, which may be within one. */
size_t crilog_text(const char *records, size_t length, size_t from);

#endif
