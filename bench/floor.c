/*
 * The least that a container's start can be, in C: new namespaces, an overlay as
 * root, /proc, /dev and /sys, pivot_root, a seccomp filter, execve. No checks of a
 * hostile image, no cgroup, no log, nobody who stays. floor LOWER UPPER WORK STAGE PROGRAM
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    _exit(1);
}

static void set_up(char **argv)
{
    char options[4096];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", argv[1], argv[2], argv[3]);
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
    must(mount("overlay", argv[4], "overlay", MS_NODEV, options), "overlay");
    must(chdir(argv[4]), "chdir");
    must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"), "dev");
    must(mknod("dev/null", S_IFCHR | 0666, 1 << 8 | 3), "null");
    must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "sys");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "chdir /");
}

static void filter(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

int main(int argc, char **argv)
{
    int status;
    char *program[] = {argc == 6 ? argv[5] : NULL, NULL}, *none[] = {NULL};
    if (!program[0])
        return 2;
    unsigned long flags =
        CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | SIGCHLD;
    long pid = syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    must(pid, "clone");
    if (pid == 0) {
        set_up(argv);
        filter();
        must(execve(program[0], program, none), "execve");
    }
    must(waitpid((pid_t)pid, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
