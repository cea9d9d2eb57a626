#define _GNU_SOURCE
#include "table.h"

#include "../lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

#define FILE_ROOM 16384
#define PATH_ROOM 4096
#define BUCKETS 2048
/* Rows, as many as fit into the processor's cache with what the kernel has of them. */
#define AT_A_TIME 64
#define IDLE_SECONDS 60
#define SWEEP_SECONDS 20
/* The kernel adds up what its processors have counted every two seconds: until then numbers come late. */
#define REST_SECONDS 3
/* How long numbers of a row at rest are taken for its own: this to twice this, so that not all are read again at once. */
#define REST_KEPT_SECONDS 15
/* Descriptors that are left for the files that are not kept. */
#define SPARE_FDS 64
/* Both take a processor for ten milliseconds at a time, and calls are answered meanwhile. */
#define NICER 5

/* ---- layout and numbers ---- */

static int when_of(const char *word, enum table_when *when)
{
    static const char *const words[] = {"always", "sign", "unless-at-rest", "unless-calm"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(word, words[i]) == 0) {
            *when = (enum table_when)i;
            return 0;
        }
    return -1;
}

int table_layout(const struct parts *parts, struct table_layout *layout)
{
    const char *at = parts->text, *end = parts->text + parts->bytes;
    memset(layout, 0, sizeof *layout);
    while (at < end) {
        if (layout->file_count == TABLE_MAX_FILES)
            return -1;
        struct table_file *file = &layout->files[layout->file_count++];
        if (when_of(at, &file->when))
            return -1;
        at = next_part(at);
        if (at >= end)
            return -1;
        file->before = at;
        at = next_part(at);
        if (at >= end)
            return -1;
        file->after = at;
        for (at = next_part(at); at < end && *at; at = next_part(at)) {
            if (file->key_count == TABLE_MAX_KEYS)
                return -1;
            if (strstr(at, " avg"))
                file->averages |= 1U << file->key_count;
            file->keys[file->key_count++] = at;
        }
        if (at > end || file->key_count == 0)
            return -1;
        file->column = layout->columns;
        layout->columns += file->key_count;
        at = next_part(at); /* past the empty part, the last of which is at the very end */
    }
    return layout->file_count > 0 ? 0 : -1;
}

static double number_at(const char *at)
{
    double value = 0, scale = 1;
    if (strncmp(at, "max", 3) == 0)
        return INFINITY;
    if (*at < '0' || *at > '9')
        return NAN;
    for (; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, scale *= 10)
            value = value * 10 + (*at - '0');
    return value / scale;
}

/* What is after `word` and `after` at the beginning of a line or, with `separator`, of a word in a line; NULL without. */
static const char *find_word(const char *text, char separator, const char *word, size_t length, char after)
{
    for (const char *at = text; *at;) {
        if (*at == *word && strncmp(at, word, length) == 0 && at[length] == after)
            return at + length + 1;
        while (*at && *at != '\n' && *at != separator)
            at++;
        if (!*at || *at != separator)
            return NULL;
        at++;
    }
    return NULL;
}

double table_number(const char *text, const char *key, const char **line)
{
    if (strcmp(key, "#") == 0)
        return number_at(text);
    const char *field = strchr(key, ' ');
    size_t length = field ? (size_t)(field - key) : strlen(key);
    const char *found = find_word(*line, '\n', key, length, ' ');
    if (!found && *line != text)
        found = find_word(text, '\n', key, length, ' ');
    if (!found)
        return NAN;
    *line = found - length - 1;
    if (!field)
        return number_at(found);
    const char *value = find_word(found, ' ', field + 1, strlen(field + 1), '=');
    return value ? number_at(value) : NAN;
}

/* ---- what is kept open ---- */

struct kept {
    struct kept *next;
    uint64_t hash;
    time_t used;
    /* ---- of a row at rest ---- */
    time_t unchanged_since; /* its signs */
    time_t read_whole;      /* when all of its files were read, last */
    unsigned waking;        /* of which its numbers are */
    int other_signs;        /* they were read from another cgroup's file, maybe */
    double *numbers;        /* the layout's columns, without those that are always read */
    /* ---- */
    char *row;
    size_t file_count;
    size_t columns;
    int fds[]; /* -1: not open */
};

/* A thread and what it keeps. Rows are shared out by their hash: the same row is always the same thread's. */
struct reader {
    unsigned index;
    struct table_job *first, *last; /* its queue */
    struct kept *buckets[BUCKETS];
    size_t kept_fds;
    size_t max_kept_fds;
    time_t swept;
};

static struct reader readers[TABLE_READERS];
static unsigned wakings;

void table_wake(void)
{
    __atomic_add_fetch(&wakings, 1, __ATOMIC_RELEASE);
}

static time_t now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* FNV-1a. */
static uint64_t hash_of(uint64_t seed, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        seed = (seed ^ (unsigned char)bytes[i]) * 0x100000001b3ULL;
    return seed;
}

static void let_go(struct reader *reader, struct kept *entry, size_t file)
{
    if (entry->fds[file] < 0)
        return;
    close(entry->fds[file]);
    entry->fds[file] = -1;
    reader->kept_fds--;
}

static void free_kept(struct kept *entry)
{
    if (!entry)
        return;
    free(entry->row);
    free(entry->numbers);
    free(entry);
}

static void sweep(struct reader *reader, time_t older_than)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct kept **at = &reader->buckets[i]; *at;) {
            struct kept *entry = *at;
            if (entry->used >= older_than) {
                at = &entry->next;
                continue;
            }
            *at = entry->next;
            for (size_t file = 0; file < entry->file_count; file++)
                let_go(reader, entry, file);
            free_kept(entry);
        }
}

/* NULL without memory: then nothing is kept. */
static struct kept *kept_for(struct reader *reader, uint64_t hash, const char *row, const struct table_layout *layout,
                             time_t now)
{
    size_t file_count = layout->file_count;
    struct kept **bucket = &reader->buckets[hash / TABLE_READERS % BUCKETS];
    for (struct kept *entry = *bucket; entry; entry = entry->next)
        if (entry->hash == hash && entry->file_count == file_count && entry->columns == layout->columns &&
            strcmp(entry->row, row) == 0) {
            entry->used = now;
            return entry;
        }
    struct kept *entry = calloc(1, sizeof *entry + file_count * sizeof entry->fds[0]);
    if (!entry || !(entry->row = strdup(row)) || !(entry->numbers = calloc(layout->columns, sizeof *entry->numbers))) {
        free_kept(entry);
        return NULL;
    }
    entry->other_signs = 1;
    entry->hash = hash;
    entry->used = now;
    entry->file_count = file_count;
    entry->columns = layout->columns;
    for (size_t i = 0; i < file_count; i++)
        entry->fds[i] = -1;
    entry->next = *bucket;
    *bucket = entry;
    return entry;
}

/* ---- reading ---- */

static int open_file(const struct table_file *file, const char *row)
{
    char path[PATH_ROOM];
    int length = snprintf(path, sizeof path, "%s%s%s", file->before, row, file->after);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The kernel makes a cgroup's file in one piece: a second read, to be told that it ends, would cost as much again. */
static ptrdiff_t read_piece(int fd, char *buffer)
{
    ssize_t n = pread(fd, buffer, FILE_ROOM - 1, 0);
    buffer[n < 0 ? 0 : n] = '\0';
    return n;
}

/* A kept file whose cgroup was removed answers ENODEV; one of the same name may be there now. */
static ptrdiff_t read_kept(struct reader *reader, struct kept *entry, size_t index, char *buffer)
{
    ptrdiff_t n = entry->fds[index] < 0 ? -1 : read_piece(entry->fds[index], buffer);
    if (n < 0)
        let_go(reader, entry, index);
    return n;
}

static ptrdiff_t read_opened(struct reader *reader, struct kept *entry, size_t index, const struct table_file *file,
                             const char *row, char *buffer)
{
    int fd = open_file(file, row);
    if (fd < 0)
        return -1;
    ptrdiff_t n = read_piece(fd, buffer);
    if (entry && file->when == TABLE_SIGN)
        entry->other_signs = 1;
    if (n >= 0 && entry && reader->kept_fds < reader->max_kept_fds) {
        entry->fds[index] = fd;
        reader->kept_fds++;
    } else {
        close(fd);
    }
    return n;
}

/* One file of one row. */
static void read_cells(struct reader *reader, struct kept *entry, size_t index, const struct table_file *file,
                       const char *row, double *cells)
{
    char buffer[FILE_ROOM];
    ptrdiff_t n = entry ? read_kept(reader, entry, index, buffer) : -1;
    if (n < 0)
        n = read_opened(reader, entry, index, file, row, buffer);
    if (n < 0 && errno != ENOENT && entry)
        entry->other_signs = 1; /* that the file cannot be read now is nothing to keep */
    const char *line = buffer;
    for (size_t key = 0; key < file->key_count; key++)
        *cells++ = n < 0 ? NAN : table_number(buffer, file->keys[key], &line);
}

/* A row that is a reader's. */
struct own_row {
    const char *row;
    struct kept *entry;
    double *cells;
    int rests;
};

/* Whether the row is at rest, by its signs, which are read; keeps them for the next time. */
static int at_rest(struct kept *entry, const struct table_layout *layout, const double *cells, time_t now)
{
    unsigned waking = __atomic_load_n(&wakings, __ATOMIC_ACQUIRE);
    int signs = 0, changed = entry->other_signs;
    for (size_t index = 0; index < layout->file_count; index++) {
        const struct table_file *file = &layout->files[index];
        if (file->when != TABLE_SIGN)
            continue;
        for (size_t column = file->column; column < file->column + file->key_count; column++, signs++) {
            changed |= cells[column] != entry->numbers[column]; /* NaN always has */
            entry->numbers[column] = cells[column];
        }
    }
    entry->other_signs = 0;
    if (changed)
        entry->unchanged_since = now;
    time_t kept = REST_KEPT_SECONDS + (time_t)(entry->hash / TABLE_READERS % REST_KEPT_SECONDS);
    if (signs > 0 && !changed && entry->waking == waking &&
        entry->read_whole - entry->unchanged_since > REST_SECONDS && now - entry->read_whole < kept)
        return 1;
    entry->read_whole = now;
    entry->waking = waking;
    return 0;
}

static int is_calm(const struct table_file *file, const double *numbers)
{
    for (size_t key = 0; key < file->key_count; key++)
        if (file->averages >> key & 1 && numbers[key] > 0)
            return 0;
    return 1;
}

/* A row's file: its numbers of before while they are still true. */
static void take_cells(struct reader *reader, const struct table_layout *layout, size_t index,
                       const struct own_row *own)
{
    const struct table_file *file = &layout->files[index];
    double *cells = own->cells + file->column;
    double *kept = own->entry ? own->entry->numbers + file->column : NULL;
    size_t bytes = file->key_count * sizeof *cells;
    if (own->rests && file->when >= TABLE_UNLESS_AT_REST && (file->when != TABLE_UNLESS_CALM || is_calm(file, kept))) {
        memcpy(cells, kept, bytes);
        return;
    }
    read_cells(reader, own->entry, index, file, own->row, cells);
    if (kept && file->when >= TABLE_UNLESS_AT_REST)
        memcpy(kept, cells, bytes);
}

/* The signs or the others, one file of all rows after the other: its code in the kernel is in the processor's cache then. */
static void take_files(struct reader *reader, const struct table_layout *layout, int signs, const struct own_row *own,
                       size_t count)
{
    for (size_t index = 0; index < layout->file_count; index++) {
        if ((layout->files[index].when == TABLE_SIGN) != signs)
            continue;
        for (size_t i = 0; i < count; i++)
            take_cells(reader, layout, index, &own[i]);
    }
}

/* Signs come first: what changes after them is seen by the next reading of them. */
static void read_own(struct reader *reader, const struct table_layout *layout, struct own_row *own, size_t count,
                     time_t now)
{
    take_files(reader, layout, 1, own, count);
    for (size_t i = 0; i < count; i++)
        own[i].rests = own[i].entry && at_rest(own[i].entry, layout, own[i].cells, now);
    take_files(reader, layout, 0, own, count);
}

static void read_rows(struct reader *reader, const struct table_job *job)
{
    struct own_row own[AT_A_TIME];
    size_t count = 0;
    const char *row = job->rows.text;
    time_t now = now_seconds();
    for (size_t i = 0; i < job->rows.count; i++, row = next_part(row)) {
        uint64_t hash = hash_of(job->layout_hash, row, strlen(row));
        if (hash % job->shares != reader->index)
            continue;
        own[count].row = row;
        own[count].entry = reader->max_kept_fds > 0 ? kept_for(reader, hash, row, &job->layout, now) : NULL;
        own[count].cells = job->cells + i * job->layout.columns;
        if (++count == AT_A_TIME) {
            read_own(reader, &job->layout, own, count, now);
            count = 0;
        }
    }
    read_own(reader, &job->layout, own, count, now);
}

/* ---- the threads ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all queues */
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static unsigned running;
static int has_teller;

static void wait_for_job(const struct reader *reader)
{
    if (reader->kept_fds == 0) {
        pthread_cond_wait(&asked, &lock);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SWEEP_SECONDS;
    pthread_cond_timedwait(&asked, &lock, &until);
}

/* Without the lock, for which the event loop would wait: it may close thousands. */
static void sweep_unlocked(struct reader *reader, time_t now)
{
    pthread_mutex_unlock(&lock);
    sweep(reader, now - IDLE_SECONDS);
    reader->swept = now;
    pthread_mutex_lock(&lock);
}

static struct table_job *next_job(struct reader *reader)
{
    pthread_mutex_lock(&lock);
    while (!reader->first) {
        time_t now = now_seconds();
        if (reader->kept_fds > 0 && now - reader->swept >= SWEEP_SECONDS)
            sweep_unlocked(reader, now);
        else
            wait_for_job(reader);
    }
    struct table_job *job = reader->first;
    reader->first = job->next[reader->index];
    pthread_mutex_unlock(&lock);
    return job;
}

/* Read by all; in any order: each is told by itself. */
static pthread_mutex_t read_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some_read = PTHREAD_COND_INITIALIZER;
static struct table_job *all_read;

static void push_read(struct table_job *job)
{
    pthread_mutex_lock(&read_lock);
    job->next[0] = all_read;
    all_read = job;
    pthread_cond_signal(&some_read);
    pthread_mutex_unlock(&read_lock);
}

static void *reader_main(void *argument)
{
    struct reader *reader = argument;
    struct rlimit limit;
    pthread_setname_np(pthread_self(), "berth-reader");
    nice(NICER); /* on Linux of this thread alone */
    /* A table of descriptors of its own, with nothing of the daemon's but 0 to 2. */
    if (sys_close_range(3, ~0U, CLOSE_RANGE_UNSHARE) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur > SPARE_FDS)
        reader->max_kept_fds = limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)limit.rlim_cur - SPARE_FDS;
    for (;;) {
        struct table_job *job = next_job(reader);
        read_rows(reader, job);
        if (__atomic_sub_fetch(&job->left, 1, __ATOMIC_ACQ_REL) == 0)
            push_read(job);
    }
    return NULL;
}

/* Waking an event loop takes a descriptor of the daemon's, which readers have not. */
static void *teller_main(void *nothing)
{
    pthread_setname_np(pthread_self(), "berth-teller");
    for (;;) {
        pthread_mutex_lock(&read_lock);
        while (!all_read)
            pthread_cond_wait(&some_read, &read_lock);
        struct table_job *job = all_read;
        all_read = NULL;
        pthread_mutex_unlock(&read_lock);
        while (job) {
            struct table_job *next = job->next[0];
            job->done(job);
            job = next;
        }
    }
    return nothing;
}

/* Those that are still missing; `running` is how many there are. 0, or an errno. */
static int start_readers(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int failure = 0;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (!has_teller)
        has_teller = (failure = pthread_create(&thread, &attributes, teller_main, NULL)) == 0;
    while (running < TABLE_READERS && !failure) {
        readers[running].index = running;
        failure = pthread_create(&thread, &attributes, reader_main, &readers[running]);
        running += failure == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failure;
}

static void append_job(struct reader *reader, struct table_job *job)
{
    job->next[reader->index] = NULL;
    if (reader->first)
        reader->last->next[reader->index] = job;
    else
        reader->first = job;
    reader->last = job;
}

int table_read(struct table_job *job)
{
    job->layout_hash = hash_of(0xcbf29ce484222325ULL, job->layout_text.text, job->layout_text.bytes);
    pthread_mutex_lock(&lock);
    int failure = running < TABLE_READERS ? start_readers() : 0;
    job->shares = job->left = running;
    for (unsigned i = 0; i < job->shares; i++)
        append_job(&readers[i], job);
    pthread_cond_broadcast(&asked);
    pthread_mutex_unlock(&lock);
    if (job->shares > 0)
        return 0;
    errno = failure;
    return -1;
}
