/* Operations on the host's side: namespaces, their pins, and what is set inside them before any root is changed. */
#include "helper.h"
#include "../lib/rooted.h"
#include "../lib/sys.h"

#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int join(struct launch *launch, int type, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return step_fail(launch, "open %s", path);
    int failed = setns(fd, type);
    close(fd);
    return failed ? step_fail(launch, "setns %s", path) : 0;
}

static int loopback_up(void)
{
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(request.ifr_name, "lo");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int failed = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return failed;
}

static int bind_over_new_file(struct launch *launch, const char *source, const char *path)
{
    int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return step_fail(launch, "create %s", path);
    close(fd);
    return sys_mount(source, path, NULL, MS_BIND, NULL) ? step_fail(launch, "bind %s", path) : 0;
}

int pin_namespace(struct launch *launch, const char *ns, const char *path)
{
    char source[64];
    int pid = strcmp(ns, "pid") == 0 ? launch->pause_pid : launch->inside_pid;
    snprintf(source, sizeof source, "/proc/%d/ns/%s", pid ? pid : getpid(), ns);
    return bind_over_new_file(launch, source, path);
}

static int shm(struct launch *launch, const char *path, uint64_t size, const char *label)
{
    char options[512];
    const char *context = *label ? ",context=" : "", *quote = *label ? "\"" : "";
    if (mkdir(path, 0700) && errno != EEXIST)
        return step_fail(launch, "mkdir %s", path);
    int length = snprintf(options, sizeof options, "mode=1777,size=%llu%s%s%s%s", (unsigned long long)size, context,
                          quote, label, quote);
    if (length >= (int)sizeof options) {
        errno = E2BIG;
        return step_fail(launch, "label");
    }
    return sys_mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options);
}

/* Whoever joins its namespace can look at it: so it is waited for until it has nothing any more. */
static int start_pause(struct launch *launch, int *pidfd)
{
    int ready[2], failure = ECHILD;
    if (pipe2(ready, O_CLOEXEC))
        return -1;
    int pid = clone_child(BERTH_CLONE_NEWPID, -1, pidfd);
    if (pid == 0)
        role_pause(ready[1]);
    close(ready[1]);
    if (pid < 0)
        failure = errno;
    else if (read(ready[0], &failure, sizeof failure) != (ssize_t)sizeof failure)
        failure = ECHILD;
    close(ready[0]);
    launch->pause_pid = pid > 0 ? pid : 0;
    errno = failure;
    return failure ? step_fail(launch, pid < 0 ? "clone" : "give up files and privileges") : 0;
}

static int pause_pod(struct launch *launch, const char *path)
{
    int pidfd;
    if (start_pause(launch, &pidfd))
        return -1;
    if (*path && pin_namespace(launch, "pid", path)) {
        int failure = errno;
        sys_pidfd_send_signal(pidfd, 9);
        errno = failure;
        return -1;
    }
    return 0;
}

/* Nothing but procfs, whatever is mounted over parts of it (CVE-2025-52881). */
static int open_procfs(int root, const char *path)
{
    struct statfs fs;
    if (fstatfs(root, &fs))
        return -1;
    if (fs.f_type != PROC_SUPER_MAGIC) {
        errno = EXDEV;
        return -1;
    }
    return sys_openat2(root, path, O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

static int sysctl_write(const char *path, const char *value)
{
    int root = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -1;
    int fd = open_procfs(root, path);
    int failure = errno;
    close(root);
    errno = failure;
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, value, strlen(value));
    failure = n < 0 ? errno : EINVAL; /* it has taken the beginning alone */
    close(fd);
    errno = failure;
    return n == (ssize_t)strlen(value) ? 0 : -1;
}

/* Raising is always allowed; lowering takes CAP_SYS_RESOURCE, and without it the present value stays. */
static int oom_score_adj(int wanted)
{
    char text[16];
    snprintf(text, sizeof text, "%d", wanted);
    if (write_file("/proc/self/oom_score_adj", text) == 0)
        return 0;
    return errno == EACCES || errno == EPERM ? 0 : -1;
}

int step_host(struct launch *launch, uint32_t op, struct fields *fields)
{
    switch (op) {
    case OP_SETNS: {
        int type = (int)field_u32(fields);
        return join(launch, type, field_str(fields));
    }
    case OP_UNSHARE:
        return unshare((int)field_u32(fields));
    case OP_HOSTNAME: {
        struct bytes name = field_bytes(fields);
        return sethostname((const char *)name.data, name.length);
    }
    case OP_LOOPBACK_UP:
        return loopback_up();
    case OP_SYSCTL: {
        const char *path = field_str(fields);
        return sysctl_write(path, field_str(fields));
    }
    case OP_PIN: {
        const char *ns = field_str(fields);
        return pin_namespace(launch, ns, field_str(fields));
    }
    case OP_SHM: {
        const char *path = field_str(fields);
        uint64_t size = field_u64(fields);
        return shm(launch, path, size, field_str(fields));
    }
    case OP_PAUSE:
        return pause_pod(launch, field_str(fields));
    case OP_OOM_SCORE_ADJ:
        return oom_score_adj((int)field_u32(fields));
    default:
        errno = ENOSYS;
        return -1;
    }
}
