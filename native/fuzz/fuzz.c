#define _GNU_SOURCE
#include "fuzz.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

void must(int ok, const char *what, const char *file, int line)
{
  if (ok)
    return;
  fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
  abort();
}

int file_of(const uint8_t *data, size_t size)
{
  static int fd = -1;
  if (fd < 0)
    fd = memfd_create("input", MFD_CLOEXEC);
  MUST(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
  return fd;
}

uint8_t *guarded_end(unsigned which)
{
  static uint8_t *ends[2];
  if (!ends[which]) {
    uint8_t *p = mmap(NULL, 2 * GUARDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED && mprotect(p + GUARDED, GUARDED, PROT_NONE) == 0);
    ends[which] = p + GUARDED;
  }
  return ends[which];
}

int place(void)
{
  if (geteuid() != 0)
    return -1;
  MUST(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
  MUST(mount("none", "/mnt", "tmpfs", 0, "size=64m,mode=700") == 0);
  const int dir = open("/mnt", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int output = memfd_create("output", MFD_CLOEXEC);
  MUST(dir >= 0 && output >= 0 && dup2(output, STDOUT_FILENO) == STDOUT_FILENO);
  return dir;
}

const char *place_output(void)
{
  static char text[64 * 1024];
  fflush(stdout);
  const ssize_t n = pread(STDOUT_FILENO, text, sizeof text - 1, 0);
  MUST(n >= 0 && ftruncate(STDOUT_FILENO, 0) == 0 && lseek(STDOUT_FILENO, 0, SEEK_SET) == 0);
  text[n] = 0;
  return text;
}
