/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/channel_dial.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include "shim/base/sys.h"

enum {
    USER_TIMEOUT_MS =
        20000 /* what was sent and not acknowledged for so long: the connection is gone (gRFC A18) */
};

struct channel_address mesh_channel_ip(uint8_t family, const uint8_t addr[16], uint16_t port) {
    struct channel_address a = {0};
    if (family == 4) {
        a.len = sizeof a.sa.in;
        a.sa.in.sin_family = AF_INET;
        a.sa.in.sin_port = htons(port);
        memcpy(&a.sa.in.sin_addr, addr, 4);
    } else {
        a.len = sizeof a.sa.in6;
        a.sa.in6.sin6_family = AF_INET6;
        a.sa.in6.sin6_port = htons(port);
        memcpy(&a.sa.in6.sin6_addr, addr, 16);
    }
    return a;
}

struct channel_address mesh_channel_unix(const char *path) {
    struct channel_address a = {0};
    size_t n = strnlen(path, sizeof a.sa.un.sun_path - 1);
    a.sa.un.sun_family = AF_UNIX;
    memcpy(a.sa.un.sun_path, path, n);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    if (path[0] == '@') { /* an abstract name has no end but its length */
        a.sa.un.sun_path[0] = 0;
        a.len--;
    }
    return a;
}

void mesh_channel_address_text(const struct channel_address *a, char *ret_text, size_t cap) {
    char text[INET6_ADDRSTRLEN] = "";
    switch (a->sa.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a->sa.in.sin_addr, text, sizeof text);
        snprintf(ret_text, cap, "%s:%u", text, ntohs(a->sa.in.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->sa.in6.sin6_addr, text, sizeof text);
        snprintf(ret_text, cap, "[%s]:%u", text, ntohs(a->sa.in6.sin6_port));
        break;
    default:
        if (a->sa.un.sun_path[0])
            snprintf(ret_text, cap, "unix:%s", a->sa.un.sun_path);
        else
            snprintf(ret_text, cap, "unix-abstract:%s", a->sa.un.sun_path + 1);
    }
}

static void set_options(int fd, int family) {
    const int on = 1, ms = USER_TIMEOUT_MS;
    if (family == AF_UNIX)
        return;
    (void)mesh_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)mesh_sys_setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

int mesh_channel_connect(const struct channel_address *a, const struct mesh_fd_hooks *hooks, int *ret_fd) {
    int fd = mesh_sys_socket(a->sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && hooks && hooks->keep)
        fd = hooks->keep(fd);
    if (fd < 0)
        return fd;
    set_options(fd, a->sa.any.sa_family);
    int rc = mesh_sys_connect(fd, &a->sa.any, a->len);
    if (rc < 0 && rc != -EINPROGRESS && rc != -EINTR) {
        mesh_channel_close(fd, hooks);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

int mesh_channel_connected(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;
    int rc = mesh_sys_poll(&p, 1, 0);
    if (rc <= 0)
        return rc == -EINTR ? 0 : rc;
    rc = mesh_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return rc < 0 ? rc : error ? -error : 1;
}

void mesh_channel_close(int fd, const struct mesh_fd_hooks *hooks) {
    if (hooks && hooks->drop)
        hooks->drop(fd);
    mesh_sys_close(fd);
}
