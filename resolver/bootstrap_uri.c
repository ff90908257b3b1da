/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC's target names (doc/naming.md), as far as they say one server.
 */
#include "resolver/bootstrap_read.h"

#include <stdlib.h>
#include <string.h>

enum { PORT_DEFAULT = 443, HOST_MAX = 255, UNIX_PATH_MAX = 107 };

static const char *after(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static const char no_memory[] = "out of memory";

static const char *unix_path(const char *path, bool abstract, struct mesh_xds_server *ret) {
    size_t n = strlen(path);
    if (!n || n + abstract > UNIX_PATH_MAX)
        return "has no path, or one longer than 107 bytes";
    ret->host = malloc(n + 2);
    if (!ret->host)
        return no_memory;
    ret->host[0] = '@';
    memcpy(ret->host + abstract, path, n + 1);
    ret->is_unix = true;
    return NULL;
}

static bool read_port(const char *text, uint16_t *ret_port) {
    unsigned long v = 0;
    size_t n = strspn(text, "0123456789");
    if (!n || text[n] || n > 5)
        return false;
    v = strtoul(text, NULL, 10);
    *ret_port = (uint16_t)v;
    return v > 0 && v <= UINT16_MAX;
}

/* HOST, HOST:PORT, [IP6], [IP6]:PORT; more than one colon without brackets is an IPv6 address without a port.
 */
static const char *host_port(const char *text, struct mesh_xds_server *ret) {
    const char *end, *port = NULL;
    if (*text == '[') {
        end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return "has no end of its address";
        port = end[1] ? end + 2 : NULL;
    } else {
        const char *first = strchr(text, ':');
        bool has_port = first && first == strrchr(text, ':');
        end = has_port ? first : text + strlen(text);
        port = has_port ? first + 1 : NULL;
    }
    size_t n = (size_t)(end - text);
    if (!n || n > HOST_MAX || memchr(text, '/', n))
        return "wants HOST:PORT";
    ret->port = PORT_DEFAULT;
    if (port && !read_port(port, &ret->port))
        return "has a port that is none";
    ret->host = strndup(text, n);
    return ret->host ? NULL : no_memory;
}

/* What follows `dns:` and the like: //AUTHORITY/ is the DNS server to ask, which we take from resolv.conf. */
static const char *after_authority(const char *text) {
    const char *slashes = after(text, "//");
    const char *path = slashes ? strchr(slashes, '/') : NULL;
    return path ? path + 1 : slashes ? "" : text;
}

const char *mesh_boot_uri(const char *text, struct mesh_xds_server *ret) {
    static const char *const schemes[] = {"dns:", "passthrough:", "ipv4:", "ipv6:"};
    const char *rest;
    if ((rest = after(text, "unix-abstract:")))
        return unix_path(rest, true, ret);
    if ((rest = after(text, "unix:")))
        return unix_path(after(rest, "//") ? after(rest, "//") : rest, false, ret);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if ((rest = after(text, schemes[i])))
            return strchr(after_authority(rest), ',') ? "names more than one address"
                                                      : host_port(after_authority(rest), ret);
    return strstr(text, "://") ? "has a scheme that is not supported" : host_port(text, ret);
}
