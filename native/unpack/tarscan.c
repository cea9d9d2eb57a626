#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "tarscan.h"
#include "hash.h"
#include "tar.h"
#include "tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { LINKS_MAX = 40, ROOT = 0 };
#define NOTHING UINT32_MAX

/* What is in the archive once. Nodes are numbers, since their table moves while it grows; texts are, too. */
struct node {
  uint32_t parent, first_child, next;
  mode_t mode; /* with the type */
  uid_t uid;
  gid_t gid;
  struct timespec mtime;
  uint64_t size, data; /* where the contents are in the archive */
  size_t name, target;
};

struct archive {
  int fd;
  uint64_t size, at; /* of the file; where the buffer ends in it */
  size_t from, len;  /* what of the buffer is still to be read */
  uint8_t buffer[64 * 1024];

  struct node *nodes;
  uint32_t count, slots;
  char *texts;
  size_t texts_len, texts_size;
  uint32_t *table; /* by parent and name: numbers of nodes, or NOTHING */
  uint32_t table_size;
  uint64_t seed; /* names are whoever's */
};

/* ---- bytes ---- */

static const uint8_t *peek(void *from, size_t *len, struct failure *f)
{
  struct archive *a = from;
  if (a->from == a->len) {
    ssize_t n;
    do
      n = pread(a->fd, a->buffer, sizeof a->buffer, (off_t)a->at);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
      fail(f, "read", errno, NULL);
      return NULL;
    }
    a->from = 0;
    a->len = (size_t)n;
    a->at += (uint64_t)n;
  }
  *len = a->len - a->from;
  return a->buffer + a->from;
}

static void consume(void *from, size_t n)
{
  ((struct archive *)from)->from += n;
}

static uint64_t position(const struct archive *a)
{
  return a->at - (a->len - a->from);
}

/* Goes on behind the contents of the entry without reading them. -1: the file ends before. */
static int skip_contents(struct archive *a, struct tar *tar)
{
  const uint64_t here = position(a);
  if (tar->data_left > a->size - here)
    return -1;
  if (tar->data_left > a->len - a->from) {
    a->at = here + tar->data_left;
    a->from = a->len = 0;
    tar->data_left = 0;
  }
  return 0;
}

/* ---- the table ---- */

static const char *text_at(const struct archive *a, size_t at)
{
  return a->texts + at;
}

static int keep_text(struct archive *a, const char *text, size_t len, size_t *at)
{
  if (a->texts_size - a->texts_len <= len) {
    const size_t size = 2 * a->texts_size + len + 64 * 1024;
    char *more = realloc(a->texts, size);
    if (!more)
      return -1;
    a->texts = more;
    a->texts_size = size;
  }
  *at = a->texts_len;
  memcpy(a->texts + a->texts_len, text, len);
  a->texts[a->texts_len + len] = 0;
  a->texts_len += len + 1;
  return 0;
}

static uint32_t *slot_of(const struct archive *a, uint32_t parent, const char *name, size_t len)
{
  uint32_t i = (uint32_t)XXH3_64bits_withSeed(name, len, a->seed ^ parent) & (a->table_size - 1);
  for (;; i = (i + 1) & (a->table_size - 1)) {
    const uint32_t found = a->table[i];
    if (found == NOTHING)
      return &a->table[i];
    const struct node *n = &a->nodes[found];
    const char *other = text_at(a, n->name);
    if (n->parent == parent && strncmp(other, name, len) == 0 && other[len] == 0)
      return &a->table[i];
  }
}

static int grow_table(struct archive *a)
{
  const uint32_t size = a->table_size ? a->table_size * 2 : 1024;
  uint32_t *table = malloc(size * sizeof *table);
  if (!table)
    return -1;
  free(a->table);
  a->table = table;
  a->table_size = size;
  memset(table, 0xff, size * sizeof *table);
  for (uint32_t i = ROOT + 1; i < a->count; i++)
    *slot_of(a, a->nodes[i].parent, text_at(a, a->nodes[i].name), strlen(text_at(a, a->nodes[i].name))) = i;
  return 0;
}

static int grow(struct archive *a)
{
  if (a->count == a->slots) {
    const uint32_t slots = a->slots ? a->slots * 2 : 1024;
    void *more = slots > ENTRIES_MAX ? NULL : reallocarray(a->nodes, slots, sizeof *a->nodes);
    if (!more)
      return -1;
    a->nodes = more;
    a->slots = slots;
  }
  return a->count < a->table_size / 2 ? 0 : grow_table(a);
}

static uint32_t child_of(const struct archive *a, uint32_t parent, const char *name, size_t len)
{
  return *slot_of(a, parent, name, len);
}

/* ---- reading: -1 for all that is not regular ---- */

/* The directory that holds `path`, which an entry before this one must have made; `*name` is the last component. */
static uint32_t parent_of(const struct archive *a, const char *path, const char **name)
{
  uint32_t at = ROOT;
  unsigned depth = 0;
  for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
    at = child_of(a, at, path, (size_t)(slash - path));
    if (at == NOTHING || !S_ISDIR(a->nodes[at].mode) || ++depth >= DEPTH_MAX)
      return NOTHING;
  }
  *name = path;
  return at;
}

static mode_t type_of(const struct tar_entry *e)
{
  switch (e->type) {
  case TAR_FILE: return e->sparse ? 0 : S_IFREG;
  case TAR_DIR: return S_IFDIR;
  case TAR_SYMLINK: return e->link[0] && strlen(e->link) < PATH_LIMIT ? S_IFLNK : 0;
  case TAR_FIFO: return e->mode & (S_ISUID | S_ISGID) ? 0 : S_IFIFO; /* a change of owner takes these away */
  default: return 0;
  }
}

static int is_plain_name(const char *name, size_t len)
{
  return len > 0 && len <= NAME_MAX && strncmp(name, ".wh.", 4) != 0;
}

static int add(struct archive *a, struct tar *tar, const struct tar_entry *e)
{
  char path[PATH_LIMIT + 1];
  const char *name;
  const mode_t type = type_of(e);
  if (!type || e->xattr_count > 0 || clean_path(e->path, path) < 0 || path[0] == 0 || grow(a) < 0)
    return -1;
  const uint32_t parent = parent_of(a, path, &name);
  const size_t len = parent == NOTHING ? 0 : strlen(name);
  struct node n = {.parent = parent,
                   .first_child = NOTHING,
                   .mode = type | (type == S_IFLNK ? 0777 : e->mode),
                   .uid = e->uid,
                   .gid = e->gid,
                   .mtime = {.tv_sec = e->mtime_seconds, .tv_nsec = e->mtime_ns},
                   .size = e->size,
                   .data = position(a)};
  if (!is_plain_name(name, len) || child_of(a, parent, name, len) != NOTHING)
    return -1;
  if (keep_text(a, name, len, &n.name) < 0 || keep_text(a, e->link, strlen(e->link), &n.target) < 0)
    return -1;
  n.next = a->nodes[parent].first_child;
  a->nodes[parent].first_child = a->count;
  a->nodes[a->count] = n;
  *slot_of(a, parent, name, len) = a->count++;
  return skip_contents(a, tar);
}

/* What a directory is that an archive is unpacked into (tree_start). */
static int add_root(struct archive *a)
{
  struct node root = {.parent = ROOT, .first_child = NOTHING, .next = NOTHING, .mode = S_IFDIR | 0755};
  if (grow(a) < 0 || keep_text(a, "", 0, &root.name) < 0)
    return -1;
  root.target = root.name;
  a->nodes[a->count++] = root;
  return 0;
}

static int read_all(struct archive *a)
{
  static struct tar_entry entry;
  struct failure ignored; /* unpacking says it better */
  struct tar tar;
  struct stat st;
  int more;
  if (fstat(a->fd, &st) < 0 || getrandom(&a->seed, sizeof a->seed, 0) != sizeof a->seed || add_root(a) < 0)
    return -1;
  a->size = (uint64_t)st.st_size;
  tar_start(&tar, (struct tar_input){.from = a, .peek = peek, .consume = consume}, &ignored);
  while ((more = tar_next(&tar, &entry)) > 0 && (more = add(a, &tar, &entry)) == 0)
    ;
  tar_end(&tar);
  return more;
}

/* ---- looking up ---- */

struct way {
  uint32_t at;
  char todo[2 * PATH_MAX];
  unsigned links;
};

/* Puts a link's target before what is left. -1: too long for this, not for a kernel. */
static int follow(struct way *w, const char *target, const char *rest)
{
  char all[sizeof w->todo];
  const int len = snprintf(all, sizeof all, "%s%s", target, rest);
  if (len < 0 || (size_t)len >= sizeof all)
    return -1;
  memcpy(w->todo, all, (size_t)len + 1);
  w->at = target[0] == '/' ? ROOT : w->at;
  return 0;
}

/*
 * As openat2(2) does it with RESOLVE_IN_ROOT. Sets *found, or to NOTHING where nothing is. -1 for what is not regular.
 */
static int resolve(const struct archive *a, const char *path, uint32_t *found)
{
  struct way w = {.at = ROOT};
  *found = NOTHING;
  if (follow(&w, path, "") < 0)
    return -1;
  for (;;) {
    const char *name = w.todo + strspn(w.todo, "/");
    const size_t len = strcspn(name, "/");
    const char *rest = name + len;
    if (len == 0)
      break;
    uint32_t next = len == 1 && name[0] == '.'                     ? w.at
                    : len == 2 && name[0] == '.' && name[1] == '.' ? a->nodes[w.at].parent
                                                                   : child_of(a, w.at, name, len);
    if (len > NAME_MAX)
      return -1;
    if (next == NOTHING)
      return 0;
    const mode_t mode = a->nodes[next].mode;
    if (S_ISLNK(mode) && ++w.links > LINKS_MAX)
      return 0;
    if (!S_ISLNK(mode) && !S_ISDIR(mode) && rest[0])
      return 0;
    w.at = S_ISLNK(mode) ? w.at : next;
    if (follow(&w, S_ISLNK(mode) ? text_at(a, a->nodes[next].target) : "", rest) < 0)
      return -1;
  }
  *found = w.at;
  return 0;
}

/* ---- saying ---- */

struct telling {
  const struct archive *archive;
  const struct scan *s;
  struct failure *failure;
  uint64_t entries;
  char name[PATH_LIMIT + 1];
  uint8_t buffer[256 * 1024];
};

static int digest_of(struct telling *k, const struct node *n, char digest[DIGEST_TEXT])
{
  struct hash hash;
  hash_start(&hash, HASH_SHA256);
  for (uint64_t done = 0; done < n->size;) {
    const uint64_t left = n->size - done;
    const size_t want = left < sizeof k->buffer ? (size_t)left : sizeof k->buffer;
    const ssize_t got = pread(k->archive->fd, k->buffer, want, (off_t)(n->data + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return fail(k->failure, "read", got < 0 ? errno : EIO, k->name);
    hash_update(&hash, k->buffer, (size_t)got);
    done += (uint64_t)got;
  }
  hash_finish(&hash, digest);
  return 0;
}

static int tell(struct telling *k, uint32_t number)
{
  const struct node *n = &k->archive->nodes[number];
  const struct stat st = {.st_mode = n->mode,
                          .st_uid = n->uid,
                          .st_gid = n->gid,
                          .st_mtim = n->mtime,
                          .st_size = (off_t)n->size,
                          .st_ino = number + 1,
                          .st_nlink = 1};
  char digest[DIGEST_TEXT] = "-";
  if (k->entries++ == k->s->most)
    return fail(k->failure, "entries", E2BIG, NULL);
  if (S_ISREG(n->mode) && k->s->hash && digest_of(k, n, digest) < 0)
    return -1;
  scan_line(&st, 0, digest, k->name, S_ISLNK(n->mode) ? text_at(k->archive, n->target) : NULL);
  return 0;
}

/* The node and, unless it is shallow, all below it. */
static int tell_all(struct telling *k, uint32_t number)
{
  const struct archive *a = k->archive;
  const size_t at = strlen(k->name);
  if (tell(k, number) < 0)
    return -1;
  for (uint32_t child = k->s->shallow ? NOTHING : a->nodes[number].first_child; child != NOTHING;
       child = a->nodes[child].next) {
    snprintf(k->name + at, sizeof k->name - at, "%s%s", at > 0 ? "/" : "", text_at(a, a->nodes[child].name));
    if (tell_all(k, child) < 0)
      return -1;
    k->name[at] = 0;
  }
  return 0;
}

static int tell_paths(struct telling *k, const uint32_t *found)
{
  for (size_t i = 0; i < k->s->path_count; i++) {
    scan_head(found[i] == NOTHING ? "missing" : "at", k->s->paths[i]);
    k->name[0] = 0;
    if (found[i] != NOTHING && tell_all(k, found[i]) < 0)
      return -1;
  }
  return 0;
}

/* Nothing has been said before all of it is known to be regular. */
static int find_all(struct archive *a, const struct scan *s, uint32_t *found)
{
  if (read_all(a) < 0)
    return -1;
  for (size_t i = 0; i < s->path_count; i++)
    if (resolve(a, s->paths[i], &found[i]) < 0)
      return -1;
  return 0;
}

int scan_tar(const struct scan *s, int fd, struct failure *f)
{
  struct archive *a = calloc(1, sizeof *a);
  struct telling *k = calloc(1, sizeof *k);
  uint32_t *found = calloc(s->path_count + 1, sizeof *found);
  int result = a && k && found ? 0 : fail(f, "memory", ENOMEM, NULL);
  if (result == 0) {
    a->fd = fd;
    *k = (struct telling){.archive = a, .s = s, .failure = f};
    if (find_all(a, s, found) < 0)
      scan_head("irregular", "-");
    else
      result = tell_paths(k, found);
    free(a->nodes);
    free(a->texts);
    free(a->table);
  }
  free(a);
  free(k);
  free(found);
  return result == 0 && fflush(stdout) != 0 ? fail(f, "summary", errno, NULL) : result;
}
