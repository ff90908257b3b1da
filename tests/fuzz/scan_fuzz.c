/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes under the wire scanner, with protobuf-c as the judge: the first byte chooses between an
 * assignment and the two kinds of response. What one takes the other takes, and both see the same.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/discovery.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/proto.h"
#include "proto/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

static bool same(struct mesh_bytes b, const char *text) {
    size_t n = text ? strlen(text) : 0;
    return b.n == n && (!n || memcmp(b.p, text, n) == 0);
}

/* Does a singular message come twice? protobuf-c gives up on some of those that it would have to merge. */
static bool has_twice(const ProtobufCMessageDescriptor *d, struct mesh_bytes b) {
    uint32_t seen[64] = {0}, n = 0;
    struct mesh_scan s = mesh_scan_of(b);
    struct mesh_field f;
    while (mesh_scan_next(&s, &f) > 0) {
        const ProtobufCFieldDescriptor *fd = protobuf_c_message_descriptor_get_field(d, f.number);
        if (!fd || fd->type != PROTOBUF_C_TYPE_MESSAGE || f.wire != MESH_WIRE_BYTES)
            continue;
        if (has_twice(fd->descriptor, f.bytes))
            return true;
        for (uint32_t i = 0; i < n && fd->label != PROTOBUF_C_LABEL_REPEATED; i++)
            if (seen[i] == f.number)
                return true;
        if (n < 64)
            seen[n++] = f.number;
    }
    return false;
}

/* ---- assignments ------------------------------------------------------------------------------------------
 */
struct at {
    const Mesh__Endpoint__ClusterLoadAssignment *m;
    size_t locality, endpoint, drop;
    bool checks;
};

static int on_name(void *arg, struct mesh_bytes name) {
    return 0; /* may come again; the last one counts */
}

static int on_locality(void *arg, const struct mesh_scan_locality *l) {
    struct at *at = arg;
    if (!at->checks)
        return 0;
    must(at->locality < at->m->n_endpoints);
    const Mesh__Endpoint__LocalityLbEndpoints *m = at->m->endpoints[at->locality++];
    at->endpoint = 0;
    must(l->n == m->n_lb_endpoints && l->priority == m->priority);
    must(l->has_weight == (m->load_balancing_weight != NULL));
    must(!m->load_balancing_weight || l->weight == m->load_balancing_weight->value);
    must(!m->locality || (same(l->region, m->locality->region) && same(l->zone, m->locality->zone) &&
                          same(l->sub_zone, m->locality->sub_zone)));
    return 0;
}

static void check_address(const struct mesh_scan_endpoint *e, const Mesh__Core__Address *a) {
    if (!a || a->address_case == MESH__CORE__ADDRESS__ADDRESS__NOT_SET) {
        must(e->kind == 3);
        return;
    }
    if (a->address_case != MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS) {
        must(e->kind == (a->address_case == MESH__CORE__ADDRESS__ADDRESS_PIPE ? 1 : 2));
        return;
    }
    const Mesh__Core__SocketAddress *s = a->socket_address;
    uint32_t port =
        s->port_specifier_case == MESH__CORE__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE ? s->port_value : 0;
    must(e->kind == (port > 65535 || s->protocol ? 2 : 0));
    must(same(e->address, s->address) && (e->kind || e->port == port));
}

static int on_endpoint(void *arg, const struct mesh_scan_endpoint *e) {
    struct at *at = arg;
    if (!at->checks)
        return 0;
    const Mesh__Endpoint__LocalityLbEndpoints *l = at->m->endpoints[at->locality - 1];
    must(e->locality == at->locality - 1 && at->endpoint < l->n_lb_endpoints);
    const Mesh__Endpoint__LbEndpoint *m = l->lb_endpoints[at->endpoint++];
    uint32_t health = (uint32_t)m->health_status;
    must(e->health == (health <= 5 ? health : 2));
    must(e->has_weight == (m->load_balancing_weight != NULL));
    must(!e->has_weight || e->weight == m->load_balancing_weight->value);
    must((e->metadata.p != NULL) == (m->metadata != NULL));
    if (m->host_identifier_case == MESH__ENDPOINT__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT) {
        must(same(e->hostname, m->endpoint->hostname));
        must((e->additional.n != 0) == (m->endpoint->n_additional_addresses != 0));
        check_address(e, m->endpoint->address);
    } else {
        must(e->kind == (m->host_identifier_case ? 2 : 3));
    }
    return 0;
}

static int on_policy(void *arg, bool has, uint32_t factor, uint64_t stale, bool weighted) {
    const struct at *at = arg;
    if (at->checks)
        must(at->m->policy && has == (at->m->policy->overprovisioning_factor != NULL) &&
             (!has || factor == at->m->policy->overprovisioning_factor->value));
    return 0;
}

static int on_drop(void *arg, const struct mesh_scan_drop *d) {
    static const uint32_t denominators[] = {100, 10000, 1000000};
    struct at *at = arg;
    if (!at->checks)
        return 0;
    must(at->m->policy && at->drop < at->m->policy->n_drop_overloads);
    const Mesh__Endpoint__ClusterLoadAssignment__Policy__DropOverload *m =
        at->m->policy->drop_overloads[at->drop++];
    const Mesh__Core__FractionalPercent *p = m->drop_percentage;
    must(same(d->category, m->category) && d->numerator == (p ? p->numerator : 0));
    must(d->denominator == (!p                             ? 100
                            : (uint32_t)p->denominator < 3 ? denominators[p->denominator]
                                                           : UINT32_MAX));
    return 0;
}

static const struct mesh_scan_assignment_sink sink = {on_name, on_locality, on_endpoint, on_policy, on_drop};

static void check_assignment(const uint8_t *p, size_t n, bool is_canonical) {
    const ProtobufCMessageDescriptor *d = &mesh__endpoint__cluster_load_assignment__descriptor;
    ProtobufCMessage *m = NULL;
    struct at at = {.checks = false};
    int got = mesh_scan_assignment(p, n, &sink, &at), err = mesh_proto_unpack(d, p, n, &m);
    must(got != MESH_E_SYNTAX || err == MESH_E_SYNTAX);
    must(got != MESH_E_UNSUPPORTED || !is_canonical);
    must(got != 0 || err == 0 || (err == MESH_E_LIMIT && n > 4096) ||
         has_twice(d, (struct mesh_bytes){p, n}));
    if (err)
        return;
    at = (struct at){.m = (const Mesh__Endpoint__ClusterLoadAssignment *)m, .checks = got == 0};
    must(mesh_scan_assignment(p, n, &sink, &at) == got);
    must(got || at.locality == at.m->n_endpoints);
    if (!is_canonical) { /* as an encoder would have written it */
        size_t len = protobuf_c_message_get_packed_size(m);
        uint8_t *bytes = malloc(len ? len : 1);
        protobuf_c_message_pack(m, bytes);
        check_assignment(bytes, len, true);
        free(bytes);
    }
    protobuf_c_message_free_unpacked(m, NULL);
}

/* ---- responses --------------------------------------------------------------------------------------------
 */
struct seen {
    const Mesh__Discovery__DiscoveryResponse *sotw;
    const Mesh__Discovery__DeltaDiscoveryResponse *delta;
    uint32_t resources, removed, errors;
};

static int on_resource(void *arg, const struct mesh_scan_resource *r) {
    struct seen *seen = arg;
    uint32_t i = seen->resources++;
    if (seen->sotw) {
        must(i < seen->sotw->n_resources);
        const Mesh__Pb__Any *any = seen->sotw->resources[i];
        must(r->is_wrapped || (same(r->type_url, any->type_url) && r->value.n == any->value.len &&
                               (!r->value.n || memcmp(r->value.p, any->value.data, r->value.n) == 0)));
    } else {
        must(i < seen->delta->n_resources && r->is_wrapped);
        const Mesh__Discovery__Resource *m = seen->delta->resources[i];
        must(same(r->version, m->version) && (r->value.p != NULL) == (m->resource != NULL));
        must(!*m->name || same(r->name, m->name));
    }
    return 0;
}

static int on_removed(void *arg, struct mesh_bytes name) {
    ((struct seen *)arg)->removed++;
    return 0;
}

static int on_error(void *arg, struct mesh_bytes name, int code, struct mesh_bytes message) {
    ((struct seen *)arg)->errors++;
    return 0;
}

static void check_response(const uint8_t *p, size_t n, bool is_delta) {
    static const struct mesh_scan_sink all = {on_resource, on_removed, on_error};
    const ProtobufCMessageDescriptor *d = is_delta ? &mesh__discovery__delta_discovery_response__descriptor
                                                   : &mesh__discovery__discovery_response__descriptor;
    ProtobufCMessage *m = NULL;
    struct mesh_scan_response head;
    int got = mesh_scan_response(p, n, is_delta, &head), err = mesh_proto_unpack(d, p, n, &m);
    must(got == err || (err == MESH_E_LIMIT && n > 4096) || has_twice(d, (struct mesh_bytes){p, n}));
    if (got)
        err = got;
    if (err)
        return;
    struct seen seen = {.resources = 0};
    if (is_delta)
        seen.delta = (void *)m;
    else
        seen.sotw = (void *)m;
    must(mesh_scan_response_each(p, n, is_delta, &all, &seen) == 0);
    must(seen.resources == head.nresources && seen.removed == head.nremoved && seen.errors == head.nerrors);
    must(same(head.nonce, is_delta ? seen.delta->nonce : seen.sotw->nonce));
    must(same(head.type_url, is_delta ? seen.delta->type_url : seen.sotw->type_url));
    must(head.nresources == (is_delta ? seen.delta->n_resources : seen.sotw->n_resources));
    protobuf_c_message_free_unpacked(m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    if (data[0] % 3 == 0)
        check_assignment(data + 1, size - 1, false);
    else
        check_response(data + 1, size - 1, data[0] % 3 == 1);
    return 0;
}
