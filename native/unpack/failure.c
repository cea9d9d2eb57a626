#include "failure.h"

#include <stdio.h>

int fail(struct failure *f, const char *step, int err, const char *path)
{
  f->step = step;
  f->err = err;
  snprintf(f->path, sizeof f->path, "%s", path ? path : "");
  return -1;
}

void failure_print(const struct failure *f)
{
  fprintf(stderr, "%s %d ", f->step, f->err);
  for (const unsigned char *p = (const unsigned char *)f->path; *p; p++) {
    if (*p <= ' ' || *p == '%' || *p == 0x7f)
      fprintf(stderr, "%%%02X", *p);
    else
      fputc(*p, stderr);
  }
  fputc('\n', stderr);
}
