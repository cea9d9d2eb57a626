#include "crilog.h"

#include <string.h>

static char *digits(char *out, unsigned long value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

size_t crilog_prefix(char out[CRILOG_PREFIX], const struct timespec *now, const char *stream, char tag)
{
    struct tm at;
    gmtime_r(&now->tv_sec, &at);
    char *p = digits(out, (unsigned long)at.tm_year + 1900, 4);
    *p++ = '-';
    p = digits(p, (unsigned long)at.tm_mon + 1, 2);
    *p++ = '-';
    p = digits(p, (unsigned long)at.tm_mday, 2);
    *p++ = 'T';
    p = digits(p, (unsigned long)at.tm_hour, 2);
    *p++ = ':';
    p = digits(p, (unsigned long)at.tm_min, 2);
    *p++ = ':';
    p = digits(p, (unsigned long)at.tm_sec, 2);
    *p++ = '.';
    p = digits(p, (unsigned long)now->tv_nsec, 9);
    *p++ = 'Z';
    *p++ = ' ';
    size_t length = strlen(stream);
    memcpy(p, stream, length);
    p += length;
    *p++ = ' ';
    *p++ = tag;
    *p++ = ' ';
    return (size_t)(p - out);
}

static void flush(struct crilog *log, char tag, const struct timespec *now)
{
    char prefix[CRILOG_PREFIX];
    size_t length = crilog_prefix(prefix, now, log->stream, tag);
    log->line[log->length] = '\n';
    log->sink(log->to, prefix, length, log->line, log->length + 1);
    log->length = 0;
}

void crilog_feed(struct crilog *log, const char *data, size_t length, const struct timespec *now)
{
    while (length > 0) {
        const char *newline = memchr(data, '\n', length);
        size_t chunk = newline ? (size_t)(newline - data) : length;
        size_t room = log->max_line - log->length;
        size_t take = chunk < room ? chunk : room;
        memcpy(log->line + log->length, data, take);
        log->length += take;
        data += take;
        length -= take;
        if (newline && take == chunk) {
            flush(log, 'F', now);
            data++;
            length--;
        } else if (log->length == log->max_line && length > 0) {
            flush(log, 'P', now);
        }
    }
}

void crilog_end(struct crilog *log, const struct timespec *now)
{
    if (log->length > 0)
        flush(log, 'P', now);
}
