/*
 * Kernel calls that musl has no wrapper for, or wraps with more than the call.
 * Every wrapper returns what the kernel returns: -1 and errno on failure.
 */
#ifndef BERTH_SYS_H
#define BERTH_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One number for all architectures since Linux 5.1. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#endif
#ifndef SYS_fsconfig
#define SYS_fsconfig 431
#endif
#ifndef SYS_fsmount
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

/* From linux/sched.h, which cannot be included beside sched.h. */
#define BERTH_CLONE_VM 0x00000100ULL
#define BERTH_CLONE_PIDFD 0x00001000ULL
#define BERTH_CLONE_VFORK 0x00004000ULL
#define BERTH_CLONE_PARENT 0x00008000ULL
#define BERTH_CLONE_NEWNS 0x00020000ULL
#define BERTH_CLONE_NEWCGROUP 0x02000000ULL
#define BERTH_CLONE_NEWUSER 0x10000000ULL
#define BERTH_CLONE_NEWPID 0x20000000ULL
#define BERTH_CLONE_CLEAR_SIGHAND 0x100000000ULL
#define BERTH_CLONE_INTO_CGROUP 0x200000000ULL

/* struct clone_args of clone(2), version 2 (Linux 5.7). */
struct clone3_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup;
};

/* struct mnt_id_req and struct statmount of linux/mount.h, Linux 6.8, as far as they are used. */
struct mount_id_request {
    uint32_t size;
    uint32_t spare;
    uint64_t mount_id;
    uint64_t wanted;
};

struct mount_status {
    uint32_t size;
    uint32_t spare1;
    uint64_t mask;
    uint32_t device_major, device_minor;
    uint64_t magic;
    uint32_t super_flags, fs_type;
    uint64_t id, parent_id;
    uint32_t old_id, old_parent_id;
    uint64_t attributes;
    uint64_t propagation; /* MS_SHARED, MS_SLAVE, … */
    uint64_t peer_group, master, propagate_from;
    uint32_t root, point; /* offsets into text */
    uint64_t spare2[50];
    char text[4096];
};

#define BERTH_STATMOUNT_MNT_BASIC 0x02U
#define BERTH_STATMOUNT_MNT_POINT 0x10U

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static inline int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
                            const void *data)
{
    return (int)syscall(SYS_mount, source, target, type, flags, data);
}

static inline int sys_umount2(const char *target, int flags)
{
    return (int)syscall(SYS_umount2, target, flags);
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dirfd, path, flags);
}

static inline int sys_move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return (int)syscall(SYS_move_mount, from_fd, from, to_fd, to, flags);
}

static inline int sys_fsopen(const char *type, unsigned flags)
{
    return (int)syscall(SYS_fsopen, type, flags);
}

static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
    return (int)syscall(SYS_fsconfig, fd, cmd, key, value, aux);
}

static inline int sys_fsmount(int fd, unsigned flags, unsigned attrs)
{
    return (int)syscall(SYS_fsmount, fd, flags, attrs);
}

static inline int sys_mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr)
{
    return (int)syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof *attr);
}

/* The id of the mount that a descriptor is on, never reused: statx(2) with STATX_MNT_ID_UNIQUE, Linux 6.8. */
static inline int sys_mount_id(int fd, uint64_t *id)
{
    struct {
        uint32_t mask;
        uint32_t head[35];
        uint64_t mount_id;
        uint64_t rest[13];
    } status;
    _Static_assert(offsetof(__typeof__(status), mount_id) == 144 && sizeof status == 256, "struct statx");
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0x4000U, &status))
        return -1;
    *id = status.mount_id;
    return 0;
}

static inline int sys_statmount(uint64_t id, uint64_t wanted, struct mount_status *status)
{
    struct mount_id_request request = {.size = sizeof request, .mount_id = id, .wanted = wanted};
    return (int)syscall(SYS_statmount, &request, status, sizeof *status, 0);
}

static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
}

static inline int sys_pidfd_open(int pid, unsigned flags)
{
    return (int)syscall(SYS_pidfd_open, pid, flags);
}

static inline int sys_pidfd_send_signal(int pidfd, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}

/* A fork with clone3's extras: 0 in the child, which goes on with a copy of the caller's memory. */
static inline int sys_fork3(struct clone3_args *args)
{
    return (int)syscall(SYS_clone3, args, sizeof *args);
}

#endif
