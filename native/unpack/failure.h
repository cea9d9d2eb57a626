/* One failure: the step that failed, its errno, and the entry it concerned. */
#ifndef BERTH_UNPACK_FAILURE_H
#define BERTH_UNPACK_FAILURE_H

#include <limits.h>
#include <stdio.h>

/* Longest path that is accepted, without its final NUL. */
#define PATH_LIMIT (PATH_MAX - 1)

struct failure {
  const char *step; /* one word; TypeScript turns it into a sentence */
  int err;
  char path[PATH_LIMIT + 1]; /* empty when no entry is concerned */
};

/* Fills `f` and returns -1, so that callers can `return fail(...)`. `path` may be NULL. */
int fail(struct failure *f, const char *step, int err, const char *path);

/* Control bytes, blanks and % become %XX; nothing is written for a text that is empty. */
void print_as_word(FILE *to, const char *text);

/* Writes `step errno path` to fd 2; control bytes, blanks and % in the path become %XX. */
void failure_print(const struct failure *f);

#endif
