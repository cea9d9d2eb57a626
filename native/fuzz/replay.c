/* Runs a target over the files of directories, each a test; built with gcc's sanitizers, for make test. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static char running[512];

static void tell(int out, const char *text)
{
  if (write(out, text, strlen(text)) < 0)
    _exit(2);
}

static int replay(int dir, const char *name)
{
  struct stat st;
  const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
  MUST(fd >= 0 && fstat(fd, &st) == 0);
  if (!S_ISREG(st.st_mode)) {
    close(fd);
    return 0;
  }
  const size_t size = (size_t)st.st_size;
  uint8_t *data = malloc(size ? size : 1); /* not a byte more, so that reading past the end is seen */
  MUST(data && read(fd, data, size) == st.st_size);
  close(fd);
  LLVMFuzzerTestOneInput(data, size);
  free(data);
  return 1;
}

/* must() aborts, and so do the sanitizers when they are asked to: this says at what. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
  return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
  return "abort_on_error=1";
}

static void on_abort(int signal)
{
  (void)signal;
  tell(STDERR_FILENO, "not ok: ");
  tell(STDERR_FILENO, running);
  tell(STDERR_FILENO, "\n");
}

int main(int argc, char **argv)
{
  const int out = dup(STDOUT_FILENO); /* targets may take it away */
  char tally[64];
  int passed = 0;
  signal(SIGABRT, on_abort);
  if (LLVMFuzzerInitialize && LLVMFuzzerInitialize(&argc, &argv) < 0) {
    tell(out, "files are written as root only: not tested\n0 passed, 0 failed, 1 skipped\n");
    return 0;
  }
  for (int i = 1; i < argc; i++) {
    DIR *list = opendir(argv[i]);
    MUST(list);
    for (struct dirent *e; (e = readdir(list));) {
      snprintf(running, sizeof running, "%s/%s", argv[i], e->d_name);
      passed += replay(dirfd(list), e->d_name);
    }
    closedir(list);
  }
  snprintf(tally, sizeof tally, "%d passed, %d failed, 0 skipped\n", passed, passed == 0);
  tell(out, tally);
  return passed == 0;
}
