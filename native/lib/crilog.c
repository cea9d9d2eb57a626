#include "crilog.h"

#include <string.h>

/* In a prefix. */
#define STREAM_AT 31
#define TAG_AT 38

static char *digits(char *out, unsigned long value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

void crilog_prefix(char out[CRILOG_PREFIX], const struct timespec *now, const char *stream, char tag)
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
    *p = ' ';
    memcpy(out + STREAM_AT, stream, 6);
    out[STREAM_AT + 6] = ' ';
    out[TAG_AT] = tag;
    out[TAG_AT + 1] = ' ';
}

/* memcpy(3) for the length of a line: musl's takes longer to begin than a line to copy. */
static void copy(char *to, const char *from, size_t length)
{
    if (length < 16) {
        for (size_t i = 0; i < length; i++)
            to[i] = from[i];
        return;
    }
    for (size_t i = 0; i + 16 <= length; i += 16)
        __builtin_memcpy(to + i, from + i, 16);
    __builtin_memcpy(to + length - 16, from + length - 16, 16);
}

/* A record of what is held of the line and `text`. */
static void emit(struct crilog *log, struct crilog_out *out, char prefix[CRILOG_PREFIX], char tag, const char *text, size_t length)
{
    if (out->size - out->length < CRILOG_PREFIX + log->length + length + 1)
        crilog_flush(out);
    char *p = out->bytes + out->length;
    prefix[TAG_AT] = tag;
    copy(p, prefix, CRILOG_PREFIX);
    p += CRILOG_PREFIX;
    if (log->length > 0)
        memcpy(p, log->line, log->length);
    p += log->length;
    copy(p, text, length);
    p += length;
    *p++ = '\n';
    out->length = (size_t)(p - out->bytes);
    log->length = 0;
}

void crilog_feed(struct crilog *log, struct crilog_out *out, const char *data, size_t length, const struct timespec *now)
{
    char prefix[CRILOG_PREFIX];
    crilog_prefix(prefix, now, log->stream, 'F');
    while (length > 0) {
        size_t room = log->max_line - log->length, taken;
        const char *newline = memchr(data, '\n', length > room ? room + 1 : length);
        if (newline) {
            taken = (size_t)(newline - data) + 1;
            emit(log, out, prefix, 'F', data, taken - 1);
        } else if (length > room) {
            taken = room;
            emit(log, out, prefix, 'P', data, taken);
        } else {
            taken = length;
            memcpy(log->line + log->length, data, taken);
            log->length += taken;
        }
        data += taken;
        length -= taken;
    }
}

void crilog_end(struct crilog *log, struct crilog_out *out, const struct timespec *now)
{
    char prefix[CRILOG_PREFIX];
    crilog_prefix(prefix, now, log->stream, 'P');
    if (log->length > 0)
        emit(log, out, prefix, 'P', "", 0);
}

void crilog_flush(struct crilog_out *out)
{
    if (out->length > 0)
        out->sink(out->bytes, out->length);
    out->length = 0;
}

size_t crilog_text(const char *records, size_t length, size_t from)
{
    size_t text = 0;
    for (size_t begin = 0; begin + CRILOG_PREFIX < length;) {
        const char *newline = memchr(records + begin + CRILOG_PREFIX, '\n', length - begin - CRILOG_PREFIX);
        size_t next = newline ? (size_t)(newline - records) + 1 : length;
        size_t end = newline && records[begin + TAG_AT] == 'P' ? next - 1 : next;
        size_t first = begin + CRILOG_PREFIX > from ? begin + CRILOG_PREFIX : from;
        text += end > first ? end - first : 0;
        begin = next;
    }
    return text;
}
