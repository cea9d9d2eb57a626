/*
 * FIRST_PROCESS: the container's process 1 is this helper, and the command its
 * child. It hands signals on, which the kernel keeps from a process 1 that has
 * no handler for them, reaps what others have left, and ends as the command does.
 */
#include "helper.h"
#include "../lib/sys.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Signals of its own faults are not for others, and those of terminals would stop it. */
static void mine(sigset_t *set)
{
    static const int own[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU};
    sigfillset(set);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(set, own[i]);
}

/* Reaps all that has ended; the command's status in `status`, and 1, when it is among them. */
static int reap_all(int command, int *status)
{
    int one, found = 0;
    for (int pid; (pid = waitpid(-1, &one, WNOHANG)) > 0;) {
        if (pid != command)
            continue;
        *status = one;
        found = 1;
    }
    return found;
}

/* As a shell has it: a process 1 cannot end by a signal of its own. */
_Noreturn static void end_as(int status)
{
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

_Noreturn static void stay(int command, const sigset_t *signals)
{
    siginfo_t info;
    int status;
    for (;;) {
        int got = sigwaitinfo(signals, &info);
        if (got < 0)
            continue;
        if (got == SIGCHLD && reap_all(command, &status))
            end_as(status);
        if (got != SIGCHLD)
            kill(command, got);
    }
}

/* A group of its own before the terminal: what is typed there must not reach the command twice. */
static void take_foreground(void)
{
    int group = getpid();
    signal(SIGTTOU, SIG_IGN); /* whoever is not in the foreground is stopped for asking */
    if (setpgid(0, 0) == 0 && isatty(0))
        ioctl(0, TIOCSPGRP, &group);
    signal(SIGTTOU, SIG_DFL);
}

int step_first_process(struct launch *launch)
{
    sigset_t signals;
    mine(&signals);
    if (sigprocmask(SIG_BLOCK, &signals, NULL))
        return -1;
    int command = fork();
    if (command < 0)
        return -1;
    if (command == 0) {
        take_foreground();
        sigset_t none;
        sigemptyset(&none);
        return sigprocmask(SIG_SETMASK, &none, NULL);
    }
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    prctl(PR_SET_NAME, "berth-init", 0, 0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* also in a PID namespace that is not its own */
    close(launch->sync); /* the command's is the one whose end counts */
    sys_close_range(3, ~0U, 0);
    if (chdir("/")) /* it must not hold what the command works in */
        _exit(1);
    stay(command, &signals);
}
