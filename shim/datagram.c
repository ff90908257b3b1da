/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/datagram.h"

#include <errno.h>

#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/engine.h"

bool mesh_is_tcp(int fd, int *ret_err) {
    int type = 0, proto = 0;
    socklen_t n = sizeof type;
    *ret_err = mesh_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n);
    if (*ret_err)
        return false;
    n = sizeof proto;
    *ret_err = mesh_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &n);
    return type == SOCK_STREAM && mesh_protocol_is_tcp(proto);
}

static bool is_virtual(const struct sockaddr *to, socklen_t len) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)to;
    bool four = len >= sizeof *in && to->sa_family == AF_INET;
    if (!four && (len < sizeof *in6 || to->sa_family != AF_INET6))
        return false;
    struct mesh_view *v = mesh_engine_view_if_any();
    if (!v && !(v = mesh_engine_view()))
        return false;
    if (four)
        return mesh_view_is_virtual(v, 4, &in->sin_addr);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return mesh_view_is_virtual(v, 4, in6->sin6_addr.s6_addr + 12);
    return mesh_view_is_virtual(v, 6, &in6->sin6_addr);
}

int mesh_datagram_to(int fd, const struct sockaddr *to, socklen_t len) {
    int err;
    if (!is_virtual(to, len) || mesh_is_tcp(fd, &err) || err)
        return 0;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", "not-tcp");
    mesh_line_int(&l, "fd", fd);
    mesh_line_addr(&l, "address", to, len);
    mesh_line_end(&l);
    return -EACCES;
}
