/*
 * A whole archive unpacked: nothing outside of its directory changes, and what was written is what its manifest says.
 * The first byte of the input says on what it stands; headers get their checksums put right.
 */
#define _GNU_SOURCE
#include "archive.h"
#include "fuzz.h"
#include "../unpack/manifest.h"
#include "../unpack/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int top = -1, lower = -1;
static struct stat victim;

static void make_file(int dir, const char *path)
{
  const int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL, 0640);
  MUST(fd >= 0 && write(fd, path, strlen(path)) > 0);
  close(fd);
}

/* What the layer stands on, and something beside it that is not its own. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  if ((top = place()) < 0)
    return -1;
  MUST(mkdirat(top, "lower", 0755) == 0 && mkdirat(top, "lower/d", 0750) == 0 && mkdirat(top, "outside", 0700) == 0);
  lower = openat(top, "lower", O_RDONLY | O_DIRECTORY);
  make_file(lower, "f");
  make_file(lower, "d/f");
  make_file(top, "outside/victim");
  MUST(symlinkat("../outside", lower, "l") == 0 && symlinkat("d", lower, "d/s") == 0);
  MUST(fstatat(top, "outside/victim", &victim, 0) == 0);
  return 0;
}

static int apply(struct tree *t, struct tar *tar)
{
  static struct tar_entry entry;
  int more;
  while (!t->links_below && (more = tar_next(tar, &entry)) != 0)
    if (more < 0 || tree_apply(t, tar, &entry) < 0)
      return -1;
  return t->links_below ? 1 : tree_finish(t);
}

/* 0 when it was unpacked, 1 when it needs what is below, -1. */
static int unpack(const uint8_t *data, size_t size, int root, int how, int manifest, struct failure *f)
{
  struct archive archive = {data, size, 1 + size / 3};
  struct tree tree;
  struct tar tar;
  MUST(tree_start(&tree, root, &lower, how == 2, how == 0, f) == 0 && tree_keep_manifest(&tree, manifest) == 0);
  tar_start(&tar, archive_input(&archive), f);
  const int result = apply(&tree, &tar);
  tar_end(&tar);
  tree_end(&tree);
  return result;
}

static void check_outside(void)
{
  struct stat now;
  unsigned names = 0;
  const int fd = openat(top, ".", O_RDONLY | O_DIRECTORY);
  DIR *list = fdopendir(fd);
  MUST(list);
  for (struct dirent *e; (e = readdir(list));)
    names += e->d_name[0] != '.';
  closedir(list);
  MUST(names == 3); /* lower, outside, target */
  MUST(fstatat(top, "outside/victim", &now, 0) == 0 && now.st_mode == victim.st_mode && now.st_uid == victim.st_uid);
  MUST(now.st_size == victim.st_size && now.st_nlink == 1 && now.st_ctim.tv_sec == victim.st_ctim.tv_sec &&
       now.st_ctim.tv_nsec == victim.st_ctim.tv_nsec);
}

/* A full disk and attributes that are too large are no fault of the archive's; all else that fails has a word. */
static void check_manifest(int root, int manifest)
{
  struct failure f = {0};
  const int verified = manifest_verify(root, manifest, &f);
  const char *said = place_output();
  if (verified < 0 || !strstr(said, "damaged 0\n") || strstr(said, "manifest damaged"))
    fprintf(stderr, "%s %d %s\n%s", f.step ? f.step : "", f.err, f.path, said);
  MUST(verified == 0 && strstr(said, "damaged 0\n") && !strstr(said, "manifest damaged"));
}

static void unpack_and_look(const uint8_t *data, size_t size, int how)
{
  struct failure f = {0};
  const int manifest = memfd_create("manifest", MFD_CLOEXEC);
  MUST(manifest >= 0 && mkdirat(top, "target", 0700) == 0);
  const int root = openat(top, "target", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int result = unpack(data, size, root, how, manifest, &f);
  MUST(result >= 0 || f.step);
  check_outside();
  if (result == 0)
    check_manifest(root, manifest);
  close(root);
  close(manifest);
  MUST(remove_tree(top, "target") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (top < 0 || size == 0 || size > 64 * 1024)
    return 0;
  uint8_t *copy = with_checksums(data + 1, size - 1);
  unpack_and_look(copy, size - 1, data[0] % 3);
  free(copy);
  return 0;
}
