#define _GNU_SOURCE
#include "remove.h"
#include "confine.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_dots(const char *name)
{
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static int empty(int dir, struct failure *f)
{
  DIR *list = fdopendir(dir);
  if (!list)
    return fail(f, "remove", errno, NULL);
  for (struct dirent *e; (e = readdir(list));)
    if (!is_dots(e->d_name) && remove_tree(dir, e->d_name) < 0)
      return fail(f, "remove", errno, e->d_name);
  return 0;
}

/* What the child does. Memory and descriptors end with it. */
static int empty_confined(const char *path, pid_t parent, struct failure *f)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    return fail(f, "remove", ECANCELED, path);
  int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (dir < 0)
    return fail(f, "open", errno, path);
  if (confine(&(struct confinement){.role = ROLE_REMOVE, .root = &dir, .files = {-1, -1}}, f) < 0)
    return -1;
  return empty(dir, f);
}

/* The child's exit status, or -1 when it was killed. */
static int status_of(pid_t child)
{
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int remove_all(const char *path, struct failure *f)
{
  if (unlink(path) == 0 || errno == ENOENT)
    return 0;
  if (errno != EISDIR && errno != EPERM)
    return fail(f, "remove", errno, path);
  const pid_t parent = getpid(), child = fork();
  if (child < 0)
    return fail(f, "fork", errno, path);
  if (child == 0) {
    if (empty_confined(path, parent, f) == 0)
      _exit(0);
    failure_print(f);
    _exit(1);
  }
  const int status = status_of(child);
  if (status > 0)
    _exit(status); /* it has told why */
  if (status < 0)
    return fail(f, "died", ECHILD, path);
  return rmdir(path) < 0 ? fail(f, "remove", errno, path) : 0;
}
