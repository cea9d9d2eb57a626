/* Bytes in are bytes out, however they are cut into pieces, and every record stands on a line of its own. */
#include "check.h"
#include "crilog.h"

#include <stdlib.h>
#include <string.h>

#define INPUT 70000

static unsigned char seen[2 * INPUT];
static size_t seen_length, records, longest;
static int is_wrong;

static int collect(void *to, const char *prefix, size_t prefix_length, const char *text, size_t length)
{
    (void)to;
    char tag = prefix[prefix_length - 2];
    records++;
    if (length == 0 || text[length - 1] != '\n' || memchr(text, '\n', length - 1) || prefix[prefix_length - 1] != ' ')
        is_wrong = 1;
    length -= tag == 'P'; /* a part's newline is not the container's */
    if (tag != 'P' && tag != 'F')
        is_wrong = 1;
    if (length - (tag == 'F') > longest)
        longest = length - (tag == 'F');
    memcpy(seen + seen_length, text, length);
    seen_length += length;
    return 0;
}

static struct crilog *new_log(size_t max_line)
{
    struct crilog *log = calloc(1, sizeof *log);
    log->stream = "stdout";
    log->max_line = max_line;
    log->sink = collect;
    seen_length = records = longest = 0;
    is_wrong = 0;
    return log;
}

static void one_random_stream(void)
{
    static unsigned char input[INPUT];
    struct timespec now = {.tv_sec = 1700000000, .tv_nsec = 5};
    size_t max_line = random_below(4) ? 1 + random_below(300) : CRILOG_MAX_LINE;
    size_t length = random_below(random_below(3) ? 2000 : INPUT);
    uint32_t newlines = 1 + random_below(400);
    random_bytes(input, length);
    for (size_t i = 0; i < length; i++)
        if (random_below(newlines) == 0)
            input[i] = '\n';
    struct crilog *log = new_log(max_line);
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + random_below(random_below(2) ? 10 : 20000);
        piece = piece < length - at ? piece : length - at;
        /* A copy of just this size, so that reading past it is seen. */
        char *exact = malloc(piece);
        memcpy(exact, input + at, piece);
        crilog_feed(log, exact, piece, &now);
        free(exact);
        at += piece;
    }
    crilog_end(log, &now);
    CHECK(seen_length == length && memcmp(seen, input, length) == 0);
    CHECK(!is_wrong);
    CHECK(longest <= max_line);
    free(log);
}

static void prefix_is_a_time(void)
{
    char out[CRILOG_PREFIX + 1] = {0};
    struct timespec now = {.tv_sec = 1709210096, .tv_nsec = 7};
    size_t length = crilog_prefix(out, &now, "stderr", 'P');
    CHECK(length < CRILOG_PREFIX);
    out[length] = 0;
    CHECK(strcmp(out, "2024-02-29T12:34:56.000000007Z stderr P ") == 0);
}

static void a_full_line_is_no_part(void)
{
    char text[CRILOG_MAX_LINE + 1];
    struct timespec now = {0};
    memset(text, 'x', sizeof text);
    text[CRILOG_MAX_LINE] = '\n';
    struct crilog *log = new_log(CRILOG_MAX_LINE);
    crilog_feed(log, text, CRILOG_MAX_LINE, &now);
    CHECK(records == 0);
    crilog_feed(log, text + CRILOG_MAX_LINE, 1, &now);
    crilog_end(log, &now);
    CHECK(records == 1);
    CHECK(seen_length == sizeof text);
    free(log);
}

static void random_streams(void)
{
    for (int i = 0; i < 150; i++)
        one_random_stream();
}

void test_crilog(void)
{
    RUN(prefix_is_a_time);
    RUN(a_full_line_is_no_part);
    RUN(random_streams);
}
