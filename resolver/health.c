/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/health.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include "resolver/blend.h"
#include "resolver/builder.h"
#include "resolver/hosts.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"

enum {
    GOT_MAX = 4096, /* what is looked at of an answer */
    AT_ONCE = 32,   /* connections of checks at a time: others wait their turn */
};

enum stage { IDLE, CONNECTING, SENDING, READING };

struct group { /* one cluster */
    char *name;
    uint64_t hash; /* of the name */
    bool is_new;   /* the set before did not have it */
    struct mesh_probe_spec spec;
};

struct target {     /* one endpoint of it */
    uint64_t key;   /* of cluster, address and port */
    uint64_t print; /* of how it is checked */
    uint32_t group;
    struct sockaddr_storage to;
    socklen_t to_len;
    char *host; /* health_check_config.hostname, or NULL */
    struct mesh_check check;
    enum stage stage;
    int fd;
    uint64_t deadline;
    uint64_t new_since; /* its cluster was new then; 0: the endpoint joined later */
    uint32_t sent, ngot;
    uint8_t *got; /* GOT_MAX, while it is READING */
};

struct set {
    struct group *groups;
    struct target *targets;
    uint32_t ngroups, ntargets, room;
    uint32_t *index; /* place + 1 by key: open addressing */
    uint32_t mask;
    enum mesh_tls_default tls;
};

struct mesh_checks {
    const struct mesh_fd_hooks *hooks;
    bool (*traffic)(void *arg, const char *cluster);
    void *arg;
    struct set set;
    uint32_t busy;
};

/* ---- sets -------------------------------------------------------------------------------------------------
 */
static void stop(struct mesh_checks *h, struct target *t) {
    if (t->stage == IDLE)
        return;
    if (h->hooks && h->hooks->drop)
        h->hooks->drop(t->fd);
    mesh_sys_close(t->fd);
    free(t->got);
    t->got = NULL;
    t->stage = IDLE;
    h->busy--;
}

static void set_done(struct mesh_checks *h, struct set *s) {
    for (uint32_t i = 0; i < s->ntargets; i++) {
        stop(h, &s->targets[i]);
        free(s->targets[i].host);
    }
    for (uint32_t i = 0; i < s->ngroups; i++)
        free(s->groups[i].name);
    free(s->groups);
    free(s->targets);
    free(s->index);
    *s = (struct set){0};
}

static uint64_t key_of(const char *cluster, uint8_t family, const uint8_t *addr, uint16_t port) {
    uint64_t seed = mesh_hash_bytes(cluster, strlen(cluster), port);
    return mesh_hash_bytes(addr, family == 4 ? 4 : 16, seed);
}

static struct target *find(const struct set *s, uint64_t key) {
    for (uint32_t i = (uint32_t)key & s->mask; s->index && s->index[i]; i = (i + 1) & s->mask)
        if (s->targets[s->index[i] - 1].key == key)
            return &s->targets[s->index[i] - 1];
    return NULL;
}

static int make_index(struct set *s) {
    uint32_t slots = 16;
    while (slots < s->ntargets * 2)
        slots *= 2;
    s->index = calloc(slots, sizeof *s->index);
    s->mask = slots - 1;
    for (uint32_t n = 0; s->index && n < s->ntargets; n++) {
        uint32_t i = (uint32_t)s->targets[n].key & s->mask;
        while (s->index[i])
            i = (i + 1) & s->mask;
        s->index[i] = n + 1;
    }
    return s->index ? 0 : MESH_E_NOMEM;
}

/* ---- who is to be checked ---------------------------------------------------------------------------------
 */
static void fill_address(struct target *t, uint8_t family, const uint8_t *addr, uint16_t port) {
    struct sockaddr_in *in = (struct sockaddr_in *)&t->to;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&t->to;
    if (family == 4) {
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in->sin_addr, addr, 4);
        t->to_len = sizeof *in;
    } else {
        *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&in6->sin6_addr, addr, 16);
        t->to_len = sizeof *in6;
    }
}

static const Mesh__Core__SocketAddress *socket_of(const Mesh__Core__Address *a) {
    return a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS ? a->socket_address : NULL;
}

struct look { /* the cluster at hand */
    const struct mesh_build_in *in;
    const Mesh__Cluster__Cluster *c;
    uint64_t now;
    bool is_file;
};

static struct target *one_more(struct set *s) {
    if (s->ntargets == s->room) {
        uint32_t room = s->room ? s->room * 2 : 64;
        struct target *p = realloc(s->targets, room * sizeof *p);
        if (!p)
            return NULL;
        s->targets = p;
        s->room = room;
    }
    return &s->targets[s->ntargets];
}

struct place { /* an endpoint's address, as it is published */
    uint8_t family, addr[16];
    uint16_t port;
};

static int add(struct set *s, const struct group *g, const Mesh__Endpoint__Endpoint *e, struct place at,
               uint64_t now) {
    const Mesh__Endpoint__Endpoint__HealthCheckConfig *own = e->health_check_config;
    const Mesh__Core__SocketAddress *other = own ? socket_of(own->address) : NULL;
    struct target *t = one_more(s);
    if (!t)
        return MESH_E_NOMEM;
    *t = (struct target){.key = key_of(g->name, at.family, at.addr, at.port),
                         .group = (uint32_t)(g - s->groups)};
    uint32_t port = own && own->port_value ? own->port_value : g->spec.port ? g->spec.port : at.port;
    if (other)
        (void)mesh_parse_address(other->address, &at.family, at.addr);
    fill_address(t, at.family, at.addr, (uint16_t)port);
    t->print = mesh_hash_bytes(&g->spec, sizeof g->spec, mesh_hash_bytes(&t->to, t->to_len, 0));
    if (own && own->hostname && *own->hostname && !(t->host = strdup(own->hostname)))
        return MESH_E_NOMEM;
    mesh_check_init(&t->check, &g->spec.policy, now, mesh_random());
    t->new_since = now;
    s->ntargets++;
    return 0;
}

/* One that is a host name is checked at each of its addresses. */
static int add_addresses(struct set *s, const struct group *g, const struct look *look,
                         const Mesh__Endpoint__Endpoint *e, const Mesh__Core__SocketAddress *to) {
    bool pending;
    const struct mesh_dns_answer *a =
        mesh_hosts_by_dns(look->c) ? mesh_hosts_get(look->in->hosts, to->address, &pending) : NULL;
    int rc = 0;
    for (uint32_t i = 0; a && i < a->n && rc == 0; i++) {
        struct place at = {.family = a->addrs[i].family, .port = (uint16_t)to->port_value};
        memcpy(at.addr, a->addrs[i].addr, sizeof at.addr);
        if (mesh_hosts_families(look->c) & (at.family == 4 ? 1 : 2))
            rc = add(s, g, e, at, look->now);
    }
    return rc;
}

static int add_endpoint(struct set *s, const struct group *g, const struct look *look,
                        const Mesh__Endpoint__LbEndpoint *lb) {
    const Mesh__Endpoint__Endpoint *e = lb->endpoint;
    const Mesh__Core__SocketAddress *to = e ? socket_of(e->address) : NULL;
    struct place at;
    if (!to || !to->address || to->port_value > UINT16_MAX ||
        (e->health_check_config && e->health_check_config->disable_active_health_check))
        return 0;
    at.port = (uint16_t)to->port_value;
    return mesh_parse_address(to->address, &at.family, at.addr) ? add(s, g, e, at, look->now)
                                                                : add_addresses(s, g, look, e, to);
}

static const char *eds_name(const Mesh__Cluster__Cluster *c) {
    const Mesh__Cluster__Cluster__EdsClusterConfig *eds = c->eds_cluster_config;
    return eds && eds->service_name && *eds->service_name ? eds->service_name : c->name;
}

static const Mesh__Endpoint__ClusterLoadAssignment *assignment_of(const struct look *look) {
    const struct mesh_resources *all = look->in->resources;
    if (look->c->type != MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS)
        return look->c->load_assignment;
    for (size_t i = 0; i < all->n; i++)
        if (all->items[i].type == &mesh__endpoint__cluster_load_assignment__descriptor &&
            strcmp(all->items[i].name, eds_name(look->c)) == 0)
            return (const Mesh__Endpoint__ClusterLoadAssignment *)all->items[i].msg;
    return NULL;
}

/* Which it is: as the build sees it, a file's cluster has the file's. *ret_own is freed by the caller. */
static int find_assignment(const struct look *look, const Mesh__Endpoint__ClusterLoadAssignment **ret,
                           ProtobufCMessage **ret_own) {
    const uint8_t *p;
    size_t n;
    *ret_own = NULL;
    *ret = NULL;
    if (look->is_file || look->c->type != MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS ||
        !look->in->assignment || !look->in->assignment(look->in->arg, look->c->name, &p, &n)) {
        *ret = assignment_of(look);
        return 0;
    }
    int rc = mesh_proto_unpack(&mesh__endpoint__cluster_load_assignment__descriptor, p, n, ret_own);
    *ret = (const Mesh__Endpoint__ClusterLoadAssignment *)*ret_own;
    return rc == MESH_E_NOMEM ? rc : 0;
}

static int add_endpoints(struct set *s, const struct group *g, const struct look *look) {
    const Mesh__Endpoint__ClusterLoadAssignment *cla;
    ProtobufCMessage *own;
    int rc = find_assignment(look, &cla, &own);
    for (size_t i = 0; cla && i < cla->n_endpoints && rc == 0; i++)
        for (size_t j = 0; j < cla->endpoints[i]->n_lb_endpoints && rc == 0; j++)
            rc = add_endpoint(s, g, look, cla->endpoints[i]->lb_endpoints[j]);
    if (own)
        protobuf_c_message_free_unpacked(own, NULL);
    return rc;
}

static int add_cluster(struct set *s, const struct look *look, const char *refused) {
    struct group *g = &s->groups[s->ngroups];
    struct mesh_why why;
    if (refused || mesh_probe_read(look->c, s->tls, &g->spec, &why) < 0)
        return 0;
    g->name = strdup(look->c->name);
    if (!g->name)
        return MESH_E_NOMEM;
    g->hash = mesh_hash_bytes(g->name, strlen(g->name), 0);
    s->ngroups++;
    return add_endpoints(s, g, look);
}

static void mark_new(const struct set *before, struct group *g) {
    g->is_new = true;
    for (uint32_t i = 0; i < before->ngroups && g->is_new; i++)
        g->is_new = before->groups[i].hash != g->hash;
}

/* What was known of `t`, and the check of it that runs. */
static void take_over(const struct set *from, const struct set *s, struct target *t) {
    struct target *old = find(from, t->key), new = *t;
    if (!s->groups[t->group].is_new)
        t->new_since = 0;
    if (!old || old->print != t->print)
        return;
    *t = *old;
    t->group = new.group;
    t->host = new.host;
    *old = (struct target){.host = old->host};
}

int mesh_health_load(struct mesh_checks *h, const struct mesh_build_in *in, enum mesh_tls_default tls,
                     uint64_t now) {
    const struct mesh_resources *all = in->resources;
    struct set s = {.groups = calloc(all->n + 1, sizeof *s.groups), .tls = tls};
    int rc = s.groups ? 0 : MESH_E_NOMEM;
    for (size_t i = 0; i < all->n && rc == 0; i++) {
        struct look look = {.in = in,
                            .c = (const Mesh__Cluster__Cluster *)all->items[i].msg,
                            .now = now,
                            .is_file = in->ranks && in->ranks[i] == RANK_FILE};
        if (all->items[i].type == &mesh__cluster__cluster__descriptor)
            rc = add_cluster(&s, &look, all->items[i].refused);
    }
    if (rc == 0)
        rc = make_index(&s);
    if (rc < 0) {
        set_done(h, &s);
        return rc;
    }
    for (uint32_t i = 0; i < s.ngroups; i++)
        mark_new(&h->set, &s.groups[i]);
    for (uint32_t i = 0; i < s.ntargets; i++)
        take_over(&h->set, &s, &s.targets[i]);
    set_done(h, &h->set);
    h->set = s;
    return 0;
}

bool mesh_health_waiting(const struct mesh_checks *h, uint64_t now, uint64_t patience) {
    for (uint32_t i = 0; i < h->set.ntargets; i++) {
        const struct target *t = &h->set.targets[i];
        if (t->new_since && !t->check.decided && now - t->new_since < patience)
            return true;
    }
    return false;
}

/* ---- one check --------------------------------------------------------------------------------------------
 */
static bool finish(struct mesh_checks *h, struct target *t, enum mesh_check_result result, uint64_t now) {
    const struct group *g = &h->set.groups[t->group];
    bool traffic = !h->traffic || h->traffic(h->arg, g->name);
    stop(h, t);
    return mesh_check_result(&t->check, &g->spec.policy, result, traffic, now, mesh_random());
}

static bool begin(struct mesh_checks *h, struct target *t, uint64_t now) {
    const struct mesh_probe_spec *s = &h->set.groups[t->group].spec;
    int fd = mesh_sys_socket(t->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && h->hooks && h->hooks->keep)
        fd = h->hooks->keep(fd);
    if (fd < 0) { /* says nothing of the endpoint */
        t->check.due = now + MESH_SEC;
        return false;
    }
    t->stage = CONNECTING;
    t->fd = fd;
    t->deadline = now + s->policy.timeout * MESH_MS;
    t->sent = t->ngot = 0;
    h->busy++;
    int r = mesh_sys_connect(fd, (struct sockaddr *)&t->to, t->to_len);
    return r < 0 && r != -EINPROGRESS ? finish(h, t, MESH_CHECK_NETWORK, now) : false;
}

/* 0: up; -EAGAIN; another error. */
static int connected(const struct target *t) {
    struct pollfd p = {.fd = t->fd, .events = POLLOUT};
    int err = 0;
    socklen_t len = sizeof err;
    if (mesh_sys_poll(&p, 1, 0) <= 0)
        return -EAGAIN;
    int r = mesh_sys_getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    return r < 0 ? r : -err;
}

/* The request: HTTP's ends with the host's name, which may be the endpoint's own. */
static size_t request(const struct mesh_probe_spec *s, const struct target *t, uint8_t *ret, size_t cap) {
    if (s->kind != MESH_PROBE_HTTP) {
        memcpy(ret, s->send, s->send_len);
        return s->send_len;
    }
    int n = snprintf((char *)ret, cap, "%.*s%.255s\r\n\r\n", (int)s->send_len, (const char *)s->send,
                     t->host ? t->host : s->host);
    return n > 0 ? (size_t)n : 0;
}

static int send_on(const struct mesh_probe_spec *s, struct target *t) {
    uint8_t bytes[MESH_PROBE_TEXT + 512];
    size_t n = request(s, t, bytes, sizeof bytes);
    while (t->sent < n) {
        ssize_t r = mesh_sys_sendto(t->fd, bytes + t->sent, n - t->sent, MSG_NOSIGNAL, NULL, 0);
        if (r < 0)
            return (int)r;
        t->sent += (uint32_t)r;
    }
    return 0;
}

enum { GOOD = 1, WRONG = 2 };

/* GOOD, WRONG, -EAGAIN, or another errno: no answer. */
static int read_on(const struct mesh_probe_spec *s, struct target *t) {
    for (;;) {
        int r = mesh_probe_judge(s, t->got, t->ngot);
        if (r)
            return r > 0 ? GOOD : WRONG;
        if (t->ngot == GOT_MAX) { /* a pattern may begin at its end */
            memmove(t->got, t->got + GOT_MAX - MESH_PROBE_TEXT, MESH_PROBE_TEXT);
            t->ngot = MESH_PROBE_TEXT;
        }
        ssize_t n = mesh_sys_recvfrom(t->fd, t->got + t->ngot, GOT_MAX - t->ngot, 0, NULL, NULL);
        if (n <= 0)
            return n ? (int)n : -ECONNRESET;
        t->ngot += (uint32_t)n;
    }
}

static int advance(const struct mesh_probe_spec *s, struct target *t) {
    int r = 0;
    if (t->stage == CONNECTING) {
        if ((r = connected(t)) < 0)
            return r;
        if (s->kind == MESH_PROBE_CONNECT)
            return GOOD;
        t->got = malloc(GOT_MAX);
        if (!t->got)
            return -ENOMEM;
        t->stage = SENDING;
    }
    if (t->stage == SENDING && (r = send_on(s, t)) < 0)
        return r;
    t->stage = READING;
    return read_on(s, t);
}

static bool drive_one(struct mesh_checks *h, struct target *t, uint64_t now) {
    if (t->stage == IDLE)
        return now >= t->check.due && h->busy < AT_ONCE && begin(h, t, now);
    int r = advance(&h->set.groups[t->group].spec, t);
    if ((r == -EAGAIN || r == -EINTR) && now < t->deadline)
        return false;
    return finish(h, t,
                  r == GOOD    ? MESH_CHECK_GOOD
                  : r == WRONG ? MESH_CHECK_WRONG
                               : MESH_CHECK_NETWORK,
                  now);
}

/* ---- all of them ------------------------------------------------------------------------------------------
 */
int mesh_health_new(const struct mesh_fd_hooks *hooks, bool (*traffic)(void *arg, const char *cluster),
                    void *arg, struct mesh_checks **ret) {
    struct mesh_checks *h = calloc(1, sizeof *h);
    if (!h)
        return MESH_E_NOMEM;
    *h = (struct mesh_checks){.hooks = hooks, .traffic = traffic, .arg = arg};
    *ret = h;
    return 0;
}

void mesh_health_free(struct mesh_checks *h) {
    if (h)
        set_done(h, &h->set);
    free(h);
}

bool mesh_health_drive(struct mesh_checks *h, uint64_t now) {
    bool changed = false;
    for (uint32_t i = 0; i < h->set.ntargets; i++)
        changed |= drive_one(h, &h->set.targets[i], now);
    return changed;
}

uint32_t mesh_health_fill(struct mesh_checks *h, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->set.ntargets; i++) {
        const struct target *t = &h->set.targets[i];
        uint64_t due = t->stage == IDLE ? t->check.due : t->deadline;
        if ((t->stage != IDLE || h->busy < AT_ONCE) && due < *io_deadline)
            *io_deadline = due;
        if (t->stage != IDLE && n < max)
            ret[n++] = (struct pollfd){.fd = t->fd, .events = t->stage == READING ? POLLIN : POLLOUT};
    }
    return n;
}

enum mesh_health_verdict mesh_health_of(const struct mesh_checks *h, const char *cluster,
                                        const struct mesh_endpoint *e) {
    const struct target *t = h ? find(&h->set, key_of(cluster, e->family, e->addr, e->port)) : NULL;
    return !t ? MESH_VERDICT_NONE : t->check.healthy ? MESH_VERDICT_GOOD : MESH_VERDICT_BAD;
}
