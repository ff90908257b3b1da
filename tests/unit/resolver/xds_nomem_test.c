/* SPDX-License-Identifier: Apache-2.0
 *
 * Each allocation of the xDS client fails once: nothing breaks, nothing is left behind, and the client gets
 * over it.
 */
#include "tests/unit/resolver/xds_fixture.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);
#define VISIBLE __attribute__((visibility("default")))

static bool counting;
static long live, count, fail_at; /* blocks in use, allocations so far, the one that fails */

static bool fails_now(void) {
    return counting && ++count == fail_at;
}
VISIBLE void *malloc(size_t n) {
    void *p = fails_now() ? NULL : __libc_malloc(n);
    live += counting && p;
    return p;
}
VISIBLE void *calloc(size_t n, size_t size) {
    void *p = fails_now() ? NULL : __libc_calloc(n, size);
    live += counting && p;
    return p;
}
VISIBLE void *realloc(void *p, size_t n) {
    void *q = fails_now() ? NULL : __libc_realloc(p, n);
    live += counting && !p && q;
    return q;
}
VISIBLE void free(void *p) {
    live -= counting && p;
    __libc_free(p);
}
static void count_inside(bool inside) {
    counting = inside;
}

static void restarted(void) {
    for (int i = 0; i < 2; i++)
        if (peers[i].restarts && peers[i].is_up) {
            peers[i].restarts = 0;
            down(&peers[i], true);
            up(&peers[i]);
        }
}

static void answer(struct peer *p, enum mesh_ads_type type) {
    push(p, type);
    restarted();
}

static void answer_all(struct peer *p) {
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < MESH_ADS_TYPES; i++)
            answer(p, (enum mesh_ads_type)i);
}

static int want_inside(const char *name) {
    int rc;
    INSIDE(rc = mesh_xds_want(xds, name, 80, now));
    return rc;
}

/* A client's life with most of what can happen. Negative: it did not come to be. */
static int live_once(void) {
    struct mesh_xds_config cfg = {.bootstrap = &bootstrap, .transport = &transport};
    int rc;
    INSIDE(rc = mesh_xds_new(&cfg, &xds));
    if (rc)
        return rc;
    if (want_inside("web"))
        cr_assert_eq(want_inside("web"), 0);
    drive();
    passes(MESH_SEC);
    up(&peers[0]);
    answer_all(&peers[0]);
    has_endpoint(&peers[0], "e", "10.0.0.2");
    answer(&peers[0], MESH_ADS_ENDPOINT);
    has_route(&peers[0], "r", "agg");
    has_aggregate(&peers[0], "agg", "c, d");
    has_cluster(&peers[0], "d", "f");
    has(&peers[0], MESH_ADS_CLUSTER, "d", "{name: d, type: EDS}"); /* rejected */
    answer_all(&peers[0]);
    has_cluster(&peers[0], "d", "f");
    has_endpoint(&peers[0], "f", "10.0.0.3");
    answer_all(&peers[0]);
    if (want_inside("other"))
        cr_assert_eq(want_inside("other"), 0);
    drive();
    down(&peers[0], false);
    passes(2 * MESH_SEC); /* the other server is tried again */
    cr_assert_not_null(peers[1].ch, "allocation %ld", fail_at);
    up(&peers[1]);
    answer_all(&peers[1]);
    up(&peers[0]);
    answer_all(&peers[0]);
    passes(2 * MESH_SEC);
    answer_all(&peers[0]);
    struct mesh_xds_change c;
    bool settled;
    INSIDE(mesh_xds_changed(xds, now, &c, &settled));
    INSIDE(mesh_xds_resources(xds));
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN, "allocation %ld", fail_at);
    const char *text = shown();
    cr_expect_str_eq(text, "LDS web:80; RDS r; CDS c; CDS agg; CDS d", "allocation %ld: %s", fail_at, text);
    cr_expect_str_eq(address_of("d"), "10.0.0.3", "allocation %ld", fail_at);
    return 0;
}

static void has_all(struct peer *p) {
    has_listener(p, "web:80", "r");
    has_route(p, "r", "c");
    has_cluster(p, "c", "e");
    has_endpoint(p, "e", "10.0.0.1");
}

Test(xds_nomem, each_allocation_that_fails_is_got_over) {
    static char uris[PEERS][16];
    for (int i = 0; i < PEERS; i++) {
        snprintf(uris[i], sizeof(uris[i]), "server%d:1", i);
        servers[i].uri = uris[i];
    }
    bootstrap.servers = servers;
    bootstrap.nservers = 2;
    bootstrap.client_template = "%s";
    long most = 0;
    for (fail_at = 1; fail_at <= most + 1; fail_at++) {
        memset(peers, 0, sizeof(peers));
        has_all(&peers[0]);
        has_all(&peers[1]);
        entered = count_inside;
        count = live = 0;
        int rc = live_once();
        cr_assert(rc == 0 || rc == MESH_E_NOMEM);
        INSIDE(mesh_xds_free(xds));
        xds = NULL;
        entered = NULL;
        finish();
        cr_assert_eq(live, 0, "allocation %ld: %ld blocks are left", fail_at, live);
        most = count > most ? count : most;
    }
    cr_expect_gt(most, 300, "%ld", most);
}
#else
Test(xds_nomem, needs_an_allocator_that_can_be_stood_before) {
}
#endif
