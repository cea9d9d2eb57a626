#include "log.h"
#include "helper.h"
#include "../lib/crilog.h"
#include "../lib/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* After a failure; a disk that is full takes its time to say so. */
#define RETRY_MS 100
/* A log that has something to say is looked at so often, also when nothing comes. */
#define WATCH_MS 1000

#define PAGE 4096
#define OUT_BYTES (LOG_READ_BYTES + CRILOG_RECORD)

static _Alignas(PAGE) char out_bytes[OUT_BYTES];

static void put(const char *records, size_t length);

static struct crilog logs[2] = {{.stream = "stdout"}, {.stream = "stderr"}};
static struct crilog_out out = {.bytes = out_bytes, .size = OUT_BYTES, .sink = put};

static struct {
    int fd; /* -1: there is no log */
    char path[PATH_MAX];
    size_t touched;    /* of out_bytes */
    uint64_t dropped;
    uint64_t unsaid;   /* of these, what the log does not tell of yet */
    int error;         /* why */
    uint64_t retry_at; /* on the monotonic clock; 0: at once */
    int is_torn;       /* the file ends within a record */
} file = {.fd = -1};

static int open_file(void)
{
    return open(file.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

/* How much of it was written, in whatever number of steps; errno says why that is not all. */
static size_t write_all(const char *bytes, size_t length)
{
    size_t written = 0;
    while (written < length) {
        ssize_t n = write(file.fd, bytes + written, length - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        written += (size_t)n;
    }
    return written;
}

static void drop(uint64_t bytes)
{
    file.dropped += bytes;
    file.unsaid += bytes;
}

static void has_failed(void)
{
    file.error = errno;
    file.retry_at = monotonic_ns() + RETRY_MS * 1000000ull;
}

/* Ends the line that a failure has cut: the next record stands alone. */
static int mend(void)
{
    if (file.is_torn && write_all("\n", 1) != 1)
        return -1;
    file.is_torn = 0;
    return 0;
}

/* Says in the log what is missing here; 0 when the log takes records again. */
static int say_dropped(void)
{
    char record[CRILOG_PREFIX + 160];
    struct timespec now;
    if (mend())
        return -1;
    if (file.unsaid == 0)
        return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    crilog_prefix(record, &now, "stderr", 'F');
    int length = snprintf(record + CRILOG_PREFIX, sizeof record - CRILOG_PREFIX,
                          "berth: %llu bytes of output are missing here, since the log could not be written: %s\n",
                          (unsigned long long)file.unsaid, strerror(file.error));
    size_t whole = CRILOG_PREFIX + (size_t)length, written = write_all(record, whole);
    file.is_torn = written > 0 && written < whole;
    if (written < whole)
        return -1;
    file.unsaid = 0;
    return 0;
}

/* 0 when the log takes records. */
static int try_again(void)
{
    if (file.retry_at == 0)
        return 0;
    if (monotonic_ns() < file.retry_at)
        return -1;
    if (say_dropped()) {
        has_failed();
        return -1;
    }
    file.retry_at = 0;
    return 0;
}

static void put(const char *records, size_t length)
{
    if (length > file.touched)
        file.touched = length;
    if (try_again()) {
        drop(crilog_text(records, length, 0));
        return;
    }
    size_t written = write_all(records, length);
    if (written == length)
        return;
    has_failed();
    file.is_torn = written > 0 && records[written - 1] != '\n';
    drop(crilog_text(records, length, written));
}

int log_open(const char *path, uint32_t max_line)
{
    snprintf(file.path, sizeof file.path, "%s", path);
    size_t limit = max_line ? max_line : CRILOG_DEFAULT_LINE;
    for (int i = 0; i < 2; i++)
        logs[i].max_line = limit < CRILOG_MAX_LINE ? limit : CRILOG_MAX_LINE;
    file.fd = open_file();
    return file.fd < 0 ? -1 : 0;
}

int log_reopen(void)
{
    if (file.fd < 0)
        return 0;
    int fd = open_file();
    if (fd < 0)
        return errno;
    (void)mend();
    close(file.fd);
    file.fd = fd;
    file.is_torn = 0;
    if (file.retry_at) /* another file, perhaps on another disk: at once */
        file.retry_at = 1;
    return 0;
}

void log_feed(int which, const char *data, size_t length)
{
    struct timespec now;
    if (file.fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    crilog_feed(&logs[which], &out, data, length, &now);
    crilog_flush(&out);
}

void log_end(int which)
{
    struct timespec now;
    if (file.fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    crilog_end(&logs[which], &out, &now);
    crilog_flush(&out);
}

void log_close(void)
{
    if (file.retry_at)
        (void)say_dropped();
}

int log_watch(void)
{
    if (file.retry_at == 0 || try_again() == 0)
        return -1;
    return WATCH_MS;
}

int log_is_large(void)
{
    return file.touched > PAGE;
}

void log_rest(void)
{
    madvise(out_bytes, sizeof out_bytes, MADV_DONTNEED);
    file.touched = 0;
}

uint64_t log_dropped(void)
{
    return file.dropped;
}

int log_error(void)
{
    return file.error;
}
