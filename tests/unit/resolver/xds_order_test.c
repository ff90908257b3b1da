/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/route.pb-c.h"
#include "tests/unit/resolver/xds_fixture.h"

#define P (&peers[0])

/* ---- any order --------------------------------------------------------------------------------------------
 * A server whose set moves on, and whose answers come one at a time and in any order: no name that is
 * published is ever without an endpoint, and in the end the set is the server's. */
static uint32_t seed;
static uint32_t dice(uint32_t n) {
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

enum { NAMES = 4, ROUTES = 5, CLUSTERS = 6 };
static uint32_t route_of[NAMES], cluster_of[ROUTES], service_of[CLUSTERS];

static void move_on(struct peer *p) {
    char a[16], b[16];
    for (uint32_t i = 0; i < NAMES; i++) {
        snprintf(a, sizeof(a), "n%u:80", i);
        snprintf(b, sizeof(b), "r%u", route_of[i] = dice(ROUTES));
        has_listener(p, a, b);
    }
    for (uint32_t i = 0; i < ROUTES; i++) {
        snprintf(a, sizeof(a), "r%u", i);
        snprintf(b, sizeof(b), "c%u", cluster_of[i] = dice(CLUSTERS));
        has_route(p, a, b);
    }
    bool used[CLUSTERS] = {false};
    for (uint32_t i = 0; i < ROUTES; i++)
        used[cluster_of[i]] = true;
    for (uint32_t i = 0; i < CLUSTERS; i++) { /* clusters that no route names any more are removed */
        snprintf(a, sizeof(a), "c%u", i);
        snprintf(b, sizeof(b), "e%u", service_of[i] = dice(CLUSTERS));
        if (used[i])
            has_cluster(p, a, b);
        else
            drop(p, MESH_ADS_CLUSTER, a);
        snprintf(a, sizeof(a), "e%u", i);
        snprintf(b, sizeof(b), "10.0.%u.%u", i, dice(250) + 1);
        has_endpoint(p, a, b);
    }
}

/* Follows what is published, as the build does. */
static const Mesh__Route__RouteConfiguration *route_shown(const char *name) {
    const struct mesh_resources *r = mesh_xds_resources(xds);
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->items[i].path, "RDS") == 0 && strcmp(r->items[i].name, name) == 0)
            return (const Mesh__Route__RouteConfiguration *)r->items[i].msg;
    return NULL;
}

static const char *backend_of(const char *listener) {
    const struct mesh_resources *r = mesh_xds_resources(xds);
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->items[i].path, "LDS") != 0 || strcmp(r->items[i].name, listener) != 0)
            continue;
        const Mesh__Listener__Listener *l = (const Mesh__Listener__Listener *)r->items[i].msg;
        ProtobufCMessage *m = NULL;
        const Mesh__Pb__Any *any = l->api_listener->api_listener;
        cr_assert_eq(mesh_proto_unpack(mesh_proto_type(any->type_url), any->value.data, any->value.len, &m),
                     0);
        const Mesh__Route__RouteConfiguration *c =
            route_shown(((Mesh__Http__HttpConnectionManager *)m)->rds->route_config_name);
        protobuf_c_message_free_unpacked(m, NULL);
        return c ? address_of(c->virtual_hosts[0]->routes[0]->route->cluster) : "";
    }
    return "";
}

static void expect_no_gap(const char *after) {
    char name[16];
    for (uint32_t i = 0; i < NAMES; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        cr_assert_eq(mesh_xds_state(xds, name, 80), MESH_XDS_KNOWN, "seed %u, %s: %s", seed, after, name);
        snprintf(name, sizeof(name), "n%u:80", i);
        cr_assert(*backend_of(name), "seed %u, %s: %s has no endpoint", seed, after, name);
    }
}

static void expect_all(const struct peer *p) {
    char name[16], service[16];
    for (uint32_t i = 0; i < NAMES; i++) {
        struct thing *t;
        char address[64] = "";
        snprintf(name, sizeof(name), "n%u:80", i);
        snprintf(service, sizeof(service), "e%u", service_of[cluster_of[route_of[i]]]);
        t = find((struct peer *)(uintptr_t)p, MESH_ADS_ENDPOINT, service);
        int rc = mesh_scan_assignment(
            t->value, t->n, &(struct mesh_scan_assignment_sink){.endpoint = first_address}, address);
        (void)rc;
        cr_assert_str_eq(backend_of(name), address, "seed %u: %s", seed, name);
    }
}

static void push_any(struct peer *p) {
    char name[16];
    enum mesh_ads_type type = (enum mesh_ads_type)dice(MESH_ADS_SECRET);
    if (type == MESH_ADS_CLUSTER || type == MESH_ADS_LISTENER) {
        push(p, type);
    } else {
        snprintf(name, sizeof(name), "%c%u", type == MESH_ADS_ROUTE ? 'r' : 'e', dice(CLUSTERS));
        push_only(p, type, dice(3) ? name : NULL);
    }
}

Test(xds_order, any_order_of_answers_leaves_no_gap_and_ends_at_the_servers_set) {
    char name[16];
    for (uint32_t run = 0; run < 60; run++) {
        seed = run * 7919 + 1;
        memset(peers, 0, sizeof(peers));
        bootstrap.is_wildcard = run % 3 == 2;
        servers[0].is_delta = run % 2;
        start_with(1);
        move_on(P);
        for (uint32_t i = 0; i < NAMES; i++) {
            snprintf(name, sizeof(name), "n%u", i);
            want(name, 80);
        }
        up(P);
        push_all(P);
        expect_no_gap("start");
        for (int step = 0; step < 6; step++) {
            P->ndropped = 0;
            move_on(P);
            for (int k = 0; k < 12; k++) {
                push_any(P);
                if (dice(20) == 0) {
                    down(P, true);
                    up(P);
                }
                passes(dice(2) * MESH_SEC);
                expect_no_gap("push");
            }
            push_all(P);
            expect_no_gap("end");
            expect_all(P);
        }
        finish();
    }
}
