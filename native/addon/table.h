/*
 * Numbers out of the same files of many directories, read by threads that have each a table of descriptors to itself: they
 * keep what they have opened, since opening a file of a cgroup takes ten times as long as reading it, and neither a
 * clone of the daemon's copies those descriptors nor does anything of the daemon's stay open in it.
 */
#ifndef BERTH_TABLE_H
#define BERTH_TABLE_H

#include "batch.h"

#include <stdint.h>

/* The daemon's own thread waits meanwhile: so two use both cores of the smallest nodes. */
#define TABLE_READERS 2
#define TABLE_MAX_FILES 32
#define TABLE_MAX_KEYS 16

/* When a file of a row is read. */
enum table_when {
    TABLE_ALWAYS,
    /* Always; a row of which none of these numbers has changed for some seconds has not run: it is at rest. */
    TABLE_SIGN,
    /* Unless the row is at rest: then its numbers are those of before, for half a minute at most. */
    TABLE_UNLESS_AT_REST,
    /* The same, while no field of it that begins with `avg` was above zero: averages of time go on changing. */
    TABLE_UNLESS_CALM,
};

/* One file: its path is `before`, the row, `after`; a number for each key. */
struct table_file {
    enum table_when when;
    size_t column; /* of its first key */
    const char *before;
    const char *after;
    size_t key_count;
    const char *keys[TABLE_MAX_KEYS];
    unsigned averages; /* a bit for each key that is a field beginning with `avg` */
};

struct table_layout {
    struct table_file files[TABLE_MAX_FILES];
    size_t file_count;
    size_t columns;
};

/*
 * The layout's parts, file by file: when it is read (`always`, `sign`, `unless-at-rest`, `unless-calm`), `before`,
 * `after`, its keys, and an empty part after the last.
 */
int table_layout(const struct parts *parts, struct table_layout *layout);

/*
 * The number that a text has for a key, as said in src/native/addon.ts; NaN when it has none. It is looked for from `*line`,
 * a line of the text, and then from its beginning; `*line` becomes where it is: keys in the file's order are one walk.
 */
double table_number(const char *text, const char *key, const char **line);

/* Numbers to be read, rows × columns of them. All above the line is the caller's, and stays until `done`. */
struct table_job {
    struct parts layout_text; /* descriptors are kept by it and the row, until they have not been used for a while */
    struct table_layout layout;
    struct parts rows;
    double *cells;
    void (*done)(struct table_job *job); /* once all is read, on a thread that has the process's descriptors */
    /* ---- */
    uint64_t layout_hash;
    unsigned shares;                       /* readers that there are: each has rows of its own */
    unsigned left;                         /* of them, still reading */
    struct table_job *next[TABLE_READERS]; /* in each one's queue */
};

/* Has it read behind those that were asked for before; -1 with errno when there is no thread to read it. */
int table_read(struct table_job *job);

/* No row is taken for one at rest by what was read until now. */
void table_wake(void);

#endif
