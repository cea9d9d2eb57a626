/* What the roles of the helper share. The contract is in native/README.md. */
#ifndef BERTH_HELPER_H
#define BERTH_HELPER_H

#include "../lib/plan.h"
#include "../lib/users.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptors a role is started with. */
enum { FD_PLAN = 3, FD_CONTROL = 4, FD_STATE_DIR = 5, FD_TARGET = 5 };

#define DETAIL_MAX 256

/* The step of a failure that is no step of the plan. */
#define NO_STEP UINT32_MAX

struct identity {
    uint32_t uid;
    uint32_t gid;
    size_t group_count;
    uint32_t groups[USERS_GROUPS];
    char home[USERS_HOME];
};

/* How HOLD_SOURCE, MOUNT_FS and MOUNT_BIND reach their source and target. */
enum mount_flags {
    TARGET_NO_LINKS = 1,
    RECURSIVE = 2,
    RECURSIVE_ATTRS = 4,
    SOURCE_NO_LINKS = 8,
    SOURCE_HELD = 16,   /* what HOLD_SOURCE has taken for this target, instead of a path */
    SOURCE_MAKE = 32,   /* a missing source becomes a directory */
    SOURCE_SHARED = 64, /* the source's mount must be shared */
    SOURCE_SLAVE = 128, /* the source's mount must be shared or a slave */
};

/* One run through a section of a plan. */
struct launch {
    const struct plan *plan;
    int root;       /* O_PATH descriptor of the new root, or -1 before there is one */
    int stage;      /* the same mount's directory to pivot into */
    int sync;       /* SOCK_SEQPACKET to the launcher, or -1 in the outer section */
    int devnull;    /* the host's /dev/null, checked, or -1 */
    int empty;      /* the mount that hides directories, once there is one, or -1; until the root is entered */
    int nodes;      /* where device nodes are made, or -1; until the root is entered */
    int pause_pid;  /* of OP_PAUSE, or 0 */
    uint32_t uids;  /* so many ids, from 0 on, there are in the user namespace; 0: all */
    uint32_t gids;
    int inside_pid; /* of OP_USERNS, whose namespaces OP_PIN pins, or 0 */
    struct identity identity;
    const char *root_label; /* of OP_ROOT_LABEL, or NULL */
    int ends_with_launcher;
    int gets_root; /* the launcher makes the ROOT_OVERLAY, and hands it over by a root_report */
    uint64_t permitted; /* capabilities of this process before OP_IDENTITY: one it lacks cannot be given away */
    int sealed;         /* all descriptors but stdio are close-on-exec */
    struct {            /* of START_HOOK, in its child, which executes it in the place of EXEC; path is NULL in all others */
        const char *path;
        char **argv;
        char **envp;
    } hook;
    char detail[DETAIL_MAX]; /* which part of the step failed */
};

/* How long each step of a section took. */
#define STEPS_MAX 160
struct step_times {
    uint64_t began; /* monotonic_ns() at the start of the first */
    uint64_t since; /* … and at the end of the last one */
    uint32_t count;
    uint32_t ns[STEPS_MAX];
};

/* The first step begins. */
void steps_begin(struct step_times *times);
/* The next step has ended. Those beyond STEPS_MAX are part of the last one. */
void step_ended(struct step_times *times);

/* What init tells its launcher over the sync socket; the socket's end means execve has succeeded. */
enum report_kind {
    REPORT_READY = 1,
    REPORT_FAILED = 2,
    REPORT_TERMINAL = 3, /* with both sides of it */
    REPORT_MOVED = 4,
    REPORT_HOOKS = 5, /* the launcher's daemon has hooks to run; SYNC_GO follows */
};
struct report {
    uint32_t kind;
    int32_t pid; /* of REPORT_MOVED: the launcher's new child, which goes on in the sender's place */
    uint32_t section;
    uint32_t step;
    int32_t error;
    uint32_t uid;
    uint32_t gid;
    uint32_t group_count;
    uint32_t groups[USERS_GROUPS];
    char detail[DETAIL_MAX];
    char home[USERS_HOME];
    struct step_times times; /* of REPORT_READY */
};

/* What the launcher tells init. */
enum { SYNC_GO = 'G' };

/* Of the ROOT_OVERLAY that the launcher has made meanwhile: comes with the mount, or has why there is none. */
struct root_report {
    int32_t error;
    char detail[DETAIL_MAX];
};

/* Notes which part of a step failed; returns -1 and leaves errno alone. */
int step_fail(struct launch *launch, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each runs one operation: 0, or -1 with errno (and perhaps launch->detail) set. */
int step_host(struct launch *launch, uint32_t op, struct fields *fields);
int step_mount(struct launch *launch, uint32_t op, struct fields *fields);
int step_source(struct launch *launch, uint32_t op, struct fields *fields);
int step_userns(struct launch *launch, uint32_t op, struct fields *fields);
int step_identity(struct launch *launch, uint32_t op, struct fields *fields);
int step_terminal(struct launch *launch, uint32_t op, struct fields *fields);
int step_label(struct launch *launch, struct fields *fields);
int step_keyring(struct launch *launch, struct fields *fields);
int step_hook(struct launch *launch, uint32_t op, struct fields *fields);
/* In the child of START_HOOK: whether it leaves this operation out, since its stdio and its parent are other ones. */
int hook_skips(uint32_t op);
/* … what it does in the place of EXEC, and when a step fails. */
_Noreturn void hook_exec(struct launch *launch);
_Noreturn void hook_failed(const struct launch *launch, int error);
int step_exec(struct launch *launch, struct fields *fields);
/* Returns in a child, whose parent stays. */
int step_first_process(struct launch *launch);
/* Copies; these do not return. */
int step_copy_stat(struct launch *launch, struct fields *fields);
int step_copy_out(struct launch *launch, struct fields *fields);
int step_copy_in(struct launch *launch, struct fields *fields);

/* Runs one operation of the inner section, whoever implements it. */
int step_run(struct launch *launch, uint32_t op, struct fields *fields);

/* Appends what the kernel said about a file system context to the step's detail; closes `fs`, returns -1. */
int fs_fail(struct launch *launch, int fs, const char *what);
/* A detached mount of a configured file system; closes `fs`. */
int mount_context(struct launch *launch, int fs, unsigned attrs);
int root_label(struct launch *launch, int fs);
/* Mounts a tmpfs of this size over a directory, which others may go through and not list. */
int cover_with_tmpfs(struct launch *launch, const char *dir, const char *size);
/* The detached mount of a ROOT_OVERLAY, whose `fields` have been read up to its stage. */
int make_root(struct launch *launch, struct fields *fields);
/* A detached overlay; `flags` are ROOT_OVERLAY's, `lowers` is the list of its lower directories. */
int mount_overlay(struct launch *launch, const char *upper, const char *work, unsigned flags, struct fields *lowers);
/* Attaches a detached mount to an open directory or file and closes both. */
int attach(struct launch *launch, int mount, int target, const char *path);

/* The mount that was held as the nth, from 0 on; it stays there. -1 and ENOENT when there is none. */
int held_tree(uint32_t number);
/* Puts what `exchange` returns in the place of every held mount; ends at its first -1. */
int held_exchange(int (*exchange)(int number, int tree));
/* The mount that was held for this target, which the caller owns from now on; -1 and ENOENT when there is none. */
int held_take(const char *target);

/* Binds a namespace, as OP_PIN names it, over a new file. */
int pin_namespace(struct launch *launch, const char *ns, const char *path);

/* Has the process killed when its launcher dies, if that is wanted. A change of ids undoes it: to be called after each. */
void bind_to_launcher(const struct launch *launch);
/* In a user namespace just entered: its root, with its capabilities and no groups. */
int become_root(void);
/* Gives those of three descriptors that are pipes to a user: else /dev/stdout could be opened by nobody but root. */
void give_pipes(const int fds[3], uint32_t uid, uint32_t gid);

/*
 * Copies all that is in one directory, with the directory's own owner, mode and times, into another, which is empty. Links
 * are copied, not followed, and mounts below are not entered. -1 with errno and the path in `failed`, below the directory.
 */
int tree_copy(int from, int to, char failed[PATH_MAX]);
/* Sets security.selinux on one file, which may be open as a path only; where labels are not kept it is none the worse. */
int file_label(int fd, const char *label);
/* Sets security.selinux on a file or directory and all that is in it, as above. */
int tree_label(int fd, const char *label, char failed[PATH_MAX]);

/*
 * An empty session keyring for this process and all that it starts: keys are found by whoever has the keyring, and the one
 * that the daemon has would be all containers'. It has no name, by which others could join it, or be there before.
 */
int own_keyring(void);

/* Loads the plan from FD_PLAN and closes it; 0 or -1 with errno. */
int load_plan(struct plan *plan);

/* Bits of STDIN's mode. */
enum { STDIN_OPEN = 1, STDIN_ONCE = 2, STDIN_TERMINAL = 4 };

/* The relay's ends of a command's pipes, by the command's descriptor; -1 for none. See relay.c. */
struct relay {
    int pipes[3];
    int ended; /* closes when the command has ended */
    int mode;  /* STDIN's; a terminal comes by `ended` */
    const char *state_dir; /* of the container's monitor, or NULL */
};

/* What the exec helper writes to `ended` when the command has outlived its daemon. */
enum { RELAY_ORPHANED = 'O' };

/* The most descriptors that go in one message. */
#define FDS_MAX 5

/* Sends all of `data` with descriptors: 0 or -1. */
int send_fds(int socket, const void *data, size_t length, const int *fds, int count);
/* As recv(2) with `flags`; descriptors that came, O_CLOEXEC, are in `fds`, -1 for each that did not. */
ssize_t receive_fds(int socket, void *data, size_t length, int fds[FDS_MAX], int flags);

/* Waits for the daemon's START: 1, or 0 when the control socket ends before. */
int is_kept(void);

/*
 * Role spare: waits for the daemon's word, and returns with the descriptors and, in `argv`, the name of another role. -1
 * when there is nothing to wait for any more.
 */
int await_role(int argc, char **argv);

/* The roles. Each returns the process's exit code. */
int role_monitor(void);
int role_exec(void);
int role_pin(void);
int role_dial(void);
int role_hold(void);
/* `ready` is a pipe that gets an int once there is nothing left to give up: 0, or why that failed. */
_Noreturn void role_pause(int ready);
_Noreturn void role_relay(const struct relay *relay);
/* A relay's last work, in this process: what pipes hold of a command that has ended goes to descriptors 1 and 2. */
void relay_rest(const struct relay *relay, int has_lost_daemon);
/* Which launcher it has: an exec's ends with it, since nobody could tell of it any more; a container's gets its root from it. */
enum launcher { LAUNCHER_EXEC, LAUNCHER_MONITOR };
_Noreturn void role_init(const struct plan *plan, int sync, enum launcher launcher);

/* Start time of a process in clock ticks (field 22 of /proc/PID/stat), 0 when it is gone. */
uint64_t process_start_time(int pid);

/* Nanoseconds since 1970. */
uint64_t realtime_ns(void);

/* Nanoseconds on a clock that never jumps. */
uint64_t monotonic_ns(void);

/* 0 in a new process, its pid in this one, -1 on failure. `flags`: clone(2)'s; `cgroup` is a v2 directory or -1. */
int clone_child(uint64_t flags, int cgroup, int *pidfd);

/* Exit code as the CRI counts it: 128 + signal for a killed process. Reaps the child. */
void reap(int pidfd, uint32_t *exit_code, uint32_t *signal);

/* Writes a whole short file, as cgroup and proc files want it: 0 or -1. */
int write_file(const char *path, const char *text);

#define CGROUPS_V1_MAX 24

/* The child's cgroups, opened before any namespace is entered. */
struct cgroups {
    int v2;   /* directory to clone into, or -1 */
    int kill; /* its cgroup.kill, or -1 */
    int v1_count;
    struct {
        const char *path;
        int tasks;
    } v1[CGROUPS_V1_MAX];
};

/* Takes the cgroup operations out of the outer section: 1 when `op` was one of them, 0 when not, -1 on failure. */
int cgroups_take(struct cgroups *cgroups, uint32_t op, struct fields *fields);
/* In the child, whose only thread this is: enters every v1 cgroup, or tells `sync` which it could not and ends. */
void cgroups_enter(const struct cgroups *cgroups, int sync);
/* In the launcher, once there is a child: closes what only the child needed. */
void cgroups_left(struct cgroups *cgroups);

#endif
