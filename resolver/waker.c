/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/waker.h"
#include <stdio.h>
#include <sys/un.h>
#include "shim/base/sys.h"

static socklen_t name_of(uint64_t number, struct sockaddr_un *ret) {
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n =
        snprintf(ret->sun_path + 1, sizeof ret->sun_path - 1, "meshshim/%016llx", (unsigned long long)number);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int datagram_socket(void) {
    return mesh_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int mesh_waker_open(struct mesh_view *v, uint64_t random) {
    struct sockaddr_un name;
    socklen_t len = name_of(random, &name);
    int fd = datagram_socket();
    if (fd < 0)
        return fd;
    int rc = (int)mesh_sys3(SYS_bind, fd, (long)&name, len);
    if (rc < 0) {
        mesh_sys_close(fd);
        return rc;
    }
    atomic_store(&mesh_view_head(v)->waker, random);
    return fd;
}

void mesh_waker_drain(int fd) {
    char byte;
    while (mesh_sys_recvfrom(fd, &byte, 1, MSG_DONTWAIT, NULL, NULL) >= 0)
        ;
}

void mesh_waker_wake(const struct mesh_view *v) {
    struct sockaddr_un name;
    uint64_t number = atomic_load(&mesh_view_head(v)->waker);
    int fd = number ? datagram_socket() : -1;
    if (fd < 0)
        return;
    socklen_t len = name_of(number, &name);
    (void)mesh_sys_sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&name, len);
    (void)mesh_sys_close(fd);
}
