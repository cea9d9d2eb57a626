#include "tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 };

/* The header block, byte for byte (POSIX.1-2017 pax, "ustar Interchange Format"). */
struct header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
  char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

/* The same block where old GNU tar keeps a sparse file's map, and the blocks that go on with it. */
struct gnu_segment {
  char at[12], len[12];
};
struct gnu_header {
  char before[386];
  struct gnu_segment segments[4];
  char extended, real_size[12], rest[17];
};
struct gnu_extension {
  struct gnu_segment segments[21];
  char extended, rest[7];
};
_Static_assert(sizeof(struct gnu_header) == BLOCK && sizeof(struct gnu_extension) == BLOCK, "one block each");

/* What GNU tar's PAX records said of a sparse file. */
struct sparse {
  int any;             /* there were some */
  int major, has_open; /* version 0.0: an offset whose length has not come yet */
  int has_size;
  char *name;
  int64_t size, open;
};

/* What PAX records and GNU long names said about the entry that follows. */
struct overrides {
  char *path, *link;
  struct sparse sparse;
  int has_size, has_uid, has_gid, has_mtime;
  int64_t size, uid, gid, mtime_seconds;
  long mtime_ns;
};

void tar_start(struct tar *t, struct tar_input in, struct failure *failure)
{
  memset(t, 0, sizeof *t);
  t->in = in;
  t->failure = failure;
}

void tar_end(struct tar *t)
{
  free(t->pax);
  free(t->segments);
  t->pax = NULL;
  t->segments = NULL;
}

static int bad(struct tar *t, const char *step, const char *path)
{
  return fail(t->failure, step, EBADMSG, path);
}

/* Copies up to `len` bytes; fewer only at the end of the stream. -1 on failure. */
static ssize_t take(struct tar *t, void *to, size_t len)
{
  size_t done = 0;
  while (done < len) {
    size_t n;
    const uint8_t *p = t->in.peek(t->in.from, &n, t->failure);
    if (!p)
      return -1;
    if (n == 0)
      break;
    if (n > len - done)
      n = len - done;
    if (to)
      memcpy((uint8_t *)to + done, p, n);
    t->in.consume(t->in.from, n);
    done += n;
  }
  return (ssize_t)done;
}

const uint8_t *tar_peek(struct tar *t, size_t *len)
{
  static const uint8_t nothing[1];
  *len = 0;
  if (t->data_left == 0)
    return nothing;
  const uint8_t *p = t->in.peek(t->in.from, len, t->failure);
  if (!p)
    return NULL;
  if (*len == 0) {
    bad(t, "truncated", NULL);
    return NULL;
  }
  if (*len > t->data_left)
    *len = (size_t)t->data_left;
  return p;
}

void tar_consume(struct tar *t, size_t n)
{
  t->data_left -= n;
  t->in.consume(t->in.from, n);
}

/* ---- numbers ---- */

/* Octal with blanks or NULs around it, or GNU base-256 when the first bit is set. 0 or -1. */
static int parse_number(const char *field, size_t len, int64_t *out)
{
  const uint8_t *p = (const uint8_t *)field;
  if (p[0] & 0x80) {
    const int negative = (p[0] & 0x40) != 0;
    uint64_t value = negative ? ~0ull : 0;
    for (size_t i = 0; i < len; i++) {
      const uint8_t byte = i > 0 ? p[i] : negative ? p[i] : p[i] & 0x7f;
      const uint64_t out_of_range = value >> 55; /* nine bits: the byte that leaves, and the sign */
      if (out_of_range != 0 && out_of_range != 0x1ff)
        return -1;
      value = value << 8 | byte;
    }
    if (negative != (int)(value >> 63))
      return -1;
    *out = (int64_t)value;
    return 0;
  }
  size_t i = 0, end = len;
  while (i < end && (p[i] == ' ' || p[i] == 0))
    i++;
  while (end > i && (p[end - 1] == ' ' || p[end - 1] == 0))
    end--;
  int64_t value = 0;
  for (; i < end; i++) {
    if (p[i] == 0)
      break; /* what follows a NUL is left over from older bytes */
    if (p[i] < '0' || p[i] > '7' || value >> 60)
      return -1;
    value = value << 3 | (p[i] - '0');
  }
  *out = value;
  return 0;
}

/* Decimal digits only. */
static int parse_decimal(const char *s, size_t len, int64_t *out)
{
  if (len == 0 || len > 18)
    return -1;
  int64_t value = 0;
  for (size_t i = 0; i < len; i++) {
    if (s[i] < '0' || s[i] > '9')
      return -1;
    value = value * 10 + (s[i] - '0');
  }
  *out = value;
  return 0;
}

/* `[-]seconds[.fraction]`, to the nanosecond below. */
static int parse_time(const char *s, size_t len, int64_t *seconds, long *ns)
{
  const int negative = len > 0 && s[0] == '-';
  s += negative, len -= (size_t)negative;
  const char *dot = memchr(s, '.', len);
  const size_t whole = dot ? (size_t)(dot - s) : len;
  if (parse_decimal(s, whole, seconds) < 0)
    return -1;
  long value = 0;
  const size_t digits = dot ? len - whole - 1 : 0;
  for (size_t i = 0; i < 9; i++) {
    if (i < digits && (dot[1 + i] < '0' || dot[1 + i] > '9'))
      return -1;
    value = value * 10 + (i < digits ? dot[1 + i] - '0' : 0);
  }
  if (negative) {
    *seconds = -*seconds - (value > 0);
    value = value > 0 ? 1000000000 - value : 0;
  }
  *ns = value;
  return 0;
}

/* ---- sparse files ---- */

static int bad_map(struct tar *t)
{
  return bad(t, "sparse", NULL);
}

static int add_segment(struct tar *t, int64_t at, int64_t len)
{
  if (t->segment_count == TAR_SEGMENTS_MAX)
    return fail(t->failure, "sparse-map", E2BIG, NULL);
  if (t->segment_count == t->segment_slots) {
    const size_t slots = t->segment_slots ? t->segment_slots * 2 : 64;
    void *more = reallocarray(t->segments, slots, sizeof *t->segments);
    if (!more)
      return fail(t->failure, "memory", ENOMEM, NULL);
    t->segments = more;
    t->segment_slots = slots;
  }
  t->segments[t->segment_count++] = (struct tar_segment){.at = (uint64_t)at, .len = (uint64_t)len};
  return 0;
}

/* The segments follow one another within the file, and are together what is stored of it. */
static int check_map(struct tar *t, uint64_t size, uint64_t stored)
{
  uint64_t end = 0, sum = 0;
  for (size_t i = 0; i < t->segment_count; i++) {
    const struct tar_segment *s = &t->segments[i];
    if (s->at < end || s->at > size || s->len > size - s->at)
      return bad_map(t);
    end = s->at + s->len;
    sum += s->len;
  }
  return sum == stored ? 0 : bad_map(t);
}

/* 1: the last of the list has been seen. */
static int add_gnu_segments(struct tar *t, const struct gnu_segment *s, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    int64_t at, len;
    if (s[i].at[0] == 0 || s[i].len[0] == 0)
      return 1;
    if (parse_number(s[i].at, sizeof s[i].at, &at) < 0 || parse_number(s[i].len, sizeof s[i].len, &len) < 0 || at < 0 ||
        len < 0)
      return bad_map(t);
    if (add_segment(t, at, len) < 0)
      return -1;
  }
  return 0;
}

/* The map that begins in the header and goes on in blocks after it. */
static int read_old_gnu_map(struct tar *t, const struct gnu_header *h, int64_t *real_size)
{
  struct gnu_extension more;
  if (parse_number(h->real_size, sizeof h->real_size, real_size) < 0 || *real_size < 0)
    return bad_map(t);
  t->segment_count = 0;
  int ended = add_gnu_segments(t, h->segments, 4);
  for (int extended = h->extended; extended && ended >= 0; extended = more.extended) {
    const ssize_t n = take(t, &more, BLOCK);
    if (n < 0)
      return -1;
    if (n < BLOCK)
      return bad(t, "truncated", NULL);
    if (ended == 0)
      ended = add_gnu_segments(t, more.segments, 21);
  }
  return ended < 0 ? -1 : 0;
}

/* One decimal number and its newline, out of the file's stored bytes. */
static int read_map_number(struct tar *t, int64_t *out)
{
  char digits[20];
  for (size_t n = 0; n < sizeof digits; n++) {
    size_t len;
    const uint8_t *p = tar_peek(t, &len);
    if (!p)
      return -1;
    if (len == 0)
      break;
    digits[n] = (char)*p;
    tar_consume(t, 1);
    if (digits[n] == '\n')
      return parse_decimal(digits, n, out) < 0 ? bad_map(t) : 0;
  }
  return bad_map(t);
}

/* PAX version 1.0: the map is the first of the stored bytes, up to a whole block. */
static int read_pax_map(struct tar *t)
{
  int64_t count, at, len;
  const uint64_t stored = t->data_left;
  t->segment_count = 0;
  if (read_map_number(t, &count) < 0)
    return -1;
  if (count > TAR_SEGMENTS_MAX)
    return fail(t->failure, "sparse-map", E2BIG, NULL);
  for (int64_t i = 0; i < count; i++)
    if (read_map_number(t, &at) < 0 || read_map_number(t, &len) < 0 || add_segment(t, at, len) < 0)
      return -1;
  for (uint64_t padding = -(stored - t->data_left) % BLOCK; padding > 0;) {
    size_t n;
    if (!tar_peek(t, &n))
      return -1;
    if (n == 0)
      return bad_map(t);
    n = n < padding ? n : (size_t)padding;
    tar_consume(t, n);
    padding -= n;
  }
  return 0;
}

/* PAX version 0.1: `offset,length,offset,length...` */
static int parse_map(struct tar *t, const char *value, size_t len)
{
  int64_t numbers[2];
  unsigned have = 0;
  t->segment_count = 0;
  for (const char *end = value + len; value <= end && len > 0;) {
    const char *comma = memchr(value, ',', (size_t)(end - value));
    const char *stop = comma ? comma : end;
    if (parse_decimal(value, (size_t)(stop - value), &numbers[have]) < 0)
      return bad_map(t);
    have = !have;
    if (!have && add_segment(t, numbers[0], numbers[1]) < 0)
      return -1;
    value = stop + 1;
  }
  return have ? bad_map(t) : 0;
}

/* `key` without GNU.sparse. */
static int apply_sparse_record(struct tar *t, struct sparse *s, const char *key, char *value, size_t len)
{
  int64_t number = 0;
  s->any = 1;
  if (strcmp(key, "map") == 0)
    return parse_map(t, value, len);
  if (strcmp(key, "name") == 0) {
    s->name = value;
    return memchr(value, 0, len) ? bad(t, "pax", NULL) : 0;
  }
  if (parse_decimal(value, len, &number) < 0)
    return bad_map(t);
  if (strcmp(key, "size") == 0 || strcmp(key, "realsize") == 0) {
    s->size = number, s->has_size = 1;
  } else if (strcmp(key, "major") == 0) {
    s->major = number == 1;
    return number > 1 ? fail(t->failure, "sparse-version", EOPNOTSUPP, NULL) : 0;
  } else if (strcmp(key, "offset") == 0) {
    s->open = number;
    return s->has_open++ ? bad_map(t) : 0;
  } else if (strcmp(key, "numbytes") == 0) {
    return s->has_open-- == 1 ? add_segment(t, s->open, number) : bad_map(t);
  }
  return 0; /* the number of segments says nothing new, and of version 1 there is 1.0 only */
}

/* ---- PAX ---- */

static int apply_record(struct tar *t, struct tar_entry *e, struct overrides *o, char *key, char *value, size_t len)
{
  static const char xattr[] = "SCHILY.xattr.";
  int ok = 0;
  if (strncmp(key, xattr, sizeof xattr - 1) == 0) {
    if (e->xattr_count == TAR_XATTRS_MAX)
      return bad(t, "pax-xattrs", NULL);
    e->xattrs[e->xattr_count++] =
        (struct tar_xattr){.name = key + sizeof xattr - 1, .value = (const uint8_t *)value, .len = len};
    return 0;
  }
  if (strncmp(key, "GNU.sparse.", 11) == 0)
    return apply_sparse_record(t, &o->sparse, key + 11, value, len);
  if (strcmp(key, "path") == 0 || strcmp(key, "linkpath") == 0) {
    if (memchr(value, 0, len))
      return bad(t, "pax", NULL);
    *(key[0] == 'p' ? &o->path : &o->link) = len > 0 ? value : NULL;
  } else if (strcmp(key, "size") == 0) {
    ok = parse_decimal(value, len, &o->size), o->has_size = 1;
  } else if (strcmp(key, "uid") == 0) {
    ok = parse_decimal(value, len, &o->uid), o->has_uid = 1;
  } else if (strcmp(key, "gid") == 0) {
    ok = parse_decimal(value, len, &o->gid), o->has_gid = 1;
  } else if (strcmp(key, "mtime") == 0) {
    ok = parse_time(value, len, &o->mtime_seconds, &o->mtime_ns), o->has_mtime = 1;
  }
  return ok < 0 ? bad(t, "pax", NULL) : 0;
}

/* Records are `<length> <key>=<value>\n`, the length counting itself; NULs are put in place of `=` and `\n`. */
static int parse_pax(struct tar *t, struct tar_entry *e, struct overrides *o)
{
  char *at = t->pax, *const end = t->pax + t->pax_len;
  while (at < end) {
    char *blank = memchr(at, ' ', (size_t)(end - at));
    int64_t len;
    if (!blank || parse_decimal(at, (size_t)(blank - at), &len) < 0 || len > end - at)
      return bad(t, "pax", NULL);
    char *const stop = at + len;
    if (stop < blank + 3 || stop[-1] != '\n') /* at least `=` and the newline after the blank */
      return bad(t, "pax", NULL);
    char *key = blank + 1;
    char *equals = memchr(key, '=', (size_t)(stop - 1 - key));
    if (!equals || equals == key || memchr(key, 0, (size_t)(equals - key)))
      return bad(t, "pax", NULL);
    *equals = 0;
    stop[-1] = 0;
    if (apply_record(t, e, o, key, equals + 1, (size_t)(stop - 1 - (equals + 1))) < 0)
      return -1;
    at = stop;
  }
  return 0;
}

/* ---- headers ---- */

static int is_zero(const void *block, size_t len)
{
  const uint8_t *p = block;
  return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int checksum_ok(const struct header *h)
{
  const uint8_t *p = (const uint8_t *)h;
  const size_t from = offsetof(struct header, checksum);
  int64_t want, plain = 0, with_sign = 0; /* old tars added signed bytes */
  for (size_t i = 0; i < BLOCK; i++) {
    const uint8_t byte = i >= from && i < from + 8 ? ' ' : p[i];
    plain += byte;
    with_sign += (int8_t)byte;
  }
  return parse_number(h->checksum, sizeof h->checksum, &want) == 0 && (want == plain || want == with_sign);
}

/* 1 with a header, 0 at the end of the archive, -1. A stream that ends where a header would begin is accepted. */
static int next_header(struct tar *t, struct header *h)
{
  ssize_t n = take(t, h, BLOCK);
  if (n <= 0)
    return (int)n;
  if (n < BLOCK)
    return bad(t, "truncated", NULL);
  if (!is_zero(h, BLOCK))
    return checksum_ok(h) ? 1 : bad(t, "checksum", NULL);
  for (;;) { /* the second block of zeros, and the padding that some writers add */
    size_t len;
    const uint8_t *p = t->in.peek(t->in.from, &len, t->failure);
    if (!p)
      return -1;
    if (len == 0)
      return 0;
    if (!is_zero(p, len))
      return bad(t, "garbage", NULL);
    t->in.consume(t->in.from, len);
  }
}

static int skip_rest(struct tar *t)
{
  while (t->data_left > 0) {
    size_t n;
    if (!tar_peek(t, &n))
      return -1;
    tar_consume(t, n);
  }
  ssize_t n = take(t, NULL, t->padding);
  if (n < 0)
    return -1;
  if (n > 0 && (size_t)n < t->padding)
    return bad(t, "truncated", NULL);
  t->padding = 0;
  return 0;
}

static void expect_data(struct tar *t, uint64_t size)
{
  t->data_left = size;
  t->padding = (unsigned)(-size % BLOCK);
}

static int header_size(struct tar *t, const struct header *h, int64_t *size)
{
  if (parse_number(h->size, sizeof h->size, size) == 0 && *size >= 0 && *size <= INT64_MAX - BLOCK)
    return 0;
  return bad(t, "size", NULL);
}

/* Reads the contents of an extension header into `*to`, NUL added; the old contents are freed. */
static int read_extension(struct tar *t, const struct header *h, int64_t limit, char **to, size_t *len)
{
  int64_t size;
  if (header_size(t, h, &size) < 0)
    return -1;
  if (size > limit)
    return fail(t->failure, "extension-size", E2BIG, NULL);
  free(*to);
  *to = malloc((size_t)size + 1);
  if (!*to)
    return fail(t->failure, "memory", ENOMEM, NULL);
  ssize_t n = take(t, *to, (size_t)size);
  if (n >= 0 && n < size)
    return bad(t, "truncated", NULL);
  if (n < 0)
    return -1;
  (*to)[size] = 0;
  *len = (size_t)size;
  expect_data(t, (uint64_t)size);
  t->data_left = 0;
  return skip_rest(t);
}

static int copy_name(struct tar *t, char out[PATH_LIMIT + 1], const char *head, size_t head_max, const char *tail,
                     size_t tail_max)
{
  const size_t a = head ? strnlen(head, head_max) : 0, b = strnlen(tail, tail_max);
  if (a + (a > 0) + b > PATH_LIMIT)
    return fail(t->failure, "name-length", ENAMETOOLONG, NULL);
  memcpy(out, head ? head : "", a);
  if (a > 0)
    out[a] = '/';
  memcpy(out + a + (a > 0), tail, b);
  out[a + (a > 0) + b] = 0;
  return 0;
}

static int entry_names(struct tar *t, const struct header *h, const struct overrides *o, struct tar_entry *e)
{
  const int ustar = memcmp(h->magic, "ustar\0", 6) == 0;
  const int star = ustar && memcmp(h->rest + 8, "tar\0", 4) == 0; /* star keeps times behind a shorter prefix */
  const int named =
      o->path ? copy_name(t, e->path, NULL, 0, o->path, PATH_MAX)
              : copy_name(t, e->path, ustar ? h->prefix : NULL, star ? 131 : sizeof h->prefix, h->name, sizeof h->name);
  if (named < 0)
    return -1;
  return o->link ? copy_name(t, e->link, NULL, 0, o->link, PATH_MAX)
                 : copy_name(t, e->link, NULL, 0, h->link, sizeof h->link);
}

/* Before POSIX a directory was a file whose name ends in a slash, and some writers still do that. */
static enum tar_type file_or_directory(const struct header *h, const struct overrides *o, const struct tar_entry *e)
{
  const size_t len = strlen(e->path);
  int64_t size = o->size;
  const int empty = (o->has_size || parse_number(h->size, sizeof h->size, &size) == 0) && size == 0;
  return len > 0 && e->path[len - 1] == '/' && (h->type == 0 || empty) ? TAR_DIR : TAR_FILE;
}

static int entry_type(struct tar *t, const struct header *h, const struct overrides *o, struct tar_entry *e)
{
  switch (h->type) {
  case 0:
  case '0':
  case '7': e->type = file_or_directory(h, o, e); return 0;
  case '1': e->type = TAR_HARDLINK; return 0;
  case '2': e->type = TAR_SYMLINK; return 0;
  case '3': e->type = TAR_CHAR; return 0;
  case '4': e->type = TAR_BLOCK; return 0;
  case '5': e->type = TAR_DIR; return 0;
  case '6': e->type = TAR_FIFO; return 0;
  case 'S': e->type = TAR_FILE; return 0;
  default: return fail(t->failure, "type", EOPNOTSUPP, e->path);
  }
}

static int entry_numbers(struct tar *t, const struct header *h, const struct overrides *o, struct tar_entry *e)
{
  int64_t mode, uid, gid, size, mtime, major = 0, minor = 0;
  if (parse_number(h->mode, sizeof h->mode, &mode) < 0 || parse_number(h->uid, sizeof h->uid, &uid) < 0 ||
      parse_number(h->gid, sizeof h->gid, &gid) < 0 || parse_number(h->mtime, sizeof h->mtime, &mtime) < 0)
    return bad(t, "number", e->path);
  if ((e->type == TAR_CHAR || e->type == TAR_BLOCK) &&
      (parse_number(h->major, sizeof h->major, &major) < 0 || parse_number(h->minor, sizeof h->minor, &minor) < 0 ||
       major < 0 || major > 0xfffff || minor < 0 || minor > 0xfffff))
    return bad(t, "device", e->path);
  if (header_size(t, h, &size) < 0)
    return -1;
  if (o->has_uid)
    uid = o->uid;
  if (o->has_gid)
    gid = o->gid;
  if (o->has_size)
    size = o->size;
  if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) /* the last one means "leave it" to chown */
    return bad(t, "owner", e->path);
  e->mode = (mode_t)(mode & 07777);
  e->uid = (uid_t)uid;
  e->gid = (gid_t)gid;
  e->mtime_seconds = o->has_mtime ? o->mtime_seconds : mtime;
  e->mtime_ns = o->has_mtime ? o->mtime_ns : 0;
  e->major = (unsigned)major;
  e->minor = (unsigned)minor;
  if (size > INT64_MAX - BLOCK)
    return bad(t, "size", e->path);
  e->size = e->type == TAR_FILE ? (uint64_t)size : 0; /* others have no contents, whatever the field says */
  return 0;
}

/* For the failures of a map, which know no name. */
static int name_failure(struct tar *t, const struct tar_entry *e)
{
  return t->failure->path[0] ? -1 : fail(t->failure, t->failure->step, t->failure->err, e->path);
}

/* Reads the map; what is left to read of the entry is then the contents of its segments. */
static int finish_sparse(struct tar *t, const struct header *h, const struct overrides *o, struct tar_entry *e)
{
  static const char gnu_magic[8] = "ustar  ";
  int64_t size = o->sparse.size;
  const int old = h->type == 'S';
  if (e->type != TAR_FILE || (old && (o->sparse.any || memcmp(h->magic, gnu_magic, sizeof gnu_magic) != 0)))
    return bad_map(t);
  if (old && read_old_gnu_map(t, (const struct gnu_header *)h, &size) < 0)
    return -1;
  expect_data(t, e->size);
  if (o->sparse.major == 1 && read_pax_map(t) < 0)
    return -1;
  if ((!old && !o->sparse.has_size) || o->sparse.has_open || check_map(t, (uint64_t)size, t->data_left) < 0)
    return bad_map(t);
  e->size = (uint64_t)size;
  e->sparse = 1;
  e->segments = t->segments;
  e->segment_count = t->segment_count;
  return 0;
}

static int finish_entry(struct tar *t, const struct header *h, const struct overrides *o, struct tar_entry *e)
{
  if (entry_names(t, h, o, e) < 0 || entry_type(t, h, o, e) < 0 || entry_numbers(t, h, o, e) < 0)
    return -1;
  e->sparse = 0;
  e->segments = NULL;
  e->segment_count = 0;
  if (h->type == 'S' || o->sparse.any)
    return finish_sparse(t, h, o, e) < 0 ? name_failure(t, e) : 1;
  expect_data(t, e->size);
  return 1;
}

/* Reads headers up to the one that is an entry; the extensions before it fill `o`. */
static int read_headers(struct tar *t, struct tar_entry *e, char **long_name, char **long_link)
{
  struct overrides o = {0};
  struct header h;
  size_t len;
  for (;;) {
    const int found = next_header(t, &h);
    if (found < 0)
      return -1;
    if (found == 0) /* extensions that extend nothing */
      return t->pax_len > 0 || *long_name || *long_link ? bad(t, "truncated", NULL) : 0;
    switch (h.type) {
    case 'x':
      e->xattr_count = 0;
      if (read_extension(t, &h, TAR_PAX_MAX, &t->pax, &t->pax_len) < 0)
        return -1;
      o = (struct overrides){0};
      t->segment_count = 0;
      if (parse_pax(t, e, &o) < 0)
        return -1;
      break;
    case 'g': { /* global records: Docker and containerd skip them, too */
      char *ignored = NULL;
      const int ok = read_extension(t, &h, TAR_PAX_MAX, &ignored, &len);
      free(ignored);
      if (ok < 0)
        return -1;
      break;
    }
    case 'L':
    case 'K':
      if (read_extension(t, &h, PATH_LIMIT + 1, h.type == 'L' ? long_name : long_link, &len) < 0)
        return -1;
      break;
    default:
      if (o.sparse.name)
        o.path = o.sparse.name; /* the other one was made up for tars that know nothing of this */
      if (!o.path)
        o.path = *long_name;
      if (!o.link)
        o.link = *long_link;
      return finish_entry(t, &h, &o, e);
    }
  }
}

int tar_next(struct tar *t, struct tar_entry *e)
{
  if (skip_rest(t) < 0)
    return -1;
  e->xattr_count = 0;
  t->pax_len = 0;
  char *long_name = NULL, *long_link = NULL;
  const int result = read_headers(t, e, &long_name, &long_link);
  free(long_name);
  free(long_link);
  return result;
}
