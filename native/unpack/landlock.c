/* Landlock: the directories of the process are all that it can open, create or delete anything in; no network. */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What newer kernels know than the headers that this is built with (landlock(7)). */
enum {
  FS_TRUNCATE = 1 << 14, /* ABI 3 */
  FS_IOCTL_DEV = 1 << 15, /* ABI 5 */
  NET_BIND_TCP = 1 << 0, /* ABI 4 */
  NET_CONNECT_TCP = 1 << 1,
  SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0, /* ABI 6 */
  SCOPE_SIGNAL = 1 << 1,
};

struct ruleset {
  uint64_t fs, net, scoped;
};

enum {
  FS_ALL_ABI_2 = (LANDLOCK_ACCESS_FS_REFER << 1) - 1,
  FS_READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
  FS_REMOVE = LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR,
  /* Everything that an archive can hold: no sockets. REFER is for links and renames from one directory to another. */
  FS_WRITE = FS_READ | FS_REMOVE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
             LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
             LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER,
  /* Directories that are too deep are moved up before they are emptied. */
  FS_EMPTY = LANDLOCK_ACCESS_FS_READ_DIR | FS_REMOVE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REFER,
};

static struct ruleset all_of(long abi)
{
  struct ruleset all = {.fs = FS_ALL_ABI_2};
  if (abi >= 3)
    all.fs |= FS_TRUNCATE;
  if (abi >= 4)
    all.net = NET_BIND_TCP | NET_CONNECT_TCP;
  if (abi >= 5)
    all.fs |= FS_IOCTL_DEV;
  if (abi >= 6)
    all.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
  return all;
}

/* An older kernel takes a shorter structure, and EINVAL is its word for a part that it does not know. */
static size_t size_of(long abi)
{
  return abi < 4 ? sizeof(uint64_t) : abi < 6 ? 2 * sizeof(uint64_t) : sizeof(struct ruleset);
}

static uint64_t root_access(enum role role)
{
  switch (role) {
  case ROLE_UNPACK: case ROLE_COPY: return FS_WRITE;
  case ROLE_REMOVE: return FS_EMPTY;
  case ROLE_PACK: return FS_READ | FS_REMOVE;
  default: return FS_READ;
  }
}

static int allow(int rules, int dir, uint64_t access)
{
  const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = dir};
  return (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u);
}

static int allow_all(int rules, const struct confinement *c, const struct ruleset *handled)
{
  int result = allow(rules, *c->root, root_access(c->role) & handled->fs);
  for (size_t i = 0; result == 0 && i < c->lower_count; i++)
    result = allow(rules, c->lowers[i], FS_READ);
  return result;
}

int confine_landlock(const struct confinement *c, struct failure *f)
{
  const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0ul, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 2) /* ENOSYS, EOPNOTSUPP; ABI 1 refuses every hard link to another directory */
    return 0;
  const struct ruleset handled = all_of(abi);
  const int rules = (int)syscall(SYS_landlock_create_ruleset, &handled, size_of(abi), 0u);
  if (rules < 0)
    return fail(f, "confine", errno, "landlock");
  const int done = allow_all(rules, c, &handled) < 0 ? -1 : (int)syscall(SYS_landlock_restrict_self, rules, 0u);
  const int err = errno;
  close(rules);
  return done < 0 ? fail(f, "confine", err, "landlock") : 0;
}
