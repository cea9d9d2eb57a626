#define _GNU_SOURCE
#include "null.h"

#include "addon.h"
#include "../lib/sys.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

/* A tmpfs that has dev/null and nothing else, read-only from then on: what is opened there is called as it is everywhere. */
static int make_null(int mount, const char **call)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    *call = "mknod dev/null";
    if (mkdirat(mount, "dev", 0755) || mknodat(mount, "dev/null", S_IFCHR, makedev(1, 3)) ||
        fchmodat(mount, "dev/null", 0666, 0))
        return -1;
    *call = "mount_setattr";
    return sys_mount_setattr(mount, "", AT_EMPTY_PATH, &attr);
}

static int mount_tmpfs(const char **call)
{
    *call = "fsopen tmpfs";
    int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    *call = "fsmount tmpfs";
    int failed = sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "4k", 0) ||
                 sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    int mount = failed ? -1 : sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    int failure = errno;
    close(fs);
    errno = failure;
    return mount;
}

/* Nobody sees the mount, which goes with what is opened. */
static int open_null(const char **call)
{
    int mount = mount_tmpfs(call), fd = -1;
    if (mount < 0)
        return -1;
    if (make_null(mount, call) == 0) {
        *call = "open dev/null";
        fd = openat(mount, "dev/null", O_RDWR | O_CLOEXEC);
    }
    int failure = errno;
    close(mount);
    errno = failure;
    return fd;
}

/* openNull() -> descriptor */
static napi_value open_null_(napi_env env, napi_callback_info info)
{
    (void)info;
    const char *call;
    napi_value result;
    int fd = open_null(&call);
    if (fd < 0) {
        napi_throw(env, make_errno(env, call, errno));
        return NULL;
    }
    napi_create_int32(env, fd, &result);
    return result;
}

void export_null(napi_env env, napi_value exports)
{
    napi_value function;
    napi_create_function(env, "openNull", NAPI_AUTO_LENGTH, open_null_, NULL, &function);
    napi_set_named_property(env, exports, "openNull", function);
}
