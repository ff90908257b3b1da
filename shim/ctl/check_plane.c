/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl check: the control plane's side.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "resolver/bootstrap.h"
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "shim/ctl/ctl.h"
#include "shim/ctl/findings.h"

enum { CONNECT_MS = 2000 /* longest wait for a control plane */ };

static bool accepts(const struct addrinfo *a) {
    int err = 0, fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof err;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    bool up = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    if (fd >= 0 && !up && errno == EINPROGRESS && poll(&p, 1, CONNECT_MS) == 1)
        up = getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0;
    if (fd >= 0)
        close(fd);
    return up;
}

static bool is_reachable(const struct mesh_xds_server *s) {
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    bool up = false;
    if (s->is_unix)
        return s->host[0] == '@' || access(s->host, W_OK) == 0;
    snprintf(port, sizeof port, "%u", s->port);
    if (getaddrinfo(s->host, port, &hints, &list) != 0)
        return false;
    for (const struct addrinfo *a = list; a && !up; a = a->ai_next)
        up = accepts(a);
    freeaddrinfo(list);
    return up;
}

static bool report_says_up(const struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    struct mesh_report *r;
    bool up = false;
    if (mesh_view_report(c->view, mesh_now(), &r) < 0)
        return false;
    for (uint32_t i = 0; i < r->nservers && r->pid; i++) {
        const struct mesh_report_server *s = &r->servers[i];
        bool is_up = s->state == MESH_CHANNEL_UP;
        if (is_up && s->is_active)
            mesh_ctl_found(f, MESH_CTL_OK, "control plane", "", "%s: process %d has a stream open", s->uri,
                           r->pid);
        if (s->nacks)
            mesh_ctl_found(f, MESH_CTL_WARNING, "control plane", "meshctl view says which resources, and why",
                           "%s: %u responses were refused", s->uri, s->nacks);
        up |= is_up && s->is_active;
    }
    free(r);
    return up;
}

static void judge_age(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    struct mesh_view_info i;
    if (!c->view || mesh_view_describe(c->view, &i) < 0 || !i.version)
        return;
    if (i.confirmed)
        mesh_ctl_found(f, MESH_CTL_OK, "view", "", "confirmed by the control plane %lld s ago",
                       (long long)(mesh_wall() - i.confirmed));
    else
        mesh_ctl_found(f, MESH_CTL_WARNING, "view", "", "not confirmed by any control plane");
}

void mesh_ctl_check_plane(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    const struct mesh_env *e = &c->env;
    struct mesh_bootstrap *b = NULL;
    struct mesh_why why = {""};
    if (!e->bootstrap && !e->bootstrap_config)
        return;
    int r = mesh_bootstrap_load(e->bootstrap, e->bootstrap_config, &b, &why);
    if (r < 0) {
        mesh_ctl_found(f, MESH_CTL_ERROR, "control plane",
                       "correct the bootstrap: its names are refused until then", "%s",
                       why.text[0] ? why.text : mesh_err_text(r));
        return;
    }
    judge_age(c, f);
    bool up = c->view && report_says_up(c, f), any = up;
    for (uint32_t i = 0; i < b->nservers && !up; i++) {
        bool reached = is_reachable(&b->servers[i]);
        any |= reached;
        mesh_ctl_found(f, reached ? MESH_CTL_OK : MESH_CTL_WARNING, "control plane",
                       reached ? "" : "start it, or correct server_uri", "%s %s", b->servers[i].uri,
                       reached ? "accepts connections" : "cannot be reached");
    }
    if (!any)
        mesh_ctl_found(f, MESH_CTL_ERROR, "control plane", "names that the view lists go on as they are",
                       "none of its servers can be reached");
    if (!e->domains && !b->is_wildcard)
        mesh_ctl_found(f, MESH_CTL_WARNING, "control plane", "set MESH_DOMAINS to the mesh's suffixes",
                       "names are asked for one by one, and no domain says which ones");
    mesh_bootstrap_free(b);
}
