/* SPDX-License-Identifier: Apache-2.0 */
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include "resolver/build.h"
#include "shim/base/sys.h"

enum { INTERFACES_MAX = 32, ROUTES_MAX = 1 << 20 };

bool mesh_host_address(uint32_t *ret_addr) {
    struct ifreq list[INTERFACES_MAX];
    struct ifconf conf = {.ifc_len = sizeof list, .ifc_req = list};
    int fd = mesh_sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int rc = mesh_sys_ioctl(fd, SIOCGIFCONF, &conf);
    mesh_sys_close(fd);
    for (size_t i = 0; rc == 0 && i < (size_t)conf.ifc_len / sizeof list[0]; i++) {
        const struct sockaddr_in *in = (const void *)&list[i].ifr_addr;
        if (in->sin_family != AF_INET || (ntohl(in->sin_addr.s_addr) >> 24) == 127)
            continue;
        *ret_addr = in->sin_addr.s_addr;
        return true;
    }
    return false;
}

/* The text of a file in /proc, which has no size. */
static char *read_proc(const char *path) {
    size_t len = 0, room = 1 << 14;
    char *text = malloc(room + 1);
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    while (fd >= 0 && text) {
        ssize_t n = mesh_sys_read(fd, text + len, room - len);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
        if (len < room)
            continue;
        char *more = room < ROUTES_MAX ? realloc(text, room * 2 + 1) : NULL;
        if (!more)
            break;
        text = more;
        room *= 2;
    }
    if (fd >= 0)
        mesh_sys_close(fd);
    if (text)
        text[len] = 0;
    return text;
}

static const char *next_line(const char *p) {
    p = strchr(p, '\n');
    return p ? p + 1 : "";
}

static bool overlaps(const struct mesh_cidr_list *ranges, int family, const uint8_t *addr, unsigned bits) {
    for (uint32_t i = 0; i < ranges->n; i++) {
        const struct mesh_cidr *c = &ranges->items[i];
        unsigned least = c->bits < bits ? c->bits : bits, rest = least % 8;
        if (c->family != family || memcmp(c->addr, addr, least / 8) != 0)
            continue;
        if (!rest || ((c->addr[least / 8] ^ addr[least / 8]) & (0xff00 >> rest) & 0xff) == 0)
            return true;
    }
    return false;
}

static int reserve(struct mesh_pub *pub, int family, const uint8_t *addr, unsigned bits) {
    if (bits == 0 || !overlaps(pub->v->virtual_ranges, family, addr, bits)) /* 0 bits: the default route */
        return 0;
    int rc = mesh_pub_reserve(pub, family, addr, (uint8_t)bits);
    return rc == MESH_E_LIMIT ? 0 : rc;
}

static int routes4(struct mesh_pub *pub, const char *text) {
    unsigned dst, mask;
    int rc = 0;
    for (const char *p = next_line(text); *p && rc == 0; p = next_line(p))
        if (sscanf(p, "%*15s %x %*x %*x %*d %*d %*d %x", &dst, &mask) == 2)
            rc = reserve(pub, 4, (const uint8_t *)&dst, (unsigned)__builtin_popcount(mask));
    return rc;
}

static int routes6(struct mesh_pub *pub, const char *text) {
    int rc = 0;
    for (const char *p = text; *p && rc == 0; p = next_line(p)) {
        uint8_t addr[16];
        unsigned bits, byte, i;
        for (i = 0; i < 16 && sscanf(p + 2 * i, "%2x", &byte) == 1; i++)
            addr[i] = (uint8_t)byte;
        /* the multicast and link-local entries that every host has do not lie in a range of ours */
        if (i == 16 && sscanf(p + 32, " %x", &bits) == 1 && bits <= 128)
            rc = reserve(pub, 6, addr, bits);
    }
    return rc;
}

int mesh_host_reserve_routes(struct mesh_pub *pub) {
    char *four = read_proc("/proc/net/route"), *six = read_proc("/proc/net/ipv6_route");
    int rc = four ? routes4(pub, four) : 0;
    if (rc == 0 && six)
        rc = routes6(pub, six);
    free(four);
    free(six);
    return rc;
}
