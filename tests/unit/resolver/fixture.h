/* SPDX-License-Identifier: Apache-2.0
 *
 * A run directory and a view file of a test's own. Criterion runs each test in a process of its own: what is
 * left open ends with it, what is left on disk is removed by fixture_done.
 */
#ifndef MESH_TESTS_RESOLVER_FIXTURE_H
#define MESH_TESTS_RESOLVER_FIXTURE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "resolver/resolver.h"

struct fixture {
    char dir[64], run[80], file[80];
    struct mesh_view_config cfg;
    struct mesh_view *view;
    struct mesh_why why;
    bool is_private;
};

static inline void fixture_write(const struct fixture *f, const char *text) {
    char temporary[96];
    snprintf(temporary, sizeof temporary, "%s.new", f->file);
    FILE *out = fopen(temporary, "w");
    cr_assert(out);
    cr_assert(fputs(text, out) >= 0);
    fclose(out);
    cr_assert(rename(temporary, f->file) == 0);
}

static inline void fixture_init(struct fixture *f, const char *text) {
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/meshview.XXXXXX");
    cr_assert(mkdtemp(f->dir));
    snprintf(f->run, sizeof f->run, "%s/run", f->dir);
    snprintf(f->file, sizeof f->file, "%s/view.yaml", f->dir);
    if (text)
        fixture_write(f, text);
    f->cfg = (struct mesh_view_config){.file = f->file, .run_dir = f->run, .uid = geteuid()};
}

static inline int fixture_open(struct fixture *f) {
    return mesh_view_open(&f->cfg, &f->view, &f->is_private, &f->why);
}

static inline void fixture_start(struct fixture *f, const char *text) {
    fixture_init(f, text);
    cr_assert_eq(fixture_open(f), 0, "%s", f->why.text);
    cr_assert_str_eq(f->why.text, "");
}

static inline void fixture_done(struct fixture *f) {
    char path[400];
    DIR *d = opendir(f->run);
    mesh_view_close(f->view);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", f->run, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(f->run);
    unlink(f->file);
    rmdir(f->dir);
}

static inline struct sockaddr_in fixture_addr(const char *text, uint16_t port) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    cr_assert_eq(inet_pton(AF_INET, text, &sa.sin_addr), 1);
    return sa;
}

/* Where a connect to an address leads. */
static inline int fixture_route(const struct mesh_view *v, const char *addr, uint16_t port,
                                struct mesh_route *ret) {
    struct sockaddr_in sa = fixture_addr(addr, port);
    return mesh_view_route(v, (struct sockaddr *)&sa, sizeof sa, 0, ret);
}

/* What a program does: look the name up, connect to the answer. */
static inline int fixture_connect(const struct mesh_view *v, const char *name, uint16_t port, uint64_t random,
                                  struct mesh_route *ret) {
    struct mesh_answer a;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    int rc = mesh_view_name(v, name, &a);
    if (rc < 0)
        return rc;
    cr_assert(a.has4);
    memcpy(&sa.sin_addr, a.v4, 4);
    return mesh_view_route(v, (struct sockaddr *)&sa, sizeof sa, random, ret);
}

static inline const char *fixture_v4(const struct mesh_view *v, const char *name) {
    static char text[INET_ADDRSTRLEN];
    struct mesh_answer a;
    cr_assert_eq(mesh_view_name(v, name, &a), 0, "%s", name);
    cr_assert(a.has4);
    return inet_ntop(AF_INET, a.v4, text, sizeof text);
}

#endif
