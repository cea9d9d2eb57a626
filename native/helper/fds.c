/* Descriptors handed from one process to another over a unix socket. */
#include "helper.h"
#include "../lib/sys.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int send_fds(int socket, const void *data, size_t length, const int *fds, int count)
{
    char control[CMSG_SPACE(sizeof(int) * FDS_MAX)] = {0};
    struct iovec part = {(void *)(uintptr_t)data, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)count);
    ssize_t n;
    do
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)length ? 0 : -1;
}

ssize_t receive_fds(int socket, void *data, size_t length, int fds[FDS_MAX], int flags)
{
    char control[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    struct iovec part = {data, length};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = -1;
    ssize_t n;
    do
        n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return n;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_RIGHTS)
            memcpy(fds, CMSG_DATA(at), at->cmsg_len - CMSG_LEN(0));
    return n;
}
