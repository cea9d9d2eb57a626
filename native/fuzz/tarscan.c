/*
 * What an archive would be if it were unpacked, told without unpacking it: where that is told at all, unpacking succeeds, and
 * what is there then is the same, at every path.
 */
#define _GNU_SOURCE
#include "archive.h"
#include "fuzz.h"
#include "../unpack/tarscan.h"
#include "../unpack/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES_MAX = 1024, PATHS_MAX = 24 };

static int top = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  umask(0); /* as confine() has it */
  return (top = place()) < 0 ? -1 : 0;
}

/* ---- what is said ---- */

struct said {
  char text[64 * 1024];
  char *lines[LINES_MAX];
  size_t count;
  int is_irregular, is_cut;
};

static int by_text(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes away what file systems give: inodes, numbers of names, sizes of what is no file, and the time of the path itself. */
static void make_comparable(char *line)
{
  char *words[13] = {0};
  size_t n = 0;
  for (char *word = strtok(line, " "); word && n < 13; word = strtok(NULL, " "))
    words[n++] = word;
  if (n < 12)
    return; /* the head */
  const int is_itself = strcmp(words[11], ".") == 0, is_file = words[0][0] == 'f';
  char text[4 * 4096];
  snprintf(text, sizeof text, "%s %s %s %s %s %s %s %s %s %s", words[0], words[1], words[2], words[3],
           is_itself ? "-" : words[4], is_file ? words[5] : "-", words[8], words[10], words[11], words[12] ? words[12] : "");
  MUST(strlen(text) < 4 * 4096 - 1);
  strcpy(line, text); /* shorter than it was */
}

static void take_output(struct said *s)
{
  snprintf(s->text, sizeof s->text, "%s", place_output());
  s->is_irregular = strncmp(s->text, "irregular ", 10) == 0;
  s->is_cut = strlen(s->text) > sizeof s->text - 2;
  s->count = 0;
  char *line = s->text;
  for (char *end; (end = strchr(line, '\n')) && s->count < LINES_MAX; line = end + 1) {
    *end = 0;
    s->lines[s->count++] = line;
  }
}

static void sort_lines(struct said *s)
{
  for (size_t i = 0; i < s->count; i++)
    make_comparable(s->lines[i]);
  qsort(s->lines, s->count, sizeof *s->lines, by_text);
}

/* ---- both ways ---- */

static struct scan scan_of(int root, const char *const *path)
{
  return (struct scan){.root = root, .paths = path, .path_count = 1, .hash = 1, .most = UINT64_MAX};
}

static int unpack(const uint8_t *data, size_t size, int root, struct failure *f)
{
  static struct tar_entry entry;
  struct archive archive = {data, size, SIZE_MAX};
  struct tree tree;
  struct tar tar;
  int more;
  MUST(tree_start(&tree, root, NULL, 0, 1, f) == 0);
  tar_start(&tar, archive_input(&archive), f);
  while ((more = tar_next(&tar, &entry)) > 0 && (more = tree_apply(&tree, &tar, &entry)) == 0)
    ;
  if (more == 0)
    more = tree_finish(&tree);
  tar_end(&tar);
  tree_end(&tree);
  return more;
}

static void compare_at(const char *path, int fd, int root)
{
  static struct said would, is;
  struct failure f = {0};
  const struct scan s = scan_of(root, &path);
  MUST(scan_tar(&s, fd, &f) == 0);
  take_output(&would);
  if (would.is_irregular || would.is_cut)
    return;
  MUST(scan_paths(&s, &f) == 0);
  take_output(&is);
  sort_lines(&would);
  sort_lines(&is);
  for (size_t i = 0; i < would.count && i < is.count; i++)
    if (strcmp(would.lines[i], is.lines[i]) != 0)
      fprintf(stderr, "at %s: would be %s\nis       %s\n", path, would.lines[i], is.lines[i]);
  MUST(would.count == is.count);
  for (size_t i = 0; i < would.count; i++)
    MUST(strcmp(would.lines[i], is.lines[i]) == 0);
}

static void decode_word(char *word)
{
  char *to = word;
  unsigned byte;
  for (const char *p = word; *p; p++) {
    if (*p == '%' && sscanf(p + 1, "%2X", &byte) == 1) {
      *to++ = (char)byte;
      p += 2;
    } else {
      *to++ = *p;
    }
  }
  *to = 0;
}

/* The names that are in it, each by itself, from behind, and with something behind it. */
static void compare_everywhere(const struct said *all, int fd, int root)
{
  for (size_t i = 1; i < all->count && i < PATHS_MAX; i++) {
    char name[4096], path[3 * 4096];
    if (sscanf(all->lines[i], "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %4095s", name) != 1)
      continue;
    decode_word(name);
    compare_at(name, fd, root);
    snprintf(path, sizeof path, "/../%s/../%s", name, name);
    compare_at(path, fd, root);
    snprintf(path, sizeof path, "%s/a", name);
    compare_at(path, fd, root);
  }
}

static void look(const uint8_t *data, size_t size)
{
  static struct said all;
  const char *root_path = ".";
  struct failure f = {0};
  const int fd = file_of(data, size);
  const struct scan s = scan_of(-1, &root_path);
  MUST(scan_tar(&s, fd, &f) == 0);
  take_output(&all);
  if (all.is_irregular || all.is_cut)
    return;
  MUST(mkdirat(top, "target", 0700) == 0);
  const int root = openat(top, "target", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int unpacked = unpack(data, size, root, &f);
  if (unpacked != 0)
    fprintf(stderr, "%s %d %s\n", f.step ? f.step : "", f.err, f.path);
  MUST(unpacked == 0);
  compare_at(root_path, fd, root);
  compare_everywhere(&all, fd, root);
  close(root);
  MUST(remove_tree(top, "target") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (top < 0 || size > 16 * 1024)
    return 0;
  uint8_t *copy = with_checksums(data, size);
  look(copy, size);
  free(copy);
  return 0;
}
