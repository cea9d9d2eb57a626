/* Runs a target over the files of directories, each a test; built with gcc's sanitizers, for make test. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static char running[512];

/* Sanitizers and must() end the process; this says by what. */
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
  uint8_t *data = malloc((size_t)st.st_size + 1), *exact;
  MUST(data && read(fd, data, (size_t)st.st_size) == st.st_size);
  close(fd);
  exact = malloc((size_t)st.st_size ? (size_t)st.st_size : 1); /* nothing behind it that could be read unseen */
  MUST(exact);
  memcpy(exact, data, (size_t)st.st_size);
  free(data);
  LLVMFuzzerTestOneInput(exact, (size_t)st.st_size);
  free(exact);
  return 1;
}

static void say_what_ran(void)
{
  fprintf(stderr, "not ok: %s\n", running);
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

int main(int argc, char **argv)
{
  const int out = dup(STDOUT_FILENO); /* targets may take it away */
  char tally[64];
  int passed = 0;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_set_death_callback(say_what_ran);
#endif
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
