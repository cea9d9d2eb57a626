/*
 * The manifest of a layer, read back against a tree that is always the same. Its last line, with the hash of all before
 * it, is put right, so that what is behind that check is reached; an input that begins with a NUL is taken as it is.
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "../unpack/manifest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int root = -1;

static void make_file(int dir, const char *name, const char *text)
{
  const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0640);
  MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

static void set_time(int dir, const char *name)
{
  const struct timespec times[2] = {{.tv_sec = 1700000000, .tv_nsec = 5}, {.tv_sec = 1700000000, .tv_nsec = 5}};
  MUST(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  static const char *const names[] = {"d/inner", "d/f", "d", "f", "hole", "l", "p", "c", "."};
  (void)argc, (void)argv;
  const int top = place();
  if (top < 0)
    return -1;
  MUST(mkdirat(top, "layer", 0755) == 0);
  root = openat(top, "layer", O_RDONLY | O_DIRECTORY);
  MUST(mkdirat(root, "d", 0750) == 0 && mkdirat(root, "d/inner", 0700) == 0);
  make_file(root, "f", "contents");
  make_file(root, "hole", "");
  MUST(linkat(root, "f", root, "d/f", 0) == 0 && symlinkat("d/f", root, "l") == 0);
  MUST(mknodat(root, "p", S_IFIFO | 0600, 0) == 0 && mknodat(root, "c", S_IFCHR | 0600, makedev(1, 3)) == 0);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    set_time(root, names[i]);
  return 0;
}

/* Of lines, all but the first and the `u`. */
static uint64_t objects_in(const char *text, size_t size)
{
  uint64_t objects = 0, lines = 0;
  for (const char *at = text, *end; at < text + size; at = end + 1) {
    end = memchr(at, '\n', (size_t)(text + size - at));
    if (!end)
      break;
    objects += lines++ > 0 && !(end - at == 1 && *at == 'u');
  }
  return objects;
}

static size_t with_end(const uint8_t *data, size_t size, char **out)
{
  uint8_t hash[CONTENT_BYTES];
  struct content_hash *h = content_new();
  char *text = malloc(size + 128);
  MUST(h && text);
  memcpy(text, data, size);
  content_start(h);
  content_data(h, data, size);
  content_end(h, hash);
  content_free(h);
  size_t len = size + (size_t)sprintf(text + size, "end %llu ", (unsigned long long)objects_in(text, size));
  for (size_t i = 0; i < CONTENT_BYTES; i++)
    len += (size_t)sprintf(text + len, "%02x", hash[i]);
  text[len++] = '\n';
  *out = text;
  return len;
}

static void verify(const uint8_t *data, size_t size)
{
  struct failure f = {0};
  const int result = manifest_verify(root, file_of(data, size), &f);
  const char *said = place_output();
  if (result < 0)
    MUST(f.step);
  else
    MUST(strstr(said, "checked ") && strstr(said, "damaged ") && strstr(said, "bytes "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text;
  if (root < 0)
    return 0;
  if (size > 0 && data[0] == 0) {
    verify(data + 1, size - 1);
    return 0;
  }
  const size_t len = with_end(data, size, &text);
  verify((const uint8_t *)text, len);
  free(text);
  return 0;
}
