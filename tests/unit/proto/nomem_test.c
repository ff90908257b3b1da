/* SPDX-License-Identifier: Apache-2.0
 *
 * Each allocation of an operation fails once: the operation says so, leaves its results alone and keeps
 * nothing.
 */
#include <errno.h>

#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "tests/unit/proto/reading.h"

static const char view[] =
    "services:\n  a.mesh:80:\n    endpoints: [10.0.0.1:1, b:2]\n    peers: ['spiffe://s/*/x']\n    "
    "addresses: [10.0.0.9]\n    policy: pick_first\n"
    "resources:\n- '@type': x/envoy.service.discovery.v3.Resource\n  resource:\n    '@type': "
    "x/envoy.config.cluster.v3.Cluster\n    name: b\n"
    "    upstream_config: {}\n    metadata: {filter_metadata: {x: {k: [1, null, {a: b}, text]}}}\n"
    "    health_checks: [{tcp_health_check: {send: {binary: AAAA}}, http_health_check: }]\n"
    "- '@type': x/envoy.config.listener.v3.Listener\n  filter_chains: [{filter_chain_match: {source_ports: "
    "[1, 2], server_names: [a, b]}}]\n";

/* The sanitizers bring an allocator of their own, which cannot be stood before. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);

/* libc's own allocations must come here as well: strdup, asprintf. */
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

static ProtobufCMessage *message; /* what the operations on a message work on */
static uint8_t wire[4096];
static size_t wire_len;

static int read_view(void **ret) {
    struct mesh_read_opts opts = {.file = "f", .keep_refused = true};
    return mesh_resources_read(view, sizeof(view) - 1, &opts, (struct mesh_resources **)ret, NULL);
}

static int read_json(void **ret) {
    static const char text[] =
        "{\"resources\": [{\"@type\": \"x/envoy.config.cluster.v3.Cluster\", \"name\": \"\\ud83d\\ude00\"}]}";
    return mesh_resources_read(text, sizeof(text) - 1, NULL, (struct mesh_resources **)ret, NULL);
}

static void free_view(void *r) {
    mesh_resources_free(r);
}

static int unpack(void **ret) {
    return mesh_proto_unpack(message->descriptor, wire, wire_len, (ProtobufCMessage **)ret);
}

static int print(void **ret) {
    return mesh_proto_print(message, true, 2, (char **)ret);
}

static int check(void **ret) {
    *ret = NULL;
    return mesh_proto_check(message, "x", NULL);
}

static void each_failure(int (*operation)(void **ret), void (*undo)(void *), long at_least) {
    void *ret = NULL;
    int err = MESH_E_NOMEM;
    long n = 0;
    while (err) {
        fail_at = ++n;
        count = live = 0;
        ret = &message;
        counting = true;
        err = operation(&ret);
        if (!err)
            undo(ret);
        counting = false;
        cr_assert(!err || err == MESH_E_NOMEM, "allocation %ld: %s", n, mesh_err_text(err));
        cr_assert(!err || !ret || ret == &message, "allocation %ld: the result was touched", n);
        cr_assert_eq(live, 0, "allocation %ld: %ld blocks are left", n, live);
    }
    cr_assert_geq(n, at_least, "only %ld allocations", n);
}

Test(nomem, view_file_that_does_not_fit_is_an_error) {
    each_failure(read_view, free_view, 100);
    each_failure(read_json, free_view, 10);
}

static void read_message(void) {
    message = must_read("envoy.config.cluster.v3.Cluster",
                        "{name: a, transport_socket: {typed_config: {'@type': "
                        "x/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
                        "sni: x, common_tls_context: {alpn_protocols: [a, b]}}}, metadata: {filter_metadata: "
                        "{a: {b: c, d: [1, 2]}}}, "
                        "health_checks: [{tcp_health_check: {send: {binary: AAAA}}}]}");
    wire_len = protobuf_c_message_pack(message, wire);
}

Test(nomem, unpacking_that_does_not_fit_is_an_error) {
    read_message();
    each_failure(unpack, drop, 20);
    drop(message);
}

Test(nomem, printing_that_does_not_fit_is_an_error) {
    read_message();
    each_failure(print, free, 5);
    drop(message);
}

static void nothing(void *p) {
    (void)p;
}

Test(nomem, checking_that_does_not_fit_is_an_error) {
    read_message();
    each_failure(check, nothing, 5);
    drop(message);
}
#else
Test(nomem, view_file_is_read) {
    struct mesh_read_opts opts = {.file = "f", .keep_refused = true};
    struct mesh_resources *r;
    cr_assert_eq(mesh_resources_read(view, sizeof(view) - 1, &opts, &r, NULL), 0);
    mesh_resources_free(r);
}
#endif
