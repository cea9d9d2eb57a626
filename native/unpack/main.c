/*
 * berth-unpack: turns a layer's bytes into files; native/README.md has the contract.
 *
 *   berth-unpack layer --dir D --size S --max-bytes N --digest sha256|sha512 [--diff-id sha256|sha512]
 *                      --mode base|alone|above [--blob FD [--forget-ms N]] [--manifest FD] [--lower DIR]...
 *       The manifest (manifest.h) of what was unpacked is written to FD. The blob is kept in FD, unless N milliseconds
 *       seem to be enough for all of it.
 *   berth-unpack verify --dir D --manifest FD
 *       compares D with its manifest. Prints at most 20 lines `damage <word> <path>`, maybe `manifest damaged`,
 *       and `checked`, `damaged` (objects) and `bytes` (read). Succeeds whenever it could look.
 *   berth-unpack pack (--dir D | --from DIR --from DIR...) --blob FD [--manifest FD] [--plain] [--epoch SECONDS] [--stub PATH]... [--lower DIR]...
 *       D, or what an overlay of several shows, becomes a layer (pack.h): its tar, by gzip unless plain, goes to FD.
 *   berth-unpack scan (--dir D | --lower DIR --lower DIR...) [--tar FD] [--hash] [--shallow] [--most N]
 *                     [--path PATH]...
 *       says what is there (scan.h), in a directory or in what an overlay of several shows; or what would be in D, which is
 *       of no matter, if the tar in FD were unpacked (tarscan.h)
 *   berth-unpack copy --list FD --upper U --work W [--lower DIR]... (--from DIR | --from DIR --from DIR...)
 *       copies (copy.h) from a directory, or an overlay of several, into an overlay
 *   berth-unpack sync D      puts the file system that holds D on disk
 *   berth-unpack remove D    removes it with all that is below
 *
 * A failure is exit status 1 and one line `step errno path` on stderr.
 */
#define _GNU_SOURCE
#include "confine.h"
#include "copy.h"
#include "overlay.h"
#include "pack.h"
#include "remove.h"
#include "scan.h"
#include "source.h"
#include "tar.h"
#include "tarscan.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NICE = 10 };

/* ---- arguments ---- */

enum mode { MODE_NONE, MODE_BASE, MODE_ALONE, MODE_ABOVE };

struct arguments {
  const char *dir;
  uint64_t size, max_bytes, forget_ms;
  enum hash_name digest, diff_id;
  enum mode mode;
  int blob, manifest;
  const char **lowers; /* top first */
  size_t lower_count;
};

static int usage(struct failure *f, const char *what)
{
  return fail(f, "usage", EINVAL, what);
}

static int parse_number(const char *text, uint64_t max, uint64_t *number)
{
  char *end;
  errno = 0;
  *number = strtoull(text, &end, 10);
  return errno || *end || end == text || text[0] < '0' || text[0] > '9' || *number > max ? -1 : 0;
}

static int parse_fd(const char *text, int *fd)
{
  uint64_t number;
  if (parse_number(text, INT32_MAX, &number) < 0)
    return -1;
  *fd = (int)number;
  return 0;
}

static int parse_mode(const char *text, enum mode *mode)
{
  *mode = strcmp(text, "base") == 0    ? MODE_BASE
          : strcmp(text, "alone") == 0 ? MODE_ALONE
          : strcmp(text, "above") == 0 ? MODE_ABOVE
                                       : MODE_NONE;
  return *mode == MODE_NONE ? -1 : 0;
}

/* 0, or -1 when there is no such flag or its value is wrong. */
static int parse_flag(struct arguments *a, const char *flag, const char *value)
{
  if (strcmp(flag, "--dir") == 0)
    return a->dir = value, 0;
  if (strcmp(flag, "--lower") == 0)
    return a->lowers[a->lower_count++] = value, 0;
  if (strcmp(flag, "--size") == 0)
    return parse_number(value, INT64_MAX, &a->size);
  if (strcmp(flag, "--max-bytes") == 0)
    return parse_number(value, INT64_MAX, &a->max_bytes);
  if (strcmp(flag, "--digest") == 0)
    return hash_named(value, &a->digest);
  if (strcmp(flag, "--diff-id") == 0)
    return hash_named(value, &a->diff_id);
  if (strcmp(flag, "--mode") == 0)
    return parse_mode(value, &a->mode);
  if (strcmp(flag, "--blob") == 0)
    return parse_fd(value, &a->blob);
  if (strcmp(flag, "--forget-ms") == 0)
    return parse_number(value, UINT32_MAX, &a->forget_ms);
  if (strcmp(flag, "--manifest") == 0)
    return parse_fd(value, &a->manifest);
  return -1;
}

static int parse_arguments(int argc, char **argv, struct arguments *a, struct failure *f)
{
  *a = (struct arguments){.size = UINT64_MAX, .max_bytes = UINT64_MAX, .blob = -1, .manifest = -1};
  a->lowers = calloc((size_t)argc + 1, sizeof *a->lowers);
  if (!a->lowers)
    return fail(f, "memory", ENOMEM, NULL);
  for (int i = 2; i < argc; i += 2)
    if (i + 1 == argc || parse_flag(a, argv[i], argv[i + 1]) < 0)
      return usage(f, argv[i]);
  if (!a->dir || a->size == UINT64_MAX || a->max_bytes == UINT64_MAX || a->mode == MODE_NONE)
    return usage(f, NULL);
  return a->mode != MODE_ABOVE && a->lower_count > 0 ? usage(f, "--lower") : 0;
}

/* ---- layer ---- */

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

/* One write, so that no line of the summary can come between. */
static void print_progress(uint64_t bytes)
{
  char line[40];
  const int len = snprintf(line, sizeof line, "progress %" PRIu64 "\n", bytes);
  if (write(STDOUT_FILENO, line, (size_t)len) < 0)
    return; /* nobody listens: the summary will find out */
}

static void print_summary(const struct tree *t, const struct source *s)
{
  struct source_totals totals;
  source_totals(s, &totals);
  printf("digest %s\ncompressed-bytes %" PRIu64 "\n", totals.digest, totals.compressed_bytes);
  printf("diff-id %s\nbytes %" PRIu64 "\n", totals.diff_id, totals.bytes);
  printf("entries %" PRIu64 "\ndisk-bytes %" PRIu64 "\ninodes %" PRIu64 "\n", t->entries, t->disk_bytes, t->inodes);
  printf("opaque-root %d\nimplied %d\nlinks-below 0\n", t->opaque_root, t->implied > 0);
}

/*
 * What few bytes can make much of: an entry may imply directories by the hundred, and each of them, as every small file,
 * takes a block of the disk. Four times `max_bytes` is more than any layer needs whose bytes are not more than those.
 */
static int check_growth(const struct tree *t, uint64_t max_bytes, struct failure *f)
{
  if (t->inodes > ENTRIES_MAX)
    return fail(f, "entries", E2BIG, NULL);
  return t->disk_bytes / 4 > max_bytes ? fail(f, "too-large", EFBIG, NULL) : 0;
}

static int apply_all(struct tree *t, struct tar *tar, struct source *s, uint64_t max_bytes)
{
  static struct tar_entry entry;
  int more;
  while (!t->links_below && (more = tar_next(tar, &entry)) != 0) {
    if (more > 0 && tar->data_left > max_bytes) /* as it will turn out: the disk need not be filled for that */
      return fail(tar->failure, "too-large", EFBIG, entry.path);
    if (more < 0 || tree_apply(t, tar, &entry) < 0 || check_growth(t, max_bytes, t->failure) < 0)
      return -1;
    if (t->implied > 0 && !t->is_base && t->lower_count == 0)
      source_keep(s); /* should no entry describe them, the layer is unpacked again, on those below */
  }
  return t->links_below ? 0 : tree_finish(t);
}

static int unpack_from(struct source *s, struct tree *t, uint64_t max_bytes, struct failure *f)
{
  struct tar tar;
  tar_start(&tar, (struct tar_input){.from = s, .peek = peek, .consume = consume}, f);
  const int result = apply_all(t, &tar, s, max_bytes);
  tar_end(&tar);
  if (result < 0)
    return -1;
  if (t->links_below)
    puts("links-below 1"); /* the rest of the stream is of no use before the layers below are there */
  else
    print_summary(t, s);
  return fflush(stdout) == 0 ? 0 : fail(f, "summary", errno, NULL);
}

/* Memory, threads and descriptors end with the process. */
static int unpack(const struct arguments *a, struct failure *f)
{
  struct tree tree;
  int *lowers = calloc(a->lower_count + 1, sizeof *lowers);
  if (!lowers)
    return fail(f, "memory", ENOMEM, NULL);
  int root = open_dir(a->dir, f);
  for (size_t i = 0; root >= 0 && i < a->lower_count; i++)
    if ((lowers[i] = open_dir(a->lowers[i], f)) < 0)
      return -1;
  if (root < 0 || confine(&(struct confinement){.role = ROLE_UNPACK,
                                                .root = &root,
                                                .lowers = lowers,
                                                .lower_count = a->lower_count,
                                                .files = {a->blob, a->manifest}},
                          f) < 0)
    return -1;
  if (tree_start(&tree, root, lowers, a->lower_count, a->mode == MODE_BASE, f) < 0)
    return -1;
  if (a->manifest >= 0 && tree_keep_manifest(&tree, a->manifest) < 0)
    return -1;
  struct source *source = source_start(&(struct source_options){.fd = STDIN_FILENO,
                                                                .kept = a->blob,
                                                                .forget_ms = (unsigned)a->forget_ms,
                                                                .bytes = a->size,
                                                                .max_bytes = a->max_bytes,
                                                                .digest = a->digest,
                                                                .diff_id = a->diff_id,
                                                                .progress = print_progress});
  if (!source)
    return fail(f, errno == ENOMEM ? "memory" : "thread", errno, NULL);
  return unpack_from(source, &tree, a->max_bytes, f);
}

static int layer(int argc, char **argv, struct failure *f)
{
  struct arguments arguments;
  return parse_arguments(argc, argv, &arguments, f) < 0 ? -1 : unpack(&arguments, f);
}

/* ---- pack, scan, copy ---- */

struct texts {
  const char **all;
  size_t count;
};

struct build_arguments {
  const char *dir, *upper, *work;
  struct texts lowers, from, paths, stubs;
  int blob, manifest, list, tar;
  int plain, hash, shallow, has_epoch;
  uint64_t epoch, most;
};

static int add_text(struct texts *t, const char *text)
{
  t->all[t->count++] = text;
  return 0;
}

static int parse_build_flag(struct build_arguments *a, const char *flag, const char *value)
{
  if (strcmp(flag, "--dir") == 0)
    return a->dir = value, 0;
  if (strcmp(flag, "--upper") == 0)
    return a->upper = value, 0;
  if (strcmp(flag, "--work") == 0)
    return a->work = value, 0;
  if (strcmp(flag, "--lower") == 0)
    return add_text(&a->lowers, value);
  if (strcmp(flag, "--from") == 0)
    return add_text(&a->from, value);
  if (strcmp(flag, "--path") == 0)
    return add_text(&a->paths, value);
  if (strcmp(flag, "--stub") == 0)
    return add_text(&a->stubs, value);
  if (strcmp(flag, "--blob") == 0)
    return parse_fd(value, &a->blob);
  if (strcmp(flag, "--manifest") == 0)
    return parse_fd(value, &a->manifest);
  if (strcmp(flag, "--list") == 0)
    return parse_fd(value, &a->list);
  if (strcmp(flag, "--tar") == 0)
    return parse_fd(value, &a->tar);
  if (strcmp(flag, "--most") == 0)
    return parse_number(value, ENTRIES_MAX, &a->most);
  if (strcmp(flag, "--epoch") == 0)
    return a->has_epoch = 1, parse_number(value, INT64_MAX, &a->epoch);
  return -1;
}

static int *switch_named(struct build_arguments *a, const char *flag)
{
  return strcmp(flag, "--plain") == 0     ? &a->plain
         : strcmp(flag, "--hash") == 0    ? &a->hash
         : strcmp(flag, "--shallow") == 0 ? &a->shallow
                                          : NULL;
}

static int parse_build_arguments(int argc, char **argv, struct build_arguments *a, struct failure *f)
{
  *a = (struct build_arguments){.blob = -1, .manifest = -1, .list = -1, .tar = -1, .most = ENTRIES_MAX};
  for (struct texts *t = &a->lowers; t <= &a->stubs; t++)
    if (!(t->all = calloc((size_t)argc + 1, sizeof *t->all)))
      return fail(f, "memory", ENOMEM, NULL);
  for (int i = 2; i < argc; i++) {
    int *on = switch_named(a, argv[i]);
    if (on)
      *on = 1;
    else if (i + 1 == argc || parse_build_flag(a, argv[i], argv[i + 1]) < 0)
      return usage(f, argv[i]);
    else
      i++;
  }
  return 0;
}

static int open_dirs(const struct texts *paths, int **fds, struct failure *f)
{
  *fds = calloc(paths->count + 1, sizeof **fds);
  if (!*fds)
    return fail(f, "memory", ENOMEM, NULL);
  for (size_t i = 0; i < paths->count; i++)
    if (((*fds)[i] = open_dir(paths->all[i], f)) < 0)
      return -1;
  return 0;
}

/* One directory is taken as it is, several as an overlay shows them: read-only, a mount of its own. */
static int mount_source(const struct texts *dirs, struct failure *f)
{
  if (dirs->count > 1)
    return overlay_mount(&(struct overlay){.lowers = dirs->all, .lower_count = dirs->count}, f);
  int fd = open_dir(dirs->all[0], f);
  return fd >= 0 && confine_directory(&fd, 1) < 0 ? fail(f, "confine", errno, "mount") : fd;
}

static int mount_for_pack(const struct confinement *c, struct failure *f)
{
  const struct build_arguments *a = c->with;
  return *c->root = mount_source(&a->from, f);
}

static int pack(int argc, char **argv, struct failure *f)
{
  struct build_arguments a;
  int *lowers;
  if (parse_build_arguments(argc, argv, &a, f) < 0)
    return -1;
  if ((a.dir != NULL) == (a.from.count > 0) || (a.from.count > 0 && a.lowers.count > 0) || a.blob < 0)
    return usage(f, "pack");
  int root = a.dir ? open_dir(a.dir, f) : -1;
  if ((a.dir && root < 0) || open_dirs(&a.lowers, &lowers, f) < 0)
    return -1;
  const struct confinement c = {.role = ROLE_PACK,
                                .root = &root,
                                .lowers = lowers,
                                .lower_count = a.lowers.count,
                                .files = {a.blob, a.manifest},
                                .make_mounts = a.dir ? NULL : mount_for_pack,
                                .with = &a};
  if (confine(&c, f) < 0)
    return -1;
  return pack_layer(&(struct pack){.root = root,
                                   .blob = a.blob,
                                   .manifest = a.manifest,
                                   .plain = a.plain,
                                   .has_epoch = a.has_epoch,
                                   .epoch = (int64_t)a.epoch,
                                   .is_read_only = a.from.count > 0,
                                   .lowers = lowers,
                                   .lower_count = a.lowers.count,
                                   .stubs = a.stubs.all,
                                   .stub_count = a.stubs.count},
                    f);
}

static int mount_for_scan(const struct confinement *c, struct failure *f)
{
  const struct build_arguments *a = c->with;
  return *c->root = mount_source(&a->lowers, f);
}

static int scan(int argc, char **argv, struct failure *f)
{
  struct build_arguments a;
  int root = -1;
  if (parse_build_arguments(argc, argv, &a, f) < 0)
    return -1;
  if (a.dir)
    add_text(&a.lowers, a.dir);
  if (a.lowers.count == 0)
    return usage(f, "scan");
  const struct confinement c = {
      .role = ROLE_SCAN, .root = &root, .files = {a.tar, -1}, .make_mounts = mount_for_scan, .with = &a};
  if (confine(&c, f) < 0)
    return -1;
  const struct scan what = {
      .root = root, .paths = a.paths.all, .path_count = a.paths.count, .shallow = a.shallow, .hash = a.hash, .most = a.most};
  return a.tar >= 0 ? scan_tar(&what, a.tar, f) : scan_paths(&what, f);
}

static int mount_for_copy(const struct confinement *c, struct failure *f)
{
  const struct build_arguments *a = c->with;
  if (a->from.count > 0 && (*c->lowers = mount_source(&a->from, f)) < 0)
    return -1;
  const struct overlay target = {
      .lowers = a->lowers.all, .lower_count = a->lowers.count, .upper = a->upper, .work = a->work};
  return *c->root = overlay_mount(&target, f);
}

static int copy(int argc, char **argv, struct failure *f)
{
  struct build_arguments a;
  int source = -1, target = -1;
  if (parse_build_arguments(argc, argv, &a, f) < 0)
    return -1;
  if (!a.upper || !a.work || a.lowers.count == 0 || a.list < 0)
    return usage(f, "copy");
  const struct confinement c = {.role = ROLE_COPY,
                                .root = &target,
                                .lowers = &source,
                                .lower_count = a.from.count > 0,
                                .files = {a.list, -1},
                                .make_mounts = mount_for_copy,
                                .with = &a};
  if (confine(&c, f) < 0)
    return -1;
  return copy_files(&(struct copy){.source = source, .target = target, .list = a.list}, f);
}

/* ---- sync, verify ---- */

static int sync_all(const char *path, struct failure *f)
{
  int fd = open_dir(path, f);
  if (fd < 0)
    return -1;
  return syncfs(fd) < 0 ? fail(f, "sync", errno, path) : 0;
}

static int verify(char **argv, struct failure *f)
{
  int manifest;
  if (strcmp(argv[2], "--dir") != 0 || strcmp(argv[4], "--manifest") != 0 || parse_fd(argv[5], &manifest) < 0)
    return fail(f, "usage", EINVAL, "verify");
  int dir = open_dir(argv[3], f);
  const struct confinement c = {.role = ROLE_VERIFY, .root = &dir, .files = {manifest, -1}};
  return dir < 0 || confine(&c, f) < 0 ? -1 : manifest_verify(dir, manifest, f);
}

int main(int argc, char **argv)
{
  static struct failure f;
  int result;
  /* Nobody would hear how it ends, and the next daemon works on the same directories. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "berth-unpack"); /* it is executed from a descriptor, which has no name */
  setpriority(PRIO_PROCESS, 0, NICE);  /* within berth's own cgroup the daemon's answers come first */
  if (argc >= 2 && strcmp(argv[1], "layer") == 0)
    result = layer(argc, argv, &f);
  else if (argc >= 2 && strcmp(argv[1], "pack") == 0)
    result = pack(argc, argv, &f);
  else if (argc >= 2 && strcmp(argv[1], "scan") == 0)
    result = scan(argc, argv, &f);
  else if (argc >= 2 && strcmp(argv[1], "copy") == 0)
    result = copy(argc, argv, &f);
  else if (argc == 6 && strcmp(argv[1], "verify") == 0)
    result = verify(argv, &f);
  else if (argc == 3 && strcmp(argv[1], "sync") == 0)
    result = sync_all(argv[2], &f);
  else if (argc == 3 && strcmp(argv[1], "remove") == 0)
    result = remove_all(argv[2], &f);
  else
    result = usage(&f, NULL);
  if (result < 0)
    failure_print(&f);
  fflush(stdout);
  _exit(result < 0 ? 1 : 0); /* not exit: the source's threads may be reading still */
}
