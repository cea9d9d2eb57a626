#define _GNU_SOURCE
#include "null.h"

#include "addon.h"
#include "../lib/sys.h"

#include <stdio.h>

/* Opened by way of a mount of its own, which nobody sees and which goes with the descriptor. */
static int open_null(const char **call)
{
    char path[64];
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    *call = "open_tree /dev/null";
    int tree = sys_open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return -1;
    *call = "mount_setattr /dev/null";
    int fd = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
    if (fd == 0) {
        *call = "open /dev/null";
        snprintf(path, sizeof path, "/proc/self/fd/%d", tree);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    int failure = errno;
    close(tree);
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
