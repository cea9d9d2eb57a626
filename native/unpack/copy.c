#define _GNU_SOURCE
#include "copy.h"
#include "tarwrite.h"
#include "../lib/rooted.h"
#include "../lib/users.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { FIELDS_MAX = 7, LIST_BYTES_MAX = 512 * 1024 * 1024 };

struct dir_time {
  const char *path;
  struct timespec mtime;
};

struct copying {
  const struct copy *c;
  struct failure *failure;
  char *at, *end; /* of the list */
  uid_t uid;
  gid_t gid;
  struct dir_time *times; /* of new directories: what is written into them changes it */
  size_t time_count, time_slots;
  uint8_t buffer[256 * 1024];
};

/* Owner, mode and time of an operation. */
struct attributes {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  int has_mtime;
  struct timespec mtime;
};

/* ---- fields ---- */

static int malformed(struct copying *k)
{
  return fail(k->failure, "list", EINVAL, NULL);
}

static int next_field(struct copying *k, const char **field)
{
  char *nul = k->at < k->end ? memchr(k->at, 0, (size_t)(k->end - k->at)) : NULL;
  if (!nul)
    return malformed(k);
  *field = k->at;
  k->at = nul + 1;
  return 0;
}

static int parse_owner(struct copying *k, const char *uid, const char *gid, struct attributes *a)
{
  a->uid = k->uid;
  a->gid = k->gid;
  if (!uid[0] && !gid[0])
    return 0;
  return users_number(uid, &a->uid) && users_number(gid, &a->gid) ? 0 : malformed(k);
}

static int parse_time(struct copying *k, const char *text, struct attributes *a)
{
  char *end;
  a->has_mtime = text[0] != 0;
  if (!a->has_mtime)
    return 0;
  a->mtime.tv_sec = strtoll(text, &end, 10);
  if (*end != '.')
    return malformed(k);
  a->mtime.tv_nsec = strtol(end + 1, &end, 10);
  return *end || a->mtime.tv_nsec < 0 || a->mtime.tv_nsec > 999999999 ? malformed(k) : 0;
}

static int parse_mode(struct copying *k, const char *text, mode_t max, struct attributes *a)
{
  char *end;
  const unsigned long mode = strtoul(text, &end, 8);
  a->mode = (mode_t)mode;
  return end == text || *end || mode > max ? malformed(k) : 0;
}

/* ---- attributes ---- */

static int copy_xattrs(int from, int to)
{
  static char names[64 * 1024], value[64 * 1024]; /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
  const ssize_t len = flistxattr(from, names, sizeof names);
  if (len < 0)
    return errno == ENOTSUP ? 0 : -1;
  for (const char *name = names; name < names + len; name += strlen(name) + 1) {
    if (!tar_keeps_xattr(name))
      continue;
    const ssize_t n = fgetxattr(from, name, value, sizeof value);
    if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
      return -1;
  }
  return 0;
}

/* In this order: a change of owner takes set-id bits and capabilities away. `from` may be -1. */
static int set_attributes(struct copying *k, int fd, int from, const struct attributes *a, const char *path)
{
  if (fchown(fd, a->uid, a->gid) < 0)
    return fail(k->failure, "chown", errno, path);
  if (fchmod(fd, a->mode) < 0)
    return fail(k->failure, "chmod", errno, path);
  if (from >= 0 && copy_xattrs(from, fd) < 0)
    return fail(k->failure, "xattr", errno, path);
  const struct timespec times[2] = {a->mtime, a->mtime};
  return a->has_mtime && futimens(fd, times) < 0 ? fail(k->failure, "times", errno, path) : 0;
}

static int set_attributes_of_name(struct copying *k, int parent, const char *name, const struct attributes *a, const char *path)
{
  const struct timespec times[2] = {a->mtime, a->mtime};
  if (fchownat(parent, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0)
    return fail(k->failure, "chown", errno, path);
  return a->has_mtime && utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? fail(k->failure, "times", errno, path) : 0;
}

static int remember_time(struct copying *k, const char *path, struct timespec mtime)
{
  if (k->time_count == k->time_slots) {
    const size_t slots = k->time_slots ? k->time_slots * 2 : 256;
    struct dir_time *more = reallocarray(k->times, slots, sizeof *more);
    if (!more)
      return fail(k->failure, "memory", ENOMEM, path);
    k->times = more;
    k->time_slots = slots;
  }
  k->times[k->time_count++] = (struct dir_time){path, mtime};
  return 0;
}

static int set_times(struct copying *k)
{
  for (size_t i = k->time_count; i-- > 0;) {
    const struct timespec times[2] = {k->times[i].mtime, k->times[i].mtime};
    const int fd = rooted_open(k->c->target, k->times[i].path, O_RDONLY | O_DIRECTORY);
    const int done = fd < 0 ? -1 : futimens(fd, times), err = errno;
    if (fd >= 0)
      close(fd);
    if (done < 0)
      return fail(k->failure, "times", err, k->times[i].path);
  }
  return 0;
}

/* ---- places ---- */

/* The directory that holds `path`, with the place in it cleared. The caller closes it. -1. */
static int clear_place(struct copying *k, const char *path, const char **name)
{
  const int parent = rooted_parent(k->c->target, path, name);
  if (parent < 0)
    return fail(k->failure, "parent", errno, path);
  if (unlinkat(parent, *name, 0) == 0 || errno == ENOENT)
    return parent;
  const int err = errno;
  close(parent);
  return fail(k->failure, "replace", err, path);
}

static int open_source(struct copying *k, const char *from)
{
  const int fd = rooted_open(k->c->source, from, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  return fd < 0 ? fail(k->failure, "source", errno, from) : fd;
}

/* ---- one function per operation ---- */

static int take_owner(struct copying *k, const char *const *f)
{
  struct user_entry found = {0};
  const char *user = f[0], *group = f[1];
  int ok = users_number(user, &found.uid);
  if (ok)
    found.gid = found.uid; /* a number is both, unless a group is named, too */
  else {
    const int passwd = users_open(k->c->target, "/etc/passwd");
    ok = passwd >= 0 && users_find(passwd, user, 0, &found) == 1;
    if (passwd >= 0)
      close(passwd);
  }
  if (!ok)
    return fail(k->failure, "user", ENOENT, user);
  if (group[0] && !users_number(group, &found.gid)) {
    const int groups = users_open(k->c->target, "/etc/group");
    ok = groups >= 0 && users_find_group(groups, group, &found.gid) == 1;
    if (groups >= 0)
      close(groups);
    if (!ok)
      return fail(k->failure, "group", ENOENT, group);
  }
  k->uid = found.uid;
  k->gid = found.gid;
  return 0;
}

/* A link to nowhere, as images have it, gets its directory where it points within the target. */
static int make_behind_link(struct copying *k, const char *path)
{
  const int made = rooted_make(k->c->target, path, ROOTED_DIRECTORY, 0755);
  if (made >= 0)
    close(made);
  return made < 0 ? -1 : 0;
}

static int make_directory(struct copying *k, int parent, const char *name, const struct attributes *a, const char *path,
                          const char *from)
{
  if (mkdirat(parent, name, 0700) < 0 && (errno != EEXIST || make_behind_link(k, path) < 0))
    return fail(k->failure, "mkdir", errno, path);
  const int fd = rooted_open(k->c->target, path, O_RDONLY | O_DIRECTORY);
  const int source = fd >= 0 && from[0] ? open_source(k, from) : -1;
  int result = fd < 0 ? fail(k->failure, "open", errno, path) : from[0] && source < 0 ? -1 : 0;
  if (result == 0)
    result = set_attributes(k, fd, source, a, path);
  if (source >= 0)
    close(source);
  if (fd >= 0)
    close(fd);
  return result == 0 && a->has_mtime ? remember_time(k, path, a->mtime) : result;
}

static int take_directory(struct copying *k, const char *const *f)
{
  struct attributes a;
  const char *path = f[0], *name;
  if (parse_mode(k, f[1], 07777, &a) < 0 || parse_owner(k, f[2], f[3], &a) < 0 || parse_time(k, f[4], &a) < 0)
    return -1;
  const int there = rooted_open(k->c->target, path, O_PATH | O_DIRECTORY);
  if (there >= 0) {
    close(there);
    return 0;
  }
  if (errno != ENOENT)
    return fail(k->failure, "mkdir", errno, path);
  const int parent = rooted_parent(k->c->target, path, &name);
  if (parent < 0)
    return fail(k->failure, "parent", errno, path);
  const int result = make_directory(k, parent, name, &a, path, f[5]);
  close(parent);
  return result;
}

static int copy_bytes(struct copying *k, int from, int to, const char *path)
{
  for (;;) {
    const ssize_t n = read(from, k->buffer, sizeof k->buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? fail(k->failure, "read", errno, path) : 0;
    for (ssize_t done = 0; done < n;) {
      const ssize_t m = write(to, k->buffer + done, (size_t)(n - done));
      if (m < 0 && errno != EINTR)
        return fail(k->failure, "write", errno, path);
      done += m > 0 ? m : 0;
    }
  }
}

static int is_regular(int fd)
{
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int take_file(struct copying *k, const char *const *f)
{
  struct attributes a;
  const char *path = f[0], *name;
  if (parse_mode(k, f[1], 07777, &a) < 0 || parse_owner(k, f[2], f[3], &a) < 0 || parse_time(k, f[4], &a) < 0)
    return -1;
  const int from = open_source(k, f[5]);
  if (from < 0)
    return -1;
  const int parent = is_regular(from) ? clear_place(k, path, &name) : fail(k->failure, "source", EINVAL, f[5]);
  const int to = parent < 0 ? -1 : openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  int result = parent < 0 ? -1 : to < 0 ? fail(k->failure, "create", errno, path) : copy_bytes(k, from, to, path);
  if (result == 0)
    result = set_attributes(k, to, from, &a, path);
  if (to >= 0)
    close(to);
  if (parent >= 0)
    close(parent);
  close(from);
  return result;
}

static int take_link(struct copying *k, const char *const *f)
{
  struct attributes a;
  const char *path = f[0], *name;
  if (parse_owner(k, f[2], f[3], &a) < 0 || parse_time(k, f[4], &a) < 0)
    return -1;
  const int parent = clear_place(k, path, &name);
  if (parent < 0)
    return -1;
  const int result = symlinkat(f[1], parent, name) < 0 ? fail(k->failure, "create", errno, path)
                                                        : set_attributes_of_name(k, parent, name, &a, path);
  close(parent);
  return result;
}

static int take_hard_link(struct copying *k, const char *const *f)
{
  const char *name, *old_name;
  const int parent = clear_place(k, f[0], &name);
  if (parent < 0)
    return -1;
  const int old = rooted_parent(k->c->target, f[1], &old_name);
  const int result = old < 0 || linkat(old, old_name, parent, name, 0) < 0 ? fail(k->failure, "link", errno, f[0]) : 0;
  if (old >= 0)
    close(old);
  close(parent);
  return result;
}

static int take_node(struct copying *k, const char *const *f)
{
  struct attributes a;
  unsigned high, low;
  const char *path = f[0], *name;
  if (parse_mode(k, f[1], 0177777, &a) < 0 || parse_owner(k, f[2], f[3], &a) < 0 || parse_time(k, f[4], &a) < 0)
    return -1;
  if (sscanf(f[5], "%u:%u", &high, &low) != 2 || S_ISREG(a.mode) || S_ISDIR(a.mode) || S_ISLNK(a.mode))
    return malformed(k);
  const int parent = clear_place(k, path, &name);
  if (parent < 0)
    return -1;
  const int result = mknodat(parent, name, a.mode, makedev(high, low)) < 0 ? fail(k->failure, "create", errno, path)
                                                                            : set_attributes_of_name(k, parent, name, &a, path);
  close(parent);
  return result;
}

static const struct {
  char letter;
  size_t fields;
  int (*take)(struct copying *k, const char *const *fields);
} operations[] = {
    {'o', 2, take_owner}, {'d', 6, take_directory}, {'f', 6, take_file},
    {'l', 5, take_link},  {'h', 2, take_hard_link}, {'n', 6, take_node},
};

static int take_operation(struct copying *k)
{
  const char *letter = NULL, *fields[FIELDS_MAX] = {0};
  if (next_field(k, &letter) < 0)
    return -1;
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (letter[0] != operations[i].letter || letter[1])
      continue;
    for (size_t n = 0; n < operations[i].fields; n++)
      if (next_field(k, &fields[n]) < 0)
        return -1;
    return operations[i].take(k, fields);
  }
  return malformed(k);
}

/* ---- the list ---- */

static int read_list(struct copying *k)
{
  struct stat st;
  if (fstat(k->c->list, &st) < 0 || st.st_size > LIST_BYTES_MAX)
    return fail(k->failure, "list", E2BIG, NULL);
  k->at = malloc((size_t)st.st_size + 1);
  if (!k->at)
    return fail(k->failure, "memory", ENOMEM, NULL);
  k->end = k->at;
  for (ssize_t n; k->end < k->at + st.st_size; k->end += n)
    if ((n = pread(k->c->list, k->end, (size_t)(k->at + st.st_size - k->end), k->end - k->at)) <= 0)
      return fail(k->failure, "list", errno, NULL);
  return 0;
}

int copy_files(const struct copy *c, struct failure *f)
{
  static struct copying k;
  k.c = c;
  k.failure = f;
  if (read_list(&k) < 0)
    return -1;
  while (k.at < k.end)
    if (take_operation(&k) < 0)
      return -1;
  return set_times(&k);
}
