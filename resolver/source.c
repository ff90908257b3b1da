/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "lb/lb.h"
#include "proto/proto.h"
#include "resolver/blend.h"
#include "resolver/build.h"
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"

enum {
    SOURCE_MAX = 16 << 20,
    FIRST_WAITS = 1000 /* of 5 ms, for somebody else's first build */,
    WARNINGS_MAX = 8
};

/* ---- the file's stamp -------------------------------------------------------------------------------------
 */
uint64_t mesh_source_stamp(const char *path) {
    struct stat st;
    if (mesh_sys_stat(path, &st) < 0)
        return 0;
    uint64_t parts[7] = {(uint64_t)st.st_dev,          (uint64_t)st.st_ino,
                         (uint64_t)st.st_size,         (uint64_t)st.st_mtim.tv_sec,
                         (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec,
                         (uint64_t)st.st_ctim.tv_nsec};
    return mesh_hash_bytes(parts, sizeof parts, 0) | 1;
}

static uint64_t stamp_in_force(const struct mesh_view *v) {
    uint64_t seq;
    const struct view_root *root = mesh_view_begin(v, &seq);
    uint64_t stamp = root ? root->stamp : 0;
    return mesh_view_still(v, seq) ? stamp : 0;
}

void mesh_source_say(struct mesh_view *v, const char *text) {
    struct view_head *h = mesh_view_head(v);
    uint32_t odd = atomic_load(&h->error_sequence) | 1;
    atomic_store(&h->error_sequence, odd);
    atomic_thread_fence(memory_order_release);
    snprintf(h->error, sizeof h->error, "%s", text);
    atomic_store_explicit(&h->error_sequence, odd + 1, memory_order_release);
}

/* ---- building ---------------------------------------------------------------------------------------------
 */
/* A view made for a newer reader may have thousands of fields that we do not know: the first few tell. */
static void trace_unknown(void *arg, const char *path, uint32_t line, uint32_t column, const char *what) {
    uint32_t *told = arg;
    struct mesh_line l;
    if (++*told > WARNINGS_MAX)
        return;
    mesh_line_begin(&l, MESH_TRACE_INFO, "view");
    mesh_line_str(&l, "state", "unknown");
    mesh_line_str(&l, "field", path);
    mesh_line_int(&l, "line", line);
    mesh_line_int(&l, "column", column);
    mesh_line_str(&l, "detail", what);
    mesh_line_end(&l);
}

/* What a program would else only learn of by its first connection. */
static void trace_refused(const struct mesh_resources *r) {
    uint32_t told = 0;
    for (size_t i = 0; i < r->n && told < WARNINGS_MAX; i++) {
        if (!r->items[i].refused)
            continue;
        struct mesh_line l;
        told++;
        mesh_line_begin(&l, MESH_TRACE_ERROR, "view");
        mesh_line_str(&l, "state", "refused");
        mesh_line_str(&l, "resource", r->items[i].name);
        mesh_line_str(&l, "detail", r->items[i].refused);
        mesh_line_end(&l);
    }
}

int mesh_source_read(const char *path, struct mesh_resources **ret, struct mesh_why *why) {
    char *text;
    size_t len;
    uint32_t told = 0;
    struct mesh_read_opts opts = {.file = path, .warn = trace_unknown, .arg = &told, .keep_refused = true};
    int rc = mesh_file_read(path, SOURCE_MAX, &text, &len, why);
    if (rc < 0)
        return rc;
    rc = mesh_resources_read(text, len, &opts, ret, why);
    free(text);
    if (rc == 0)
        trace_refused(*ret);
    return rc;
}

/* What the first process of a view starts from: its file, and what serves until a control plane has answered.
 */
static int read_first(const struct mesh_view *v, struct mesh_blend *ret, struct mesh_why *why) {
    struct mesh_resources *file = NULL, *seed = NULL;
    int rc = v->source ? mesh_source_read(v->source, &file, why) : 0;
    if (rc == 0 && v->seed)
        rc = mesh_source_read(v->seed, &seed, why);
    if (rc == 0)
        rc = mesh_blend_make(ret, file, NULL, seed, v->bootstrap);
    if (rc == 0) {
        ret->own[0] = file;
        ret->own[1] = seed;
        return 0;
    }
    mesh_resources_free(file);
    mesh_resources_free(seed);
    return rc;
}

static int publish(struct mesh_view *v, uint64_t stamp, uint64_t now, struct mesh_why *why) {
    struct mesh_blend blend;
    struct mesh_pub *pub;
    int rc = mesh_pub_open(v, now, &pub);
    if (rc < 0)
        return rc;
    if (stamp_in_force(v) == stamp) { /* somebody did it before we had the lease */
        mesh_pub_close(pub);
        return MESH_E_AGAIN;
    }
    rc = read_first(v, &blend, why);
    if (rc < 0)
        goto close_publisher;
    rc = mesh_pub_fresh(pub);
    struct mesh_build_in in = {.resources = &blend.set, .ranks = blend.ranks};
    if (rc == 0)
        rc = mesh_build(pub, &in, why);
    mesh_blend_done(&blend);
    if (rc == 0)
        rc = mesh_pub_commit(pub, stamp, mesh_wall());
close_publisher:
    mesh_pub_close(pub);
    return rc;
}

static int update(struct mesh_view *v, uint64_t stamp, uint64_t now, struct mesh_why *why) {
    struct view_head *h = mesh_view_head(v);
    struct mesh_why own = {""};
    int rc = publish(v, stamp, now, &own);
    if (rc == MESH_E_AGAIN)
        return 0;
    if (rc == MESH_E_NOMEM)
        return mesh_why(why, rc, "%s", mesh_err_text(rc));
    mesh_source_say(v, rc < 0 ? (own.text[0] ? own.text : mesh_err_text(rc)) : "");
    /* No descriptor, no room on the disk: that says nothing of the file, and the next look may succeed. */
    atomic_store(&h->bad_stamp, rc < 0 && rc != MESH_E_IO ? stamp : 0);
    if (rc < 0)
        return mesh_why(why, rc, "%s", own.text[0] ? own.text : mesh_err_text(rc));
    mesh_source_ip(v);
    return 1;
}

static bool has_root(const struct mesh_view *v) {
    return atomic_load(&mesh_view_head(v)->root) != 0;
}

bool mesh_source_published(const struct mesh_view *v) {
    uint64_t seq;
    if (v->learns)
        return has_root(v);
    const struct view_root *root = mesh_view_begin(v, &seq);
    return root && root->flags & ROOT_STANDS && mesh_lease_stands(v, mesh_now_coarse(), false);
}

int mesh_source_first(struct mesh_view *v, uint64_t now, struct mesh_why *why) {
    struct view_head *h = mesh_view_head(v);
    int rc = 0;
    mesh_source_ip(v);
    if (!v->source && !v->seed)
        return 0;
    now = now ? now : mesh_now();
    uint64_t stamp = v->source ? mesh_source_stamp(v->source) : 1;
    atomic_store(&h->checked_at, now);
    if (mesh_source_published(v)) /* by a publisher that also knows what the file does not say */
        return 0;
    if (!stamp)
        rc = mesh_why(why, MESH_E_IO, "%s: cannot be read", v->source);
    else if (stamp != stamp_in_force(v))
        rc = update(v, stamp, now, why);
    for (int i = 0; i < FIRST_WAITS && rc == 0 && !has_root(v) && mesh_lease_held(v); i++) {
        struct timespec pause = {0, 5000000};
        mesh_sys_ppoll(NULL, 0, &pause, NULL);
    }
    return rc < 0 ? rc : 0;
}

int mesh_view_refresh(struct mesh_view *v, uint64_t now, struct mesh_why *why) {
    struct view_head *h = mesh_view_head(v);
    uint64_t last = atomic_load_explicit(&h->checked_at, memory_order_relaxed);
    if (!v->source || mesh_source_published(v) || (now >= last && now - last < MESH_SEC) ||
        !atomic_compare_exchange_strong(&h->checked_at, &last, now))
        return 0;
    uint64_t stamp = mesh_source_stamp(v->source);
    if (!stamp || stamp == stamp_in_force(v) || stamp == atomic_load(&h->bad_stamp))
        return 0;
    return update(v, stamp, now, why);
}

/* ---- our own address, for policies that hash it
 * ------------------------------------------------------------ */
static bool wants_source_ip(const struct mesh_view *v) {
    uint64_t seq;
    const struct view_root *root = mesh_view_begin(v, &seq);
    return (v->hash_text && strcmp(v->hash_text, "source-ip") == 0) || (root && root->flags & ROOT_SOURCE_IP);
}

void mesh_source_ip(struct mesh_view *v) {
    char text[32];
    uint32_t addr;
    if (atomic_load(&v->source_ip_hash) || !wants_source_ip(v) || !mesh_host_address(&addr))
        return;
    const uint8_t *b = (const uint8_t *)&addr;
    int n = snprintf(text, sizeof text, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    uint64_t hash = mesh_lb_xxh64(text, (size_t)n, 0);
    atomic_store(&v->source_ip_hash, hash ? hash : 1);
}
