/*
 * berth-unpack: turns a layer's bytes into files.
 *
 *   berth-unpack layer [--manifest FD] <dir> <max bytes> base|alone|above [<lower dir>...]
 *       stdin: tar or tar+gzip. `dir` is empty. base: nothing is below; alone: layers below are not known;
 *       above: the lower dirs, top first, are. Prints a summary, `key value` a line.
 *       The manifest (manifest.h) of what was unpacked is written to FD.
 *   berth-unpack verify --dir <dir> --manifest FD
 *       compares `dir` with its manifest. Prints at most 20 lines `damage <word> <path>`, maybe `manifest damaged`,
 *       and `checked`, `damaged` (objects) and `bytes` (read). Succeeds whenever it could look.
 *   berth-unpack sync <dir>      puts the file system that holds `dir` on disk
 *   berth-unpack remove <dir>    removes it with all that is below
 *
 * A failure is exit status 1 and one line `step errno path` on stderr.
 */
#define _GNU_SOURCE
#include "confine.h"
#include "sha256.h"
#include "source.h"
#include "tar.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_dir(const char *path, struct failure *f)
{
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? fail(f, "open", errno, path) : fd;
}

static const uint8_t *peek(void *from, size_t *len, struct failure *f)
{
  return source_peek(from, len, f);
}

static void consume(void *from, size_t n)
{
  source_consume(from, n);
}

static void print_summary(const struct tree *t, const struct source *s)
{
  struct source_totals totals;
  char compressed[65], diff_id[65];
  source_totals(s, &totals);
  sha256_hex(totals.compressed_sha256, compressed);
  sha256_hex(totals.sha256, diff_id);
  printf("compressed-sha256 %s\ncompressed-bytes %" PRIu64 "\n", compressed, totals.compressed_bytes);
  printf("sha256 %s\nbytes %" PRIu64 "\n", diff_id, totals.bytes);
  printf("entries %" PRIu64 "\ndisk-bytes %" PRIu64 "\ninodes %" PRIu64 "\n", t->entries, t->disk_bytes, t->inodes);
  printf("opaque-root %d\nimplied %d\nlinks-below 0\n", t->opaque_root, t->implied > 0);
}

static int apply_all(struct tree *t, struct tar *tar)
{
  static struct tar_entry entry;
  int more;
  while (!t->links_below && (more = tar_next(tar, &entry)) != 0)
    if (more < 0 || tree_apply(t, tar, &entry) < 0)
      return -1;
  return t->links_below ? 0 : tree_finish(t);
}

static int unpack_from(struct source *s, struct tree *t, struct failure *f)
{
  struct tar tar;
  tar_start(&tar, (struct tar_input){.from = s, .peek = peek, .consume = consume}, f);
  const int result = apply_all(t, &tar);
  tar_end(&tar);
  if (result < 0)
    return -1;
  if (t->links_below)
    puts("links-below 1"); /* the rest of the stream is of no use before the layers below are there */
  else
    print_summary(t, s);
  return fflush(stdout) == 0 ? 0 : fail(f, "summary", errno, NULL);
}

static int parse_fd(const char *text)
{
  char *end;
  const long fd = strtol(text, &end, 10);
  return *text && !*end && fd > STDERR_FILENO && fd <= INT_MAX ? (int)fd : -1;
}

static int unpack(int argc, char **argv, struct failure *f)
{
  struct tree tree;
  char *end;
  int manifest = -1;
  if (strcmp(argv[2], "--manifest") == 0) {
    manifest = parse_fd(argv[3]);
    argv += 2, argc -= 2;
    if (argc < 5 || manifest < 0)
      return fail(f, "usage", EINVAL, "--manifest");
  }
  const uint64_t max_bytes = strtoull(argv[3], &end, 10);
  const size_t lower_count = (size_t)argc - 5;
  int *lowers = calloc(lower_count + 1, sizeof *lowers);
  if (*end || !lowers)
    return fail(f, "usage", EINVAL, argv[3]);
  int root = open_dir(argv[2], f);
  for (size_t i = 0; root >= 0 && i < lower_count; i++)
    if ((lowers[i] = open_dir(argv[5 + i], f)) < 0)
      return -1;
  if (root < 0 || confine(f) < 0)
    return -1;
  if (tree_start(&tree, root, lowers, lower_count, strcmp(argv[4], "base") == 0, f) < 0)
    return -1;
  if (manifest >= 0 && tree_keep_manifest(&tree, manifest) < 0)
    return -1;
  struct source *source = source_start(STDIN_FILENO, max_bytes);
  if (!source)
    return fail(f, "thread", errno, NULL);
  return unpack_from(source, &tree, f); /* memory, thread and descriptors end with the process */
}

static int sync_all(const char *path, struct failure *f)
{
  int fd = open_dir(path, f);
  if (fd < 0)
    return -1;
  return syncfs(fd) < 0 ? fail(f, "sync", errno, path) : 0;
}

static int remove_all(const char *path, struct failure *f)
{
  if (confine(f) < 0)
    return -1;
  return remove_tree(AT_FDCWD, path) < 0 ? fail(f, "remove", errno, path) : 0;
}

static int verify(char **argv, struct failure *f)
{
  const int manifest = strcmp(argv[2], "--dir") == 0 && strcmp(argv[4], "--manifest") == 0 ? parse_fd(argv[5]) : -1;
  if (manifest < 0)
    return fail(f, "usage", EINVAL, "verify");
  const int dir = open_dir(argv[3], f);
  return dir < 0 || confine(f) < 0 ? -1 : manifest_verify(dir, manifest, f);
}

int main(int argc, char **argv)
{
  static struct failure f;
  int result;
  if (argc >= 5 && strcmp(argv[1], "layer") == 0)
    result = unpack(argc, argv, &f);
  else if (argc == 6 && strcmp(argv[1], "verify") == 0)
    result = verify(argv, &f);
  else if (argc == 3 && strcmp(argv[1], "sync") == 0)
    result = sync_all(argv[2], &f);
  else if (argc == 3 && strcmp(argv[1], "remove") == 0)
    result = remove_all(argv[2], &f);
  else
    result = fail(&f, "usage", EINVAL, NULL);
  if (result < 0)
    failure_print(&f);
  fflush(stdout);
  _exit(result < 0 ? 1 : 0); /* not exit: the source's thread may be reading still */
}
