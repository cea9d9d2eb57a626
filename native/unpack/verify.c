/* Comparing a layer's directory with its manifest; see manifest.h. */
#define _GNU_SOURCE
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * The caller's thread goes through the manifest line by line and through the tree beside it, looks at everything but
 * contents, and hands the open files to threads that read them.
 */

enum { THREADS_MAX = 4, QUEUE = 64, FINDINGS_MAX = 20, LINE_BYTES = 16 * 1024, FIELDS_MAX = 11, LIST_BYTES = 64 * 1024 };

struct job {
  int fd;
  uint8_t content[CONTENT_BYTES];
  uint64_t xattrs;
  char *path;
};

struct level {
  int fd;        /* -1: the directory is not there, and nothing below it is looked at */
  size_t names;  /* where its names begin in verify.names */
  size_t path;   /* length of the path of the directory that holds it */
};

struct verify {
  struct failure *failure;
  int manifest;
  char *buffer; /* of the manifest; a line is handed out in place */
  size_t at, have;
  int manifest_damaged;

  struct level levels[MANIFEST_DEPTH];
  unsigned depth;
  uint64_t *names; /* hashes of what the manifest lists in the directories that are open */
  size_t names_len, names_size;
  ino_t *groups;
  size_t group_count, group_slots;
  char path[PATH_MAX + NAME_MAX + 2];
  size_t path_len;

  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct job queue[QUEUE];
  unsigned queued, taken;
  int ended, failed_errno;
  uint64_t checked, damaged, bytes;
};

/* ---- findings ---- */

static void print_escaped(const char *text)
{
  for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
    if (*p > ' ' && *p != '%' && *p < 0x7f)
      putchar(*p);
    else
      printf("%%%02X", *p);
  }
}

static int damage(struct verify *v, const char *word, const char *path)
{
  pthread_mutex_lock(&v->lock);
  if (v->damaged++ < FINDINGS_MAX) {
    printf("damage %s ", word);
    print_escaped(path[0] ? path : ".");
    putchar('\n');
  }
  pthread_mutex_unlock(&v->lock);
  return 0;
}

/* What the disk cannot read is damage, too; all else means that this process could not look. */
static int unreadable(struct verify *v, const char *path)
{
  if (errno == EIO || errno == EUCLEAN || errno == EBADMSG || errno == ENODATA)
    return damage(v, "unreadable", path);
  return fail(v->failure, "verify", errno, path);
}

/* ---- the threads that read contents ---- */

static void check_contents(struct verify *v, struct content_hash *hash, const struct job *job)
{
  uint8_t content[CONTENT_BYTES];
  uint64_t xattrs, bytes = 0;
  if (content_of_file(hash, job->fd, content, &bytes) < 0 || content_of_xattrs(job->fd, &xattrs) < 0) {
    const int err = errno;
    if (err == EIO || err == EUCLEAN || err == EBADMSG || err == ENODATA)
      damage(v, "unreadable", job->path);
    else
      v->failed_errno = err;
  } else if (memcmp(content, job->content, CONTENT_BYTES) != 0) {
    damage(v, "content", job->path);
  } else if (xattrs != job->xattrs) {
    damage(v, "xattrs", job->path);
  }
  pthread_mutex_lock(&v->lock);
  v->bytes += bytes;
  pthread_mutex_unlock(&v->lock);
}

static void *read_files(void *arg)
{
  struct verify *v = arg;
  struct content_hash *hash = content_new();
  if (!hash)
    v->failed_errno = ENOMEM;
  pthread_mutex_lock(&v->lock);
  for (;;) {
    while (v->queued == v->taken && !v->ended)
      pthread_cond_wait(&v->changed, &v->lock);
    if (v->queued == v->taken)
      break;
    const struct job job = v->queue[v->taken++ % QUEUE];
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    if (hash)
      check_contents(v, hash, &job);
    close(job.fd);
    free(job.path);
    pthread_mutex_lock(&v->lock);
  }
  pthread_mutex_unlock(&v->lock);
  content_free(hash);
  return NULL;
}

static void hand_over(struct verify *v, const struct job *job)
{
  pthread_mutex_lock(&v->lock);
  while (v->queued - v->taken == QUEUE)
    pthread_cond_wait(&v->changed, &v->lock);
  v->queue[v->queued++ % QUEUE] = *job;
  pthread_cond_broadcast(&v->changed);
  pthread_mutex_unlock(&v->lock);
}

/* ---- the manifest's text ---- */

/* The next line without its newline, NUL at its end; NULL at the end of the file and when a line is too long. */
static char *next_line(struct verify *v)
{
  for (;;) {
    char *newline = memchr(v->buffer + v->at, '\n', v->have - v->at);
    if (newline) {
      char *line = v->buffer + v->at;
      *newline = 0;
      v->at = (size_t)(newline + 1 - v->buffer);
      return line;
    }
    memmove(v->buffer, v->buffer + v->at, v->have - v->at);
    v->have -= v->at;
    v->at = 0;
    ssize_t n = v->have < LINE_BYTES ? read(v->manifest, v->buffer + v->have, LINE_BYTES - v->have) : 0;
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return NULL;
    v->have += (size_t)n;
  }
}

/* Splits at blanks; the number of fields, or 0 when there are too many. */
static size_t split(char *line, char *fields[FIELDS_MAX])
{
  size_t n = 0;
  for (char *at = line; at && n < FIELDS_MAX;) {
    fields[n++] = at;
    at = strchr(at, ' ');
    if (at)
      *at++ = 0;
    else
      return n;
  }
  return 0;
}

static int parse_uint(const char *text, unsigned base, uint64_t max, uint64_t *out)
{
  uint64_t value = 0;
  if (!*text)
    return -1;
  for (const char *p = text; *p; p++) {
    const unsigned digit = (unsigned char)*p - '0';
    if (digit >= base || value > (max - digit) / base)
      return -1;
    value = value * base + digit;
  }
  *out = value;
  return 0;
}

static int hex_digit(char c)
{
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_hex(const char *text, uint8_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    const int high = hex_digit(text[2 * i]), low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
    if (low < 0)
      return -1;
    out[i] = (uint8_t)(high << 4 | low);
  }
  return text[2 * n] ? -1 : 0;
}

/* In place. */
static int unescape(char *text)
{
  char *to = text;
  for (const char *p = text; *p; p++) {
    if (*p != '%') {
      *to++ = *p;
      continue;
    }
    const int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);
    if (low < 0 || (high == 0 && low == 0))
      return -1;
    *to++ = (char)(high << 4 | low);
    p += 2;
  }
  *to = 0;
  return 0;
}

static int parse_mtime(char *text, struct timespec *out)
{
  char *dot = strchr(text, '.');
  uint64_t seconds, ns;
  const int negative = text[0] == '-';
  if (!dot)
    return -1;
  *dot = 0;
  if (parse_uint(text + negative, 10, INT64_MAX, &seconds) < 0 || parse_uint(dot + 1, 10, 999999999, &ns) < 0)
    return -1;
  *out = (struct timespec){.tv_sec = negative ? -(int64_t)seconds : (int64_t)seconds, .tv_nsec = (long)ns};
  return 0;
}

/* One line of the manifest, as numbers. */
struct object {
  char type;
  uint64_t mode, uid, gid, xattrs, size, links, group, major, minor;
  struct timespec mtime;
  uint8_t content[CONTENT_BYTES];
  char *name, *target;
};

static int parse_attributes(char **f, struct object *o)
{
  uint8_t xattrs[8] = {0};
  o->type = f[0][0];
  o->name = f[6];
  if (f[0][1] || parse_uint(f[1], 8, 07777, &o->mode) < 0 || parse_uint(f[2], 10, UINT32_MAX, &o->uid) < 0 ||
      parse_uint(f[3], 10, UINT32_MAX, &o->gid) < 0 || parse_mtime(f[4], &o->mtime) < 0 ||
      (strcmp(f[5], "-") != 0 && parse_hex(f[5], xattrs, sizeof xattrs) < 0) || unescape(o->name) < 0)
    return -1;
  for (size_t i = 0; i < sizeof xattrs; i++)
    o->xattrs = o->xattrs << 8 | xattrs[i];
  return o->name[0] && strlen(o->name) <= NAME_MAX && !strchr(o->name, '/') && strcmp(o->name, "..") != 0 ? 0 : -1;
}

static int parse_device(char *text, struct object *o)
{
  char *colon = strchr(text, ':');
  if (!colon)
    return -1;
  *colon = 0;
  return parse_uint(text, 10, UINT32_MAX, &o->major) < 0 ? -1 : parse_uint(colon + 1, 10, UINT32_MAX, &o->minor);
}

static int parse_object(char *line, struct object *o)
{
  char *f[FIELDS_MAX];
  const size_t n = split(line, f);
  memset(o, 0, sizeof *o);
  if (n < 7 || parse_attributes(f, o) < 0)
    return -1;
  switch (o->type) {
  case 'd':
  case 'p': return n == 7 ? 0 : -1;
  case 'l': o->target = f[7]; return n == 8 ? unescape(f[7]) : -1;
  case 'c':
  case 'b': return n == 8 ? parse_device(f[7], o) : -1;
  case 'f':
    if (n != 11 || parse_uint(f[7], 10, INT64_MAX, &o->size) < 0 || parse_hex(f[8], o->content, CONTENT_BYTES) < 0 ||
        parse_uint(f[9], 10, UINT32_MAX, &o->links) < 0)
      return -1;
    return strcmp(f[10], "-") == 0 ? 0 : parse_uint(f[10], 10, UINT32_MAX, &o->group);
  default: return -1;
  }
}

/* Whether the last line fits all that is before it. 1, 0 or -1. Leaves the file at its beginning. */
static int manifest_is_whole(struct verify *v)
{
  struct content_hash *hash = content_new();
  uint64_t objects = 0, want;
  uint8_t found[CONTENT_BYTES], expected[CONTENT_BYTES];
  int whole = 0, lines = 0;
  char *line, *f[FIELDS_MAX];
  if (!hash)
    return fail(v->failure, "memory", ENOMEM, NULL);
  content_start(hash);
  while (!whole && (line = next_line(v))) {
    if (strncmp(line, "end ", 4) == 0) {
      content_end(hash, found);
      whole = split(line, f) == 3 && parse_uint(f[1], 10, UINT64_MAX, &want) == 0 && want == objects &&
              parse_hex(f[2], expected, CONTENT_BYTES) == 0 && memcmp(found, expected, CONTENT_BYTES) == 0;
      break;
    }
    objects += lines++ > 0 && strcmp(line, "u") != 0;
    content_data(hash, (const uint8_t *)line, strlen(line));
    content_data(hash, (const uint8_t *)"\n", 1);
  }
  whole = whole && !next_line(v) && v->have == v->at;
  content_free(hash);
  v->at = v->have = 0;
  return lseek(v->manifest, 0, SEEK_SET) < 0 ? fail(v->failure, "manifest", errno, NULL) : whole;
}

/* ---- what is remembered of the directories on the way ---- */

static int remember_name(struct verify *v, const char *name)
{
  if (v->names_len == v->names_size) {
    const size_t size = v->names_size ? v->names_size * 2 : 4096;
    void *more = reallocarray(v->names, size, sizeof *v->names);
    if (!more)
      return fail(v->failure, "memory", ENOMEM, v->path);
    v->names = more;
    v->names_size = size;
  }
  v->names[v->names_len++] = content_of_name(name, strlen(name));
  return 0;
}

static void path_append(struct verify *v, const char *name)
{
  const size_t len = strlen(name);
  if (v->path_len + 1 + len >= sizeof v->path)
    return; /* no unpacked layer has such a path: it is cut off where it is told */
  if (v->path_len > 0)
    v->path[v->path_len++] = '/';
  memcpy(v->path + v->path_len, name, len + 1);
  v->path_len += len;
}

static void path_cut(struct verify *v, size_t len)
{
  v->path[len] = 0;
  v->path_len = len;
}

static int by_value(const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static int is_foreign(const struct verify *v, const struct level *in, const char *name)
{
  const uint64_t hash = content_of_name(name, strlen(name));
  if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))
    return 0;
  if (v->names_len == in->names) /* nothing is listed, and there may be no list */
    return 1;
  return !bsearch(&hash, v->names + in->names, v->names_len - in->names, sizeof hash, by_value);
}

/* All names in the directory that is being left are in the manifest. 0 or -1. */
static int check_foreign(struct verify *v, const struct level *in)
{
  static char list[LIST_BYTES] __attribute__((aligned(8)));
  if (v->names_len > in->names)
    qsort(v->names + in->names, v->names_len - in->names, sizeof *v->names, by_value);
  for (;;) {
    ssize_t n = getdents64(in->fd, list, sizeof list);
    if (n <= 0)
      return n < 0 ? unreadable(v, v->path) : 0;
    for (ssize_t at = 0; at < n; at += ((struct dirent64 *)(list + at))->d_reclen) {
      const char *name = ((struct dirent64 *)(list + at))->d_name;
      if (!is_foreign(v, in, name))
        continue;
      const size_t len = v->path_len;
      path_append(v, name);
      damage(v, "foreign", v->path);
      path_cut(v, len);
    }
  }
}

/* ---- one object ---- */

/* Whether the file is one with those of its group seen before; `*seen` when there were any. -1 when the manifest is wrong. */
static int same_group(struct verify *v, const struct object *o, ino_t ino, int *seen)
{
  *seen = 0;
  if (o->group == 0)
    return 1;
  if (o->group <= v->group_count) {
    *seen = 1;
    return v->groups[o->group - 1] == ino;
  }
  if (o->group != v->group_count + 1)
    return -1;
  if (v->group_count == v->group_slots) {
    const size_t slots = v->group_slots ? v->group_slots * 2 : 1024;
    void *more = reallocarray(v->groups, slots, sizeof *v->groups);
    if (!more)
      return fail(v->failure, "memory", ENOMEM, v->path);
    v->groups = more;
    v->group_slots = slots;
  }
  v->groups[v->group_count++] = ino;
  return 1;
}

static mode_t type_of(char type)
{
  switch (type) {
  case 'd': return S_IFDIR;
  case 'f': return S_IFREG;
  case 'l': return S_IFLNK;
  case 'c': return S_IFCHR;
  case 'b': return S_IFBLK;
  default: return S_IFIFO;
  }
}

/* The word for the first thing that differs, or NULL. */
static const char *difference(const struct object *o, const struct stat *st)
{
  if ((st->st_mode & S_IFMT) != type_of(o->type))
    return "type";
  if (o->type == 'f' && (uint64_t)st->st_size != o->size)
    return "size";
  if ((st->st_mode & 07777) != o->mode)
    return "mode";
  if (st->st_uid != o->uid || st->st_gid != o->gid)
    return "owner";
  if (st->st_mtim.tv_sec != o->mtime.tv_sec || st->st_mtim.tv_nsec != o->mtime.tv_nsec)
    return "mtime";
  if ((o->type == 'c' || o->type == 'b') && (major(st->st_rdev) != o->major || minor(st->st_rdev) != o->minor))
    return "device";
  return o->type == 'f' && st->st_nlink != o->links ? "links" : NULL;
}

static int check_file(struct verify *v, int dir, const struct object *o, const struct stat *st)
{
  int seen;
  const int same = same_group(v, o, st->st_ino, &seen);
  if (same < 0)
    return v->failure->step ? -1 : (v->manifest_damaged = 1, 0);
  if (!same)
    return damage(v, "links", v->path);
  if (seen)
    return 0; /* read under its first name */
  struct job job = {.xattrs = o->xattrs, .path = strdup(v->path)};
  memcpy(job.content, o->content, CONTENT_BYTES);
  if (!job.path)
    return fail(v->failure, "memory", ENOMEM, v->path);
  job.fd = openat(dir, o->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
  if (job.fd >= 0) {
    hand_over(v, &job);
    return 0;
  }
  free(job.path);
  return unreadable(v, v->path);
}

static int check_link(struct verify *v, int dir, const struct object *o)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat(dir, o->name, target, sizeof target - 1);
  if (n < 0)
    return unreadable(v, v->path);
  target[n] = 0;
  return strcmp(target, o->target) == 0 ? 0 : damage(v, "link", v->path);
}

/* The directory's own attributes; its fd, -1 when there is none to look into, or -2. */
static int check_directory(struct verify *v, int dir, const struct object *o)
{
  uint64_t xattrs;
  int fd = openat(dir, o->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  if (fd < 0)
    return unreadable(v, v->path) < 0 ? -2 : -1;
  if (content_of_xattrs(fd, &xattrs) < 0) {
    if (unreadable(v, v->path) < 0) {
      close(fd);
      return -2;
    }
  } else if (xattrs != o->xattrs) {
    damage(v, "xattrs", v->path);
  }
  return fd;
}

/* Looks at `o` in `dir`; for a directory `*into` becomes its fd, or -1 when there is nothing to look into. 0 or -1. */
static int check_object(struct verify *v, int dir, const struct object *o, int *into)
{
  struct stat st;
  *into = -1;
  v->checked++;
  if (fstatat(dir, o->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? damage(v, "missing", v->path) : unreadable(v, v->path);
  const char *word = difference(o, &st);
  if (word)
    damage(v, word, v->path);
  if (o->type == 'd' && S_ISDIR(st.st_mode)) {
    *into = check_directory(v, dir, o);
    return *into == -2 ? -1 : 0;
  }
  if (word)
    return 0;
  return o->type == 'f' ? check_file(v, dir, o, &st) : o->type == 'l' ? check_link(v, dir, o) : 0;
}

/* ---- the walk ---- */

static int enter(struct verify *v, int fd, size_t path)
{
  if (v->depth == MANIFEST_DEPTH) {
    if (fd >= 0)
      close(fd);
    v->manifest_damaged = 1;
    return 0;
  }
  v->levels[v->depth++] = (struct level){.fd = fd, .names = v->names_len, .path = path};
  return 0;
}

static int leave(struct verify *v)
{
  const struct level *in = &v->levels[--v->depth];
  const int result = in->fd < 0 ? 0 : check_foreign(v, in);
  if (in->fd >= 0)
    close(in->fd);
  v->names_len = in->names;
  path_cut(v, in->path);
  return result;
}

static int take_object(struct verify *v, int root, struct object *o)
{
  const size_t path = v->path_len;
  const int is_root = v->depth == 0, dir = is_root ? root : v->levels[v->depth - 1].fd;
  int into = -1;
  if (is_root != (strcmp(o->name, ".") == 0) || (is_root && (o->type != 'd' || v->checked > 0))) {
    v->manifest_damaged = 1;
    return 0;
  }
  if (!is_root && remember_name(v, o->name) < 0)
    return -1;
  if (!is_root)
    path_append(v, o->name);
  if (dir >= 0 && check_object(v, dir, o, &into) < 0)
    return -1;
  if (o->type == 'd')
    return enter(v, into, path);
  path_cut(v, path);
  return 0;
}

static int walk(struct verify *v, int root)
{
  struct object o;
  char *line = next_line(v);
  v->manifest_damaged = !line || strcmp(line, "berth-manifest 1") != 0;
  while (!v->manifest_damaged && (line = next_line(v)) && strncmp(line, "end ", 4) != 0) {
    int result = 0;
    if (strcmp(line, "u") == 0 && v->depth > 0)
      result = leave(v);
    else if (parse_object(line, &o) == 0)
      result = take_object(v, root, &o);
    else
      v->manifest_damaged = 1;
    if (result < 0)
      return -1;
  }
  v->manifest_damaged |= !line || v->depth != 0 || v->checked == 0;
  return 0;
}

static unsigned thread_count(void)
{
  cpu_set_t set;
  const int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return cpus < 2 ? 2 : cpus > THREADS_MAX ? THREADS_MAX : (unsigned)cpus; /* two, so that one computes while one waits */
}

static int walk_with_threads(struct verify *v, int root)
{
  pthread_t threads[THREADS_MAX];
  unsigned started = 0;
  const unsigned want = thread_count();
  int err = 0;
  while (started < want && (err = pthread_create(&threads[started], NULL, read_files, v)) == 0)
    started++;
  int result = started == 0 ? fail(v->failure, "thread", err, NULL) : walk(v, root);
  pthread_mutex_lock(&v->lock);
  v->ended = 1;
  pthread_cond_broadcast(&v->changed);
  pthread_mutex_unlock(&v->lock);
  for (unsigned i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  return result == 0 && v->failed_errno ? fail(v->failure, "verify", v->failed_errno, NULL) : result;
}

static int verify_and_print(struct verify *v, int root)
{
  const int whole = manifest_is_whole(v);
  if (whole < 0 || (whole && walk_with_threads(v, root) < 0))
    return -1;
  if (!whole || v->manifest_damaged)
    puts("manifest damaged");
  printf("checked %" PRIu64 "\ndamaged %" PRIu64 "\nbytes %" PRIu64 "\n", v->checked, v->damaged, v->bytes);
  return fflush(stdout) == 0 ? 0 : fail(v->failure, "summary", errno, NULL);
}

int manifest_verify(int root, int fd, struct failure *f)
{
  struct stat st;
  if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_SET) < 0)
    return fail(f, "manifest", EINVAL, NULL);
  struct verify *v = calloc(1, sizeof *v);
  char *buffer = malloc(LINE_BYTES);
  if (!v || !buffer) {
    free(v);
    free(buffer);
    return fail(f, "memory", ENOMEM, NULL);
  }
  v->failure = f;
  v->manifest = fd;
  v->buffer = buffer;
  pthread_mutex_init(&v->lock, NULL);
  pthread_cond_init(&v->changed, NULL);
  const int result = verify_and_print(v, root);
  while (v->depth > 0)
    if (v->levels[--v->depth].fd >= 0)
      close(v->levels[v->depth].fd);
  free(v->names);
  free(v->groups);
  free(v->buffer);
  free(v);
  return result;
}
