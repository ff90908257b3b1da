/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/hosts.h"
#include <stdlib.h>
#include <string.h>
#include "proto/core.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/clock.h"

enum { HOSTS_MAX = 4096 /* a control plane that names more gets the rest left out */ };
#define REFRESH_DEFAULT (5 * MESH_SEC) /* Cluster.dns_refresh_rate */
#define REFRESH_LEAST MESH_SEC
#define REFRESH_MOST (3600 * MESH_SEC)

struct host {
    struct mesh_hosts *owner;
    char *name;
    uint64_t hash, refresh, asked, due; /* due: when it is asked for next */
    bool respects_ttl, is_asking, has_good, has_any, wanted;
    struct mesh_dns_answer good;
};
struct mesh_hosts {
    struct mesh_dns *dns;
    struct host **items;
    uint32_t n;
    uint64_t now;
    bool changed;
};

int mesh_hosts_new(struct mesh_dns *dns, struct mesh_hosts **ret) {
    struct mesh_hosts *h = calloc(1, sizeof *h);
    if (!h)
        return MESH_E_NOMEM;
    h->dns = dns;
    h->items = calloc(HOSTS_MAX, sizeof(struct host *));
    if (!h->items) {
        free(h);
        return MESH_E_NOMEM;
    }
    *ret = h;
    return 0;
}

static void host_free(struct host *x) {
    if (x->is_asking)
        mesh_dns_forget(x->owner->dns, x);
    free(x->name);
    free(x);
}

void mesh_hosts_free(struct mesh_hosts *h) {
    for (uint32_t i = 0; h && i < h->n; i++)
        host_free(h->items[i]);
    if (h)
        free(h->items);
    free(h);
}

static struct host *find(const struct mesh_hosts *h, const char *name) {
    uint64_t hash = mesh_hash_bytes(name, strlen(name), 0);
    for (uint32_t i = 0; i < h->n; i++)
        if (h->items[i]->hash == hash && strcmp(h->items[i]->name, name) == 0)
            return h->items[i];
    return NULL;
}

/* ---- asking -----------------------------------------------------------------------------------------------
 */
static int compare(const void *a, const void *b) {
    return memcmp(a, b, sizeof((struct mesh_dns_answer *)0)->addrs[0]);
}

/* Servers turn the order from answer to answer; that is no change. */
static bool same_addresses(const struct mesh_dns_answer *a, const struct mesh_dns_answer *b) {
    return a->n == b->n && memcmp(a->addrs, b->addrs, a->n * sizeof a->addrs[0]) == 0;
}

static void answered(void *arg, const struct mesh_dns_answer *a) {
    struct host *x = arg;
    struct mesh_hosts *h = x->owner;
    x->is_asking = false;
    uint64_t refresh = x->respects_ttl && a->err == 0 && a->ttl ? a->ttl * MESH_SEC : x->refresh;
    x->due = h->now + (refresh > REFRESH_MOST ? REFRESH_MOST : refresh);
    if (!x->has_any)
        h->changed = true;
    x->has_any = true;
    if (a->err || !a->n)
        return;
    struct mesh_dns_answer sorted = *a;
    sorted.n = sorted.n < MESH_DNS_ADDRS ? sorted.n : MESH_DNS_ADDRS;
    qsort(sorted.addrs, sorted.n, sizeof sorted.addrs[0], compare);
    if (x->has_good && same_addresses(&x->good, &sorted))
        return;
    x->good = sorted;
    x->has_good = h->changed = true;
}

static void ask(struct host *x) {
    x->is_asking = true;
    x->due = UINT64_MAX;
    if (!x->asked)
        x->asked = x->owner->now;
    struct mesh_dns_answer failed = {.err = MESH_E_NOMEM};
    if (mesh_dns_ask(x->owner->dns, x->name, 3, answered, x) < 0)
        answered(x, &failed);
}

static int want(struct mesh_hosts *h, const char *name, uint64_t refresh, bool respects_ttl) {
    struct host *x = find(h, name);
    if (x) {
        x->refresh = x->wanted && x->refresh < refresh ? x->refresh : refresh;
        x->respects_ttl = respects_ttl;
        x->wanted = true;
        return 0;
    }
    if (h->n == HOSTS_MAX)
        return 0;
    x = calloc(1, sizeof *x);
    if (!x || !(x->name = strdup(name))) {
        free(x);
        return MESH_E_NOMEM;
    }
    x->owner = h;
    x->hash = mesh_hash_bytes(name, strlen(name), 0);
    x->refresh = refresh;
    x->respects_ttl = respects_ttl;
    x->wanted = true;
    h->items[h->n++] = x;
    ask(x);
    return 0;
}

/* ---- who is needed ----------------------------------------------------------------------------------------
 */
bool mesh_hosts_by_dns(const Mesh__Cluster__Cluster *c) {
    return c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE &&
           (c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__STRICT_DNS ||
            c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS);
}

unsigned mesh_hosts_families(const Mesh__Cluster__Cluster *c) {
    switch (c->dns_lookup_family) {
    case MESH__CLUSTER__CLUSTER__DNS_LOOKUP_FAMILY__V4_ONLY:
        return 1;
    case MESH__CLUSTER__CLUSTER__DNS_LOOKUP_FAMILY__V6_ONLY:
        return 2;
    default:
        return 3;
    }
}

static uint64_t refresh_of(const Mesh__Cluster__Cluster *c) {
    uint64_t ns = (uint64_t)mesh_duration_ms(c->dns_refresh_rate, REFRESH_DEFAULT / MESH_MS) * MESH_MS;
    return ns < REFRESH_LEAST ? REFRESH_LEAST : ns > REFRESH_MOST ? REFRESH_MOST : ns;
}

/* NULL: it is no host name. */
static const Mesh__Core__SocketAddress *host_of(const Mesh__Endpoint__LbEndpoint *lb) {
    uint8_t family, addr[16];
    const Mesh__Core__Address *a =
        lb->host_identifier_case == MESH__ENDPOINT__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT && lb->endpoint
            ? lb->endpoint->address
            : NULL;
    const Mesh__Core__SocketAddress *s =
        a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS ? a->socket_address : NULL;
    return s && s->address && *s->address && !mesh_parse_address(s->address, &family, addr) ? s : NULL;
}

static int want_endpoint(struct mesh_hosts *h, const Mesh__Cluster__Cluster *c,
                         const Mesh__Endpoint__LbEndpoint *lb) {
    const Mesh__Core__SocketAddress *s = host_of(lb);
    return s ? want(h, s->address, refresh_of(c), c->respect_dns_ttl) : 0;
}

static int want_cluster(struct mesh_hosts *h, const Mesh__Cluster__Cluster *c) {
    const Mesh__Endpoint__ClusterLoadAssignment *cla = mesh_hosts_by_dns(c) ? c->load_assignment : NULL;
    int rc = 0;
    for (size_t i = 0; cla && i < cla->n_endpoints && rc == 0; i++)
        for (size_t j = 0; j < cla->endpoints[i]->n_lb_endpoints && rc == 0; j++)
            rc = want_endpoint(h, c, cla->endpoints[i]->lb_endpoints[j]);
    return rc;
}

int mesh_hosts_want(struct mesh_hosts *h, const struct mesh_resources *resources, uint64_t now) {
    uint32_t kept = 0;
    int rc = 0;
    h->now = now;
    for (uint32_t i = 0; i < h->n; i++)
        h->items[i]->wanted = false;
    for (size_t i = 0; i < resources->n && rc == 0; i++)
        if (resources->items[i].type == &mesh__cluster__cluster__descriptor)
            rc = want_cluster(h, (const Mesh__Cluster__Cluster *)resources->items[i].msg);
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->items[i]->wanted || rc < 0)
            h->items[kept++] = h->items[i];
        else
            host_free(h->items[i]);
    }
    h->n = kept;
    return rc;
}

/* ---- what an earlier publisher was told -------------------------------------------------------------------
 */
struct heir {
    struct mesh_hosts *h;
    const struct mesh_view *v;
    const struct mesh_resources *resources;
};

static void inherit_address(struct host *x, const struct mesh_endpoint *e) {
    struct mesh_dns_answer *a = &x->good;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->addrs[i].family == e->family && memcmp(a->addrs[i].addr, e->addr, 16) == 0)
            return;
    if (a->n == MESH_DNS_ADDRS)
        return;
    a->addrs[a->n].family = e->family;
    memcpy(a->addrs[a->n++].addr, e->addr, 16);
    x->has_good = true;
}

/* Which of the cluster's addresses are a name's is not kept: all that have its port. */
static void inherit_endpoint(struct mesh_hosts *h, const struct mesh_cluster_view *cv,
                             const Mesh__Endpoint__LbEndpoint *lb) {
    const Mesh__Core__SocketAddress *s = host_of(lb);
    struct host *x = s ? find(h, s->address) : NULL;
    for (uint32_t i = 0; x && !x->has_any && i < cv->n; i++)
        if (cv->endpoints[i].port == s->port_value)
            inherit_address(x, &cv->endpoints[i]);
    if (x && x->has_good && !x->has_any)
        qsort(x->good.addrs, x->good.n, sizeof x->good.addrs[0], compare);
}

static void inherit_cluster(void *arg, const struct mesh_route *route) {
    const struct heir *heir = arg;
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (mesh_view_cluster(heir->v, route, &cv, &seq) != 0)
        return;
    for (size_t k = 0; k < heir->resources->n; k++) {
        const struct mesh_resource *r = &heir->resources->items[k];
        const Mesh__Cluster__Cluster *c = (const Mesh__Cluster__Cluster *)r->msg;
        if (r->type != &mesh__cluster__cluster__descriptor || !mesh_hosts_by_dns(c) || !c->load_assignment ||
            strcmp(r->name, route->cluster) != 0)
            continue;
        for (size_t i = 0; i < c->load_assignment->n_endpoints; i++)
            for (size_t j = 0; j < c->load_assignment->endpoints[i]->n_lb_endpoints; j++)
                inherit_endpoint(heir->h, &cv, c->load_assignment->endpoints[i]->lb_endpoints[j]);
    }
}

void mesh_hosts_inherit(struct mesh_hosts *h, const struct mesh_view *v,
                        const struct mesh_resources *resources) {
    struct heir heir = {h, v, resources};
    if (h->n)
        (void)!mesh_view_each_cluster(v, inherit_cluster, &heir); /* damaged: nothing is kept of it */
}

void mesh_hosts_drive(struct mesh_hosts *h, uint64_t now, uint64_t *io_deadline) {
    h->now = now;
    for (uint32_t i = 0; i < h->n; i++) {
        if (now >= h->items[i]->due)
            ask(h->items[i]);
        if (h->items[i]->due < *io_deadline)
            *io_deadline = h->items[i]->due;
    }
}

/* ---- answers ----------------------------------------------------------------------------------------------
 */
bool mesh_hosts_changed(const struct mesh_hosts *h) {
    return h->changed;
}

void mesh_hosts_taken(struct mesh_hosts *h) {
    h->changed = false;
}

bool mesh_hosts_waiting(const struct mesh_hosts *h, uint64_t now, uint64_t patience) {
    for (uint32_t i = 0; i < h->n; i++)
        if (!h->items[i]->has_any && now - h->items[i]->asked < patience)
            return true;
    return false;
}

const struct mesh_dns_answer *mesh_hosts_get(const struct mesh_hosts *h, const char *host,
                                             bool *ret_pending) {
    const struct host *x = h ? find(h, host) : NULL;
    *ret_pending = !x || !x->has_any;
    return x && x->has_good ? &x->good : NULL;
}
