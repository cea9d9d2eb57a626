/*
 * A registry that costs next to nothing, so that on a machine of two cores the clients are measured and not it: blobs
 * are files, sent by sendfile(2).
 *
 *   file-registry <dir of blobs> <tag>=<digest>...
 *
 * prints its port on loopback and serves until it is killed. GET and HEAD of /v2/, of /v2/<name>/manifests/<tag or
 * digest> and of /v2/<name>/blobs/<digest>; one thread a connection, which is kept.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REQUEST_BYTES = 16 * 1024, DIGEST_HEX = 64 };

static char **arguments; /* directory, then the tags */

static int send_all(int to, const char *text)
{
  const size_t len = strlen(text);
  return send(to, text, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

/* The hex digits of what the last part of a path names; NULL when it is neither a tag nor a digest. */
static const char *hex_of(const char *name)
{
  const size_t len = strlen(name);
  for (char **tag = arguments + 1; *tag; tag++)
    if (strncmp(*tag, name, len) == 0 && (*tag)[len] == '=')
      name = *tag + len + 1;
  if (strncmp(name, "sha256:", 7) != 0 || strspn(name + 7, "0123456789abcdef") != DIGEST_HEX)
    return NULL;
  return name[7 + DIGEST_HEX] ? NULL : name + 7;
}

static int send_file(int to, const char *hex, int is_manifest, int head_only)
{
  char path[4096], head[512];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", arguments[0], hex);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &st) < 0)
    return send_all(to, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  snprintf(head, sizeof head,
           "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %lld\r\nDocker-Content-Digest: sha256:%s\r\n\r\n",
           is_manifest ? "application/vnd.oci.image.manifest.v1+json" : "application/octet-stream",
           (long long)st.st_size, hex);
  int result = send_all(to, head);
  for (off_t at = 0; result == 0 && !head_only && at < st.st_size;)
    if (sendfile(to, file, &at, (size_t)(st.st_size - at)) <= 0)
      result = -1;
  close(file);
  return result;
}

static int answer(int to, char *request)
{
  char *path = strchr(request, ' ');
  char *end = path ? strpbrk(path + 1, " ?") : NULL;
  if (!end)
    return -1;
  *end = 0;
  char *name = strrchr(path, '/');
  const int is_manifest = strstr(path, "/manifests/") != NULL;
  if (!name || (!is_manifest && !strstr(path, "/blobs/")))
    return send_all(to, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  const char *hex = hex_of(name + 1);
  if (!hex)
    return send_all(to, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  return send_file(to, hex, is_manifest, strncmp(request, "HEAD ", 5) == 0);
}

/* Requests one after the other; none has a body. */
static void *serve(void *argument)
{
  const int connection = (int)(intptr_t)argument;
  static _Thread_local char request[REQUEST_BYTES + 1];
  size_t have = 0;
  for (;;) {
    const ssize_t n = recv(connection, request + have, REQUEST_BYTES - have, 0);
    if (n <= 0)
      break;
    request[have += (size_t)n] = 0;
    char *end = strstr(request, "\r\n\r\n");
    if (!end)
      continue;
    const size_t used = (size_t)(end + 4 - request);
    if (answer(connection, request) < 0)
      break;
    memmove(request, request + used, have - used);
    have -= used;
  }
  close(connection);
  return NULL;
}

int main(int argc, char **argv)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (argc < 2)
    return 2;
  arguments = argv + 1;
  if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 64) < 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
    perror("file-registry");
    return 1;
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    const int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    pthread_t thread;
    if (connection >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)connection) == 0)
      pthread_detach(thread);
    else if (connection >= 0)
      close(connection);
  }
}
