/* Tests of the parts of berth-unpack that need no process of their own; run under the address and UB sanitizers. */
#define _GNU_SOURCE
#include "hash.h"
#include "tar.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int passed, failed;

static void check(int ok, const char *what)
{
  if (ok) {
    passed++;
    return;
  }
  failed++;
  printf("not ok: %s\n", what);
}

/* ---- an archive in memory ---- */

static uint8_t archive[1 << 20];
static size_t archive_len;

struct feed {
  const uint8_t *at;
  size_t left, piece; /* how much a peek shows at most */
};

static const uint8_t *feed_peek(void *from, size_t *len, struct failure *f)
{
  struct feed *feed = from;
  (void)f;
  *len = feed->left < feed->piece ? feed->left : feed->piece;
  return feed->at;
}

static void feed_consume(void *from, size_t n)
{
  struct feed *feed = from;
  feed->at += n;
  feed->left -= n;
}

static void add_block(const void *data, size_t len)
{
  memcpy(archive + archive_len, data, len);
  memset(archive + archive_len + len, 0, (512 - len % 512) % 512);
  archive_len += (len + 511) / 512 * 512;
}

static void sign(uint8_t *h)
{
  unsigned sum = 0;
  memset(h + 148, ' ', 8);
  for (int i = 0; i < 512; i++)
    sum += h[i];
  snprintf((char *)h + 148, 8, "%06o", sum);
}

static uint8_t *add_header(const char *name, char type, const char *link, size_t size)
{
  uint8_t *h = archive + archive_len;
  memset(h, 0, 512);
  memcpy(h, name, strnlen(name, 100));
  memcpy(h + 100, "0000644", 7);
  memcpy(h + 108, "0000001", 7);
  memcpy(h + 116, "0000002", 7);
  snprintf((char *)h + 124, 12, "%011zo", size);
  memcpy(h + 136, "14000000000", 11);
  h[156] = (uint8_t)type;
  memcpy(h + 157, link, strnlen(link, 100));
  memcpy(h + 257, "ustar\0" "00", 8);
  sign(h);
  archive_len += 512;
  return h;
}

static void add_entry(const char *name, char type, const char *link, const void *data, size_t size)
{
  add_header(name, type, link, size);
  add_block(data, size);
}

static void add_end(void)
{
  memset(archive + archive_len, 0, 1024);
  archive_len += 1024;
}

static struct tar_entry entry;
static struct tar_segment segments[64];
static struct failure failure;

/* The first entry that comes after `skip` others; what tar_next said of it. */
static int read_entry(int skip, size_t piece)
{
  struct feed feed = {archive, archive_len, piece};
  struct tar tar;
  int result;
  memset(&failure, 0, sizeof failure);
  tar_start(&tar, (struct tar_input){&feed, feed_peek, feed_consume}, &failure);
  while ((result = tar_next(&tar, &entry)) == 1 && skip-- > 0)
    ;
  /* The xattrs point into what tar_end frees: they are looked at by test_pax itself. */
  if (result == 1 && entry.segment_count > 0 && entry.segment_count <= 64)
    memcpy(segments, entry.segments, entry.segment_count * sizeof *segments);
  tar_end(&tar);
  archive_len = 0;
  return result;
}

static int failed_at(const char *step, int result)
{
  return result == -1 && failure.step && strcmp(failure.step, step) == 0;
}

/* ---- hashes ---- */

static int hashes_to(enum hash_name name, const char *data, size_t piece, const char *digest)
{
  struct hash h;
  char text[DIGEST_TEXT];
  hash_start(&h, name);
  for (size_t at = 0, len = strlen(data); at < len; at += piece)
    hash_update(&h, data + at, piece < len - at ? piece : len - at);
  hash_finish(&h, text);
  return strcmp(text, digest) == 0;
}

static void test_hashes(void)
{
  /* FIPS 180-2, appendices B and C, and the empty text */
  enum hash_name name;
  check(hashes_to(HASH_SHA256, "", 1, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        "sha256 of nothing");
  for (size_t piece = 1; piece < 4; piece++) {
    check(hashes_to(HASH_SHA256, "abc", piece, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
          "sha256 of abc");
    check(hashes_to(HASH_SHA512, "abc", piece,
                    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"),
          "sha512 of abc");
  }
  check(hash_named("sha512", &name) == 0 && name == HASH_SHA512, "sha512 by name");
  check(hash_named("sha256", &name) == 0 && name == HASH_SHA256, "sha256 by name");
  check(hash_named("md5", &name) < 0, "no other hash");
}

/* ---- tar ---- */

static void test_plain(void)
{
  for (size_t piece = 1; piece <= 4096; piece = piece * 8 - 1) {
    add_entry("a/file", '0', "", "hello", 5);
    add_entry("a/link", '2', "file", "", 0);
    add_end();
    size_t len = archive_len;
    check(read_entry(0, piece) == 1 && entry.type == TAR_FILE && entry.size == 5 && entry.uid == 1 && entry.gid == 2 &&
              entry.mode == 0644 && entry.mtime_seconds == 1610612736 && strcmp(entry.path, "a/file") == 0,
          "a file");
    archive_len = len;
    check(read_entry(1, piece) == 1 && entry.type == TAR_SYMLINK && strcmp(entry.link, "file") == 0, "a link after it");
    archive_len = len;
    check(read_entry(9, piece) == 0, "the end");
  }
}

static void test_ends(void)
{
  add_entry("f", '0', "", "x", 1);
  check(read_entry(9, 512) == 0, "no zero blocks at the end");
  check(read_entry(0, 512) == 0, "an empty stream");
  add_entry("f", '0', "", "x", 1);
  archive_len -= 511;
  check(read_entry(9, 512) == 0, "no padding at the end");
  add_entry("f", '0', "", "x", 1);
  archive_len -= 512;
  check(failed_at("truncated", read_entry(9, 512)), "no data");
  add_entry("f", '0', "", "x", 1);
  archive_len = 300;
  check(failed_at("truncated", read_entry(9, 512)), "half a header");
  add_entry("f", '0', "", "x", 1);
  add_end();
  add_block("garbage", 7);
  check(failed_at("garbage", read_entry(9, 512)), "garbage after the end");
  add_header("f", '0', "", 0)[0] = 'g';
  check(failed_at("checksum", read_entry(0, 512)), "a wrong checksum");
  add_entry("ext", 'L', "", "name", 5);
  add_end();
  check(failed_at("truncated", read_entry(0, 512)), "a long name for nothing");
}

static void test_names(void)
{
  uint8_t *h = add_header("name", '0', "", 0);
  memcpy(h + 345, "some/prefix", 11);
  sign(h);
  check(read_entry(0, 512) == 1 && strcmp(entry.path, "some/prefix/name") == 0, "ustar prefix");
  char name[3001];
  memset(name, 'n', 3000);
  name[3000] = 0;
  add_entry("././@LongLink", 'L', "", name, 3001);
  add_entry("././@LongLink", 'K', "", name, 3001);
  add_entry("short", '2', "short", "", 0);
  check(read_entry(0, 512) == 1 && strcmp(entry.path, name) == 0 && strcmp(entry.link, name) == 0, "GNU long names");
  add_header("x", 'L', "", 5000);
  check(failed_at("extension-size", read_entry(0, 512)), "a name that is too long");
  add_header("x", 'x', "", 2 << 20);
  check(failed_at("extension-size", read_entry(0, 512)), "a PAX header that is too long");
  h = add_header("dir/", 0, "", 0);
  memset(h + 257, 0, 255); /* v7: no magic */
  sign(h);
  check(read_entry(0, 512) == 1 && entry.type == TAR_DIR, "a directory from before POSIX");
  add_header("dir/", '0', "", 0);
  check(read_entry(0, 512) == 1 && entry.type == TAR_DIR, "a directory written as an empty file");
  add_entry("file/", '0', "", "x", 1);
  check(read_entry(0, 512) == 1 && entry.type == TAR_FILE, "a file with contents and a slash");
  add_entry("f", '7', "", "x", 1);
  check(read_entry(0, 512) == 1 && entry.type == TAR_FILE && entry.size == 1, "a contiguous file");
  add_header("h", '1', "f", 5000);
  check(read_entry(0, 512) == 1 && entry.type == TAR_HARDLINK && entry.size == 0, "a hard link with a size");
  for (char type = 'A'; type <= 'Z'; type++)
    if (!strchr("KLS", type)) {
      add_header("v", type, "", 0);
      check(failed_at("type", read_entry(0, 512)), "a vendor's type");
    }
}

static int number_is(const uint8_t *field, size_t len, size_t at, uid_t want)
{
  uint8_t *h = add_header("n", '0', "", 0);
  memcpy(h + at, field, len);
  sign(h);
  return read_entry(0, 512) == 1 && entry.uid == want;
}

static void test_numbers(void)
{
  check(number_is((const uint8_t *)"\x80\0\0\0\0\x12\x34\x56", 8, 108, 0x123456), "base-256");
  check(number_is((const uint8_t *)"   17 \0\0", 8, 108, 15), "octal with blanks");
  check(number_is((const uint8_t *)"\0\0\0\0\0\0\0\0", 8, 108, 0), "an empty number");
  check(!number_is((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8, 108, 0) && failed_at("owner", -1), "owner -1");
  check(!number_is((const uint8_t *)"\x80\0\0\xff\xff\xff\xff\xff", 8, 108, 0) && failed_at("owner", -1), "owner 2^40");
  check(!number_is((const uint8_t *)"0000009\0", 8, 108, 0) && failed_at("number", -1), "octal with a 9");
  check(!number_is((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, 124, 0) && failed_at("size", -1),
        "size -1");
  check(!number_is((const uint8_t *)"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, 124, 0) && failed_at("size", -1),
        "size 2^94");
}

static void test_times(void)
{
  uint8_t *h = add_header("n", '0', "", 0);
  memcpy(h + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
  sign(h);
  check(read_entry(0, 512) == 1 && entry.mtime_seconds == -2, "a base-256 time before 1970");
  h = add_header("n", '0', "", 0);
  memcpy(h + 136, "\x80\0\0\0\0\0\0\2\0\0\0\0", 12);
  sign(h);
  check(read_entry(0, 512) == 1 && entry.mtime_seconds == 0x200000000, "a base-256 time after 2242");
}

static int pax_result(const char *records, size_t len)
{
  add_entry("pax", 'x', "", records, len);
  add_entry("f", '0', "", "", 0);
  add_end();
  return read_entry(0, 512);
}

#define PAX(text) pax_result(text, sizeof text - 1)

static void test_pax(void)
{
  check(PAX("16 path=long/er\n") == 1 && strcmp(entry.path, "long/er") == 0, "PAX path");
  check(PAX("20 mtime=12.3456789\n") == 1 && entry.mtime_seconds == 12 && entry.mtime_ns == 345678900, "PAX mtime");
  check(PAX("13 mtime=-1.5\n") == -1, "a PAX record with a wrong length");
  check(PAX("14 mtime=-1.5\n") == 1 && entry.mtime_seconds == -2 && entry.mtime_ns == 500000000, "PAX mtime before 1970");
  check(PAX("18 uid=4294967294\n") == 1 && entry.uid == 4294967294u, "PAX uid");
  check(failed_at("owner", PAX("18 uid=4294967295\n")), "PAX uid that chown would take for none");
  check(failed_at("pax", PAX("12 path=a\0b\n")), "PAX path with a NUL");
  check(failed_at("pax", PAX("99999999999999999999 path=a\n")), "a PAX length that is too long");
  check(failed_at("pax", PAX("5 =a\n")), "PAX without a key");
  check(failed_at("pax", PAX("13 size=-123\n")), "PAX size below 0");
  check(PAX("8 path=\n") == 1 && strcmp(entry.path, "f") == 0, "PAX with an empty path");

  struct tar tar;
  add_entry("pax", 'x', "", "30 SCHILY.xattr.user.x=a\0=\nb\xff\n", 30);
  add_entry("f", '0', "", "", 0);
  struct feed feed = {archive, archive_len, 4096};
  tar_start(&tar, (struct tar_input){&feed, feed_peek, feed_consume}, &failure);
  const int found = tar_next(&tar, &entry);
  check(found == 1 && entry.xattr_count == 1 && strcmp(entry.xattrs[0].name, "user.x") == 0 && entry.xattrs[0].len == 6 &&
            memcmp(entry.xattrs[0].value, "a\0=\nb\xff", 6) == 0,
        "a binary xattr");
  tar_end(&tar);
  archive_len = 0;
}

/* ---- sparse files ---- */

/* An old GNU header with a map of `n` pairs; the rest of them go into extension blocks. */
static void add_old_sparse(const uint64_t *pairs, size_t n, uint64_t real, size_t stored)
{
  uint8_t *h = add_header("s", 'S', "", stored), *at = h + 386;
  memcpy(h + 257, "ustar  ", 8);
  snprintf((char *)h + 483, 12, "%011llo", (unsigned long long)real);
  for (size_t i = 0, room = 4; i < n; i++, room--) {
    if (room == 0) {
      uint8_t *block = archive + archive_len;
      (at > block - 512 + 483 ? at : h + 482)[0] = 1;
      memset(block, 0, 512);
      archive_len += 512;
      at = block;
      room = 21;
    }
    snprintf((char *)at, 12, "%011llo", (unsigned long long)pairs[2 * i]);
    snprintf((char *)at + 12, 12, "%011llo", (unsigned long long)pairs[2 * i + 1]);
    at += 24;
  }
  sign(h);
}

static int old_sparse(const uint64_t *pairs, size_t n, uint64_t real, size_t stored)
{
  static const uint8_t zeros[4096];
  add_old_sparse(pairs, n, real, stored);
  add_block(zeros, stored);
  add_end();
  return read_entry(0, 512);
}

#define OLD_SPARSE(real, stored, ...) \
  old_sparse((const uint64_t[]){__VA_ARGS__}, sizeof (uint64_t[]){__VA_ARGS__} / 16, real, stored)

static int pax_sparse(const char *records, size_t len, const char *text, size_t stored)
{
  char data[2048] = "";
  strcpy(data, text);
  add_entry("pax", 'x', "", records, len);
  add_entry("GNUSparseFile.0/f", '0', "", data, stored);
  add_end();
  return read_entry(0, 512);
}

#define PAX_SPARSE(records, data, stored) pax_sparse(records, sizeof records - 1, data, stored)
#define PAX_1_0 "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=9999\n21 GNU.sparse.name=f\n"

static void test_sparse(void)
{
  uint64_t many[60];
  for (uint64_t i = 0; i < 30; i++)
    many[2 * i] = 1000 * i, many[2 * i + 1] = 10;
  check(OLD_SPARSE(5000, 30, 10, 20, 4000, 10) == 1 && entry.sparse && entry.size == 5000 && entry.segment_count == 2, "old GNU sparse");
  check(old_sparse(many, 30, 40000, 300) == 1 && entry.segment_count == 30, "old GNU sparse with extension blocks");
  check(OLD_SPARSE(5000, 0, 5000, 0) == 1, "a hole and nothing else");
  check(failed_at("sparse", OLD_SPARSE(5000, 31, 10, 20, 4000, 10)), "a map of less than what is stored");
  check(failed_at("sparse", OLD_SPARSE(5000, 29, 10, 20, 4000, 10)), "a map of more than what is stored");
  check(failed_at("sparse", OLD_SPARSE(5000, 30, 10, 20, 29, 10)), "segments that overlap");
  check(failed_at("sparse", OLD_SPARSE(5000, 30, 4000, 20, 10, 10)), "segments in the wrong order");
  check(failed_at("sparse", OLD_SPARSE(4009, 30, 10, 20, 4000, 10)), "a segment beyond the end");
  add_header("s", 'S', "", 0);
  check(failed_at("sparse", read_entry(0, 512)), "old GNU sparse in a header that is not GNU's");
  add_old_sparse(many, 30, 40000, 300);
  archive_len -= 600;
  check(failed_at("truncated", read_entry(0, 512)), "a map that is cut off");

  check(PAX_SPARSE(PAX_1_0, "2\n0\n3\n5000\n2\n", 517) == 1 && entry.segment_count == 2 && entry.size == 9999 &&
            strcmp(entry.path, "f") == 0,
        "PAX sparse 1.0");
  check(failed_at("sparse", PAX_SPARSE(PAX_1_0, "2\n0\n3\n5000\n2", 16)), "a 1.0 map that ends early");
  check(failed_at("sparse", PAX_SPARSE(PAX_1_0, "1\n-1\n3\n", 515)), "a 1.0 map with a sign");
  check(failed_at("sparse-map", PAX_SPARSE(PAX_1_0, "99999999999\n", 512)), "a 1.0 map that is too long");
  check(failed_at("sparse", PAX_SPARSE(PAX_1_0, "999999\n1\n0\n", 1024)), "a 1.0 map shorter than it says");
  check(failed_at("sparse", PAX_SPARSE(PAX_1_0, "1\n0\n3", 6)), "a 1.0 map without padding");
  check(failed_at("sparse-version", PAX_SPARSE("22 GNU.sparse.major=2\n", "", 0)), "PAX sparse 2.0");
  check(PAX_SPARSE("24 GNU.sparse.size=5000\n26 GNU.sparse.numblocks=2\n27 GNU.sparse.map=0,3,40,2\n", "", 5) == 1 &&
            entry.segment_count == 2 && segments[1].at == 40,
        "PAX sparse 0.1");
  check(failed_at("sparse", PAX_SPARSE("24 GNU.sparse.size=5000\n25 GNU.sparse.map=0,3,40\n", "", 5)), "an odd 0.1 map");
  check(failed_at("sparse", PAX_SPARSE("27 GNU.sparse.map=0,3,40,2\n", "", 5)), "PAX sparse without a size");
  check(PAX_SPARSE("24 GNU.sparse.size=5000\n23 GNU.sparse.offset=7\n25 GNU.sparse.numbytes=5\n", "", 5) == 1 &&
            entry.segment_count == 1 && segments[0].at == 7,
        "PAX sparse 0.0");
  check(failed_at("sparse", PAX_SPARSE("24 GNU.sparse.size=5000\n25 GNU.sparse.numbytes=5\n", "", 5)), "a length of nothing");
  check(failed_at("sparse", PAX_SPARSE("24 GNU.sparse.size=5000\n23 GNU.sparse.offset=7\n", "", 0)), "an offset of nothing");
  add_entry("pax", 'x', "", "24 GNU.sparse.size=5000\n", 24);
  add_entry("d", '5', "", "", 0);
  check(failed_at("sparse", read_entry(0, 512)), "a sparse directory");
}

/* ---- paths and trees ---- */

static int cleans_to(const char *in, const char *want)
{
  char out[PATH_LIMIT + 1];
  const int result = clean_path(in, out);
  return want ? result == 0 && strcmp(out, want) == 0 : result == -1;
}

static void test_clean(void)
{
  check(cleans_to("./a//b/./c/", "a/b/c"), "dots and slashes");
  check(cleans_to("/a/b", "a/b"), "absolute");
  check(cleans_to("a/../b", "b") && cleans_to("a/b/../../c", "c") && cleans_to("a/..", ""), "inner ..");
  check(cleans_to("..", NULL) && cleans_to("a/../../b", NULL) && cleans_to("/../x", NULL), "outer ..");
  check(cleans_to("", "") && cleans_to("./", "") && cleans_to("/", ""), "the root");
  check(cleans_to("a/...", "a/...") && cleans_to("..a", "..a"), "names with dots");
}

static int apply_archive(int root)
{
  struct feed feed = {archive, archive_len, 700};
  struct tar tar;
  struct tree tree;
  int more, result = 0;
  memset(&failure, 0, sizeof failure);
  tar_start(&tar, (struct tar_input){&feed, feed_peek, feed_consume}, &failure);
  tree_start(&tree, root, NULL, 0, 1, &failure);
  while (result == 0 && (more = tar_next(&tar, &entry)) != 0)
    result = more < 0 ? -1 : tree_apply(&tree, &tar, &entry);
  if (result == 0)
    result = tree_finish(&tree);
  tree_end(&tree);
  tar_end(&tar);
  return result;
}

static void add_tree(void)
{
  archive_len = 0;
  add_entry("d/", '5', "", "", 0);
  add_entry("pax", 'x', "", "30 SCHILY.xattr.user.x=a\0=\nb\xff\n", 30);
  add_entry("d/f", '0', "", "hello", 5);
  add_entry("d/h", '1', "d/f", "", 0);
  add_entry("l", '2', "d/e/../e", "", 0);
  add_entry("l/x", '0', "", "through a link that leads nowhere yet", 37);
  add_entry("d/.wh.gone", '0', "", "", 0);
  add_entry("gone/a/b", '0', "", "", 0);
  add_entry(".wh.gone", '0', "", "", 0);
  add_entry("q/.wh..wh..opq", '0', "", "", 0);
  add_entry("d/f", '5', "", "", 0);
  add_entry("d/p", '6', "", "", 0);
  add_end();
}

static void test_tree(void)
{
  char dir[] = "/tmp/berth-unpack-test.XXXXXX";
  if (!mkdtemp(dir)) {
    check(0, "mkdtemp");
    return;
  }
  struct stat st;
  int root = open(dir, O_RDONLY | O_DIRECTORY);
  add_tree();
  const size_t whole = archive_len;
  check(apply_archive(root) == 0, "a tree");
  check(fstatat(root, "d/e/x", &st, 0) == 0 && st.st_size == 37, "a file through a dangling link");
  check(fstatat(root, "d/f", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode), "a directory in place of a file");
  check(fstatat(root, "d/h", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 5, "the other name of that file");
  close(root);
  check(remove_tree(AT_FDCWD, dir) == 0 && access(dir, F_OK) < 0, "removing it");

  uint8_t *original = malloc(whole);
  memcpy(original, archive, whole);
  unsigned seed = 1;
  for (int round = 0; round < 500; round++) { /* nothing may crash, whatever the bytes; checksums are made right again */
    memcpy(archive, original, whole);
    for (int i = 0; i < 4; i++) {
      const size_t at = (size_t)rand_r(&seed) % whole;
      archive[at] = (uint8_t)rand_r(&seed);
      if (round % 2)
        sign(archive + at / 512 * 512);
    }
    archive_len = whole - (round % 5 == 0 ? (size_t)rand_r(&seed) % whole : 0);
    mkdir(dir, 0700);
    root = open(dir, O_RDONLY | O_DIRECTORY);
    apply_archive(root);
    close(root);
    if (remove_tree(AT_FDCWD, dir) < 0)
      failed++;
  }
  free(original);
  check(1, "damaged archives");
}

/* A tree that is far deeper than descriptors would reach, as a container can make it. */
static void test_deep_removal(void)
{
  char dir[] = "/tmp/berth-unpack-test.XXXXXX";
  int at = mkdtemp(dir) ? open(dir, O_RDONLY | O_DIRECTORY) : -1, ok = at >= 0;
  for (int i = 0; ok && i < 3000; i++) {
    ok = mkdirat(at, "d", 0700) == 0;
    int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
    int file = i % 100 == 0 ? openat(at, "f", O_WRONLY | O_CREAT, 0600) : -1;
    if (file >= 0)
      close(file);
    close(at);
    at = next;
    ok = ok && at >= 0;
  }
  close(at);
  struct rlimit few, before;
  getrlimit(RLIMIT_NOFILE, &before);
  few = before;
  few.rlim_cur = 400;
  setrlimit(RLIMIT_NOFILE, &few);
  check(ok && remove_tree(AT_FDCWD, dir) == 0 && access(dir, F_OK) < 0, "removing 3,000 levels with 400 descriptors");
  setrlimit(RLIMIT_NOFILE, &before);
}

int main(void)
{
  test_hashes();
  test_plain();
  test_ends();
  test_names();
  test_numbers();
  test_times();
  test_pax();
  test_sparse();
  test_clean();
  test_tree();
  test_deep_removal();
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
