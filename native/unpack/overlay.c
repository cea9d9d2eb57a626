#define _GNU_SOURCE
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set(int fs, const char *key, const char *value, struct failure *f)
{
  if (syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0) == 0)
    return 0;
  return fail(f, "overlay", errno, value ? value : key);
}

static int configure(int fs, const struct overlay *o, struct failure *f)
{
  for (size_t i = 0; i < o->lower_count; i++)
    if (set(fs, "lowerdir+", o->lowers[i], f) < 0)
      return -1;
  /* volatile: what is written is put on the disk by whoever started this, all at once. */
  if (o->upper && (set(fs, "upperdir", o->upper, f) < 0 || set(fs, "workdir", o->work, f) < 0 || set(fs, "volatile", NULL, f) < 0))
    return -1;
  return syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? fail(f, "overlay", errno, o->upper) : 0;
}

int overlay_mount(const struct overlay *o, struct failure *f)
{
  const unsigned attributes =
      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | (o->upper ? 0 : MOUNT_ATTR_RDONLY);
  const int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
  if (fs < 0)
    return fail(f, "overlay", errno, NULL);
  int mount = -1;
  if (configure(fs, o, f) == 0 && (mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes)) < 0)
    fail(f, "overlay", errno, "fsmount");
  close(fs);
  if (mount < 0)
    return -1;
  const int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return root < 0 ? fail(f, "overlay", errno, "open") : root; /* `mount` stays open: its end unmounts */
}
