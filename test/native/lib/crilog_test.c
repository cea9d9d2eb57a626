/* Bytes in are bytes out, however they are cut into pieces, and every record stands on a line of its own. */
#include "check.h"
#include "crilog.h"

#include <stdlib.h>
#include <string.h>

#define INPUT 70000

static unsigned char seen[2 * CRILOG_MAX_LINE];
static size_t seen_length, records, longest, counted;
static int is_wrong;

static void take_record(const char *record, size_t length)
{
    const char *text = record + CRILOG_PREFIX;
    char tag = record[CRILOG_PREFIX - 2];
    records++;
    if (length <= CRILOG_PREFIX || record[CRILOG_PREFIX - 1] != ' ' || (tag != 'P' && tag != 'F')) {
        is_wrong = 1;
        return;
    }
    length -= CRILOG_PREFIX;
    if (length - 1 > longest)
        longest = length - 1;
    length -= tag == 'P'; /* a part's newline is not the container's */
    memcpy(seen + seen_length, text, length);
    seen_length += length;
}

static void collect(const char *bytes, size_t length)
{
    counted += crilog_text(bytes, length, 0);
    for (size_t at = 0; at < length;) {
        const char *newline = memchr(bytes + at, '\n', length - at);
        if (!newline) {
            is_wrong = 1;
            return;
        }
        take_record(bytes + at, (size_t)(newline - bytes) + 1 - at);
        at = (size_t)(newline - bytes) + 1;
    }
}

static struct crilog_out out;

static struct crilog *new_log(size_t max_line, size_t out_size)
{
    struct crilog *log = calloc(1, sizeof *log);
    log->stream = "stdout";
    log->max_line = max_line;
    free(out.bytes);
    out = (struct crilog_out){.bytes = malloc(out_size), .size = out_size, .sink = collect};
    seen_length = records = longest = counted = 0;
    is_wrong = 0;
    return log;
}

static void end_log(struct crilog *log, const struct timespec *now)
{
    crilog_end(log, &out, now);
    crilog_flush(&out);
    free(log);
    free(out.bytes);
    out.bytes = NULL;
}

static void one_random_stream(void)
{
    static unsigned char input[INPUT];
    struct timespec now = {.tv_sec = 1700000000, .tv_nsec = 5};
    size_t max_line = random_below(4) ? 1 + random_below(300) : CRILOG_DEFAULT_LINE;
    size_t length = random_below(random_below(3) ? 2000 : INPUT);
    uint32_t newlines = 1 + random_below(400);
    random_bytes(input, length);
    for (size_t i = 0; i < length; i++)
        if (random_below(newlines) == 0)
            input[i] = '\n';
    struct crilog *log = new_log(max_line, CRILOG_RECORD + random_below(random_below(2) ? 100 : 200000));
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + random_below(random_below(2) ? 10 : 20000);
        piece = piece < length - at ? piece : length - at;
        /* A copy of just this size, so that reading past it is seen. */
        char *exact = malloc(piece);
        memcpy(exact, input + at, piece);
        crilog_feed(log, &out, exact, piece, &now);
        free(exact);
        if (random_below(2))
            crilog_flush(&out);
        at += piece;
    }
    end_log(log, &now);
    CHECK(counted == length);
    CHECK(seen_length == length && memcmp(seen, input, length) == 0);
    CHECK(!is_wrong);
    CHECK(longest <= max_line);
}

static void prefix_is_a_time(void)
{
    char prefix[CRILOG_PREFIX + 1] = {0};
    struct timespec now = {.tv_sec = 1709210096, .tv_nsec = 7};
    crilog_prefix(prefix, &now, "stderr", 'P');
    CHECK(strcmp(prefix, "2024-02-29T12:34:56.000000007Z stderr P ") == 0);
}

static void a_full_line_is_no_part(void)
{
    static char text[CRILOG_MAX_LINE + 1];
    struct timespec now = {0};
    memset(text, 'x', sizeof text);
    text[CRILOG_MAX_LINE] = '\n';
    struct crilog *log = new_log(CRILOG_MAX_LINE, CRILOG_RECORD);
    crilog_feed(log, &out, text, CRILOG_MAX_LINE, &now);
    CHECK(out.length == 0);
    crilog_feed(log, &out, text + CRILOG_MAX_LINE, 1, &now);
    end_log(log, &now);
    CHECK(records == 1);
    CHECK(seen_length == sizeof text);
}

/* Of two records, a part "abc" and the line "de": what is lost when no more than `from` bytes of them are written. */
static void counts_what_is_lost(void)
{
    char text[2 * CRILOG_PREFIX + 7];
    struct timespec now = {0};
    crilog_prefix(text, &now, "stdout", 'P');
    memcpy(text + CRILOG_PREFIX, "abc\n", 4);
    crilog_prefix(text + CRILOG_PREFIX + 4, &now, "stderr", 'F');
    memcpy(text + 2 * CRILOG_PREFIX + 4, "de\n", 3);
    for (size_t from = 0; from <= sizeof text; from++) {
        size_t first = from <= CRILOG_PREFIX ? 3 : from < CRILOG_PREFIX + 3 ? CRILOG_PREFIX + 3 - from : 0;
        size_t second = from <= 2 * CRILOG_PREFIX + 4 ? 3 : sizeof text - from;
        CHECK(crilog_text(text, sizeof text, from) == first + second);
    }
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
    RUN(counts_what_is_lost);
    RUN(random_streams);
}
