/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl check -f FILE: which services of a view or an Envoy config dump would be refused, and why. The file
 * is read twice: by the reader of resources, for what is wrong with each, and as a private view, for what
 * that does to names.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "proto/proto.h"
#include "shim/ctl/ctl.h"
#include "shim/ctl/findings.h"

enum { TEXT_MAX = 16 << 20, PORTS_MAX = 64 };

/* ---- the file ---------------------------------------------------------------------------------------------
 */
static int read_fd(int fd, char *text, size_t size, size_t *ret_n) {
    size_t n = 0;
    while (n < size) {
        ssize_t got = read(fd, text + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return MESH_E_IO;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *ret_n = n;
    return 0;
}

static int read_file(const char *path, char **ret_text, size_t *ret_n, struct mesh_why *why) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mesh_why(why, MESH_E_IO, "%s: %s", path, strerror(errno));
    int r = fstat(fd, &st) == 0 && S_ISREG(st.st_mode)
                ? 0
                : mesh_why(why, MESH_E_INVALID, "%s: not a plain file", path);
    if (r == 0 && st.st_size > TEXT_MAX)
        r = mesh_why(why, MESH_E_LIMIT, "%s: larger than %d bytes", path, TEXT_MAX);
    char *text = r == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    if (text)
        r = read_fd(fd, text, (size_t)st.st_size, ret_n);
    else if (r == 0)
        r = MESH_E_NOMEM;
    close(fd);
    if (r < 0) {
        free(text);
        return why->text[0] ? r : mesh_why(why, r, "%s: %s", path, mesh_err_text(r));
    }
    *ret_text = text;
    return 0;
}

/* ---- its resources ----------------------------------------------------------------------------------------
 */
static void found_unknown(void *arg, const char *path, uint32_t line, uint32_t column, const char *what) {
    mesh_ctl_found(arg, MESH_CTL_WARNING, "resource", "", "%u:%u: %s: %s", line, column, path, what);
}

/* False: the file could not be read at all, so there is nothing more to ask. */
static bool check_resources(const char *path, struct mesh_ctl_findings *f) {
    struct mesh_why why = {""};
    struct mesh_resources *all = NULL;
    struct mesh_read_opts opts = {.file = path, .warn = found_unknown, .arg = f, .keep_refused = true};
    char *text = NULL;
    size_t n = 0;
    int r = read_file(path, &text, &n, &why);
    if (r == 0)
        r = mesh_resources_read(text, n, &opts, &all, &why);
    free(text);
    if (r < 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "file", "correct it: nothing of it would be in force", "%s",
                       why.text[0] ? why.text : mesh_err_text(r));
    for (size_t i = 0; all && i < all->n; i++)
        if (all->items[i].refused)
            mesh_ctl_found(f, MESH_CTL_ERROR, "resource", "take the field out, or do without this resource",
                           "%s is refused, and what depends on it: %s", all->items[i].path,
                           all->items[i].refused);
    mesh_resources_free(all);
    return r == 0;
}

/* ---- its names --------------------------------------------------------------------------------------------
 */
struct names {
    struct mesh_view *view;
    struct mesh_ctl_findings *f;
    size_t good;
};

static const char *todo_for(int err) {
    switch (err) {
    case MESH_E_IDENTITY:
        return "give its cluster a TLS transport socket, or unset MESH_TLS=required";
    case MESH_E_NOENDPOINT:
    case MESH_E_FAMILY:
        return "give its cluster endpoints";
    default:
        return "see the resources named above";
    }
}

/* Does a connection get as far as choosing an endpoint of the i-th cluster that the route leads to? */
static int judge_target(const struct mesh_view *v, const char *name, uint16_t port, uint32_t i,
                        struct mesh_why *why) {
    struct mesh_route route;
    struct mesh_target *target = NULL;
    struct mesh_cluster_view cluster;
    uint64_t seq;
    int r = mesh_view_route_target(v, name, port, i, &route, why);
    if (r < 0)
        return r;
    r = mesh_view_target(v, &route, 0, &target);
    free(target);
    if (r == 0)
        r = mesh_view_cluster(v, &route, &cluster, &seq);
    if (r == 0 && cluster.n == 0 && !route.original_dst)
        r = MESH_E_NOENDPOINT;
    return r < 0 ? mesh_why(why, r, "cluster %s: %s", route.cluster, mesh_err_text(r)) : 0;
}

/* A name on one port: of weighted clusters some may be refused and others not. */
static bool check_port(struct names *n, const char *name, uint16_t port) {
    bool good = false, bad = false;
    for (uint32_t i = 0;; i++) {
        struct mesh_why why = {""};
        char at[8] = "";
        int r = judge_target(n->view, name, port, i, &why);
        if (r == MESH_E_LIMIT)
            return good || !bad;
        good |= r == 0;
        bad |= r < 0;
        if (port)
            snprintf(at, sizeof at, ":%u", port);
        if (r < 0)
            mesh_ctl_found(n->f, MESH_CTL_ERROR, "service", todo_for(r), "%s%s would be refused: %s", name,
                           at, why.text[0] ? why.text : mesh_err_text(r));
    }
}

static void check_name(void *arg, const char *name) {
    struct names *n = arg;
    uint16_t ports[PORTS_MAX];
    bool good = true;
    int k = mesh_view_name_ports(n->view, name, ports, PORTS_MAX);
    for (int i = 0; i < k; i++)
        good &= check_port(n, name, ports[i]);
    n->good += good;
}

static void found_fault(void *arg, const char *resource, const char *why) {
    mesh_ctl_found(arg, MESH_CTL_WARNING, "resource", "", "%s, or a part of it, is left out: %s", resource,
                   why);
}

static void check_names(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    struct mesh_view_config cfg;
    struct mesh_why why = {""};
    struct names n = {.f = f};
    mesh_env_view_config(&c->env, c->uid, &cfg);
    cfg.file = c->args.file;
    cfg.run_dir = NULL; /* nobody else's business */
    int r = mesh_view_open(&cfg, &n.view, &c->private_view, &why);
    if (r == 0) {
        r = mesh_view_each_fault(n.view, found_fault, f);
        if (r >= 0)
            r = mesh_view_each_name(n.view, check_name, &n);
        mesh_view_close(n.view);
    }
    if (r < 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "file", "", "%s", why.text[0] ? why.text : mesh_err_text(r));
    else
        mesh_ctl_found(f, MESH_CTL_OK, "service", "", "%zu names would be served", n.good);
}

static void ignore_value(void *arg, const char *name, const char *value, const char *what) {
    (void)arg;
    (void)name;
    (void)value;
    (void)what;
}

int mesh_ctl_check_file(struct mesh_ctl *c) {
    struct mesh_why why = {""};
    struct mesh_ctl_findings *f = calloc(1, sizeof *f);
    int r = f ? mesh_ctl_session_read(c, ignore_value, NULL, &why) : MESH_E_NOMEM;
    if (r < 0) {
        mesh_ctl_complain("%s", why.text[0] ? why.text : mesh_err_text(r));
        free(f);
        return MESH_CTL_NO;
    }
    if (check_resources(c->args.file, f))
        check_names(c, f);
    int status = mesh_ctl_findings_print(f, c->args.format);
    free(f);
    return status;
}
