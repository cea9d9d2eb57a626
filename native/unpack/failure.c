#include "failure.h"

#include <stdio.h>

int fail(struct failure *f, const char *step, int err, const char *path)
{
  f->step = step;
  f->err = err;
  snprintf(f->path, sizeof f->path, "%s", path ? path : "");
  return -1;
}

void print_as_word(FILE *to, const char *text)
{
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (*p <= ' ' || *p == '%' || *p == 0x7f)
      fprintf(to, "%%%02X", *p);
    else
      fputc(*p, to);
  }
}

void failure_print(const struct failure *f)
{
  fprintf(stderr, "%s %d ", f->step, f->err);
  print_as_word(stderr, f->path);
  fputc('\n', stderr);
}
