/* SPDX-License-Identifier: Apache-2.0
 *
 * The short form of a view file. A service is checked, then written as the JSON of the resources it stands
 * for, and that is read like any other: what a person sees in the long form is what is in force.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cluster.pb-c.h"
#include "proto/inner.h"
#include "proto/listener.pb-c.h"
#include "proto/out.h"
#include "shim/base/mem.h"

enum { NAME_MAX_LEN = 253, PEER_MAX = 2048, HOST_CAP = 256 };
static const char type_prefix[] = "type.googleapis.com/envoy.extensions.";

struct service {
    const struct mesh_node *key, *endpoints, *peers, *policy, *addresses, *tls;
    char name[NAME_MAX_LEN + 8]; /* of the cluster: NAME or NAME:PORT */
    uint16_t port;               /* 0: any */
    bool plain, mutual, dns;
};

static uint16_t port_of(const char *text) {
    unsigned v = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || v > 65535)
            return 0;
        v = v * 10 + (unsigned)(*p - '0');
    }
    return v <= 65535 ? (uint16_t)v : 0;
}

static bool is_address(const char *text) {
    uint8_t address[16];
    return inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, address) == 1;
}

/* Labels of letters, digits, '-' and '_'; the last one is not a number, which would be a broken address. */
static bool is_host(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
                      digits[] = "0123456789";
    const char *label = text;
    if (strlen(text) > NAME_MAX_LEN)
        return false;
    for (const char *p = text;; p++) {
        if (*p && *p != '.') {
            if (!strchr(letters, *p) && !strchr(digits, *p))
                return false;
            continue;
        }
        if (p == label || p - label > 63)
            return false;
        if (!*p)
            return strspn(label, digits) != (size_t)(p - label);
        label = p + 1;
    }
}

/* HOST, HOST:PORT, [IP6]:PORT or IP6 into its parts. Port 0: none was given. */
static bool split(const char *text, char host[HOST_CAP], uint16_t *port) {
    bool bracket = *text == '[';
    const char *from = text + bracket, *end = bracket ? strchr(from, ']') : strrchr(from, ':');
    const char *colon = bracket ? (end && end[1] ? end + 1 : NULL) : end;
    if (bracket && (!end || (colon && *colon != ':')))
        return false;
    if (!bracket && (!colon || strchr(from, ':') != colon)) /* none, or an IPv6 address as it is */
        colon = NULL, end = from + strlen(from);
    *port = colon ? port_of(colon + 1) : 0;
    size_t n = (size_t)(end - from);
    if ((colon && !*port) || !n || n >= HOST_CAP)
        return false;
    memcpy(host, from, n);
    host[n] = '\0';
    return !bracket || (strchr(host, ':') && is_address(host));
}

static int parse_name(struct mesh_collect *c, struct service *s) {
    char host[HOST_CAP];
    size_t n = split(s->key->text, host, &s->port) ? strlen(host) : 0;
    if (n && host[n - 1] == '.')
        host[--n] = '\0';
    if (!n || is_address(host) || !is_host(host))
        return mesh_reading_fail(c->r, MESH_E_INVALID, s->key,
                                 "wants a name, as in reviews.shop.mesh or reviews.shop.mesh:9080");
    for (char *p = host; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    snprintf(s->name, sizeof(s->name), s->port ? "%s:%u" : "%s", host, s->port);
    return 0;
}

static int take_keys(struct mesh_collect *c, struct service *s, const struct mesh_node *map) {
    const struct {
        const char *name;
        const struct mesh_node **slot;
    } keys[] = {{"endpoints", &s->endpoints},
                {"peers", &s->peers},
                {"policy", &s->policy},
                {"addresses", &s->addresses},
                {"tls", &s->tls}};
    if (map->kind != MESH_NODE_MAP)
        return mesh_reading_fail(c->r, MESH_E_INVALID, map, "wants a map with endpoints");
    for (uint32_t i = 0; i < map->n; i++) {
        size_t k = 0;
        while (k < MESH_ARRAY_LEN(keys) && strcmp(keys[k].name, map->items[2 * i]->text))
            k++;
        if (k == MESH_ARRAY_LEN(keys))
            return mesh_reading_fail(c->r, MESH_E_INVALID, map->items[2 * i], "has no \"%.40s\"",
                                     map->items[2 * i]->text);
        if (map->items[2 * i + 1]->kind != MESH_NODE_NULL)
            *keys[k].slot = map->items[2 * i + 1];
    }
    return s->endpoints ? 0 : mesh_reading_fail(c->r, MESH_E_INVALID, map, "wants endpoints, if only []");
}

/* Walks a list of texts; each is given to `use` with the path at it. */
static int each_text(struct mesh_collect *c, const char *field, const struct mesh_node *list,
                     struct service *s,
                     int (*use)(struct mesh_collect *c, struct service *s, const struct mesh_node *text)) {
    size_t mark = mesh_path_field(&c->r->path, field);
    if (list->kind != MESH_NODE_LIST)
        return mesh_reading_fail(c->r, MESH_E_INVALID, list, "wants a list");
    for (uint32_t i = 0; i < list->n; i++) {
        size_t inner = mesh_path_down(&c->r->path, "[%u]", i);
        int err = list->items[i]->kind == MESH_NODE_STRING
                      ? use(c, s, list->items[i])
                      : mesh_reading_fail(c->r, MESH_E_INVALID, list->items[i], "wants a text");
        if (err)
            return err;
        mesh_path_up(&c->r->path, inner);
    }
    mesh_path_up(&c->r->path, mark);
    return 0;
}

static int check_endpoint(struct mesh_collect *c, struct service *s, const struct mesh_node *text) {
    char host[HOST_CAP];
    uint16_t port;
    if (!split(text->text, host, &port) || (!is_address(host) && !is_host(host)))
        return mesh_reading_fail(c->r, MESH_E_INVALID, text, "wants IP:PORT, [IP6]:PORT or HOST:PORT");
    if (!port && !s->port)
        return mesh_reading_fail(c->r, MESH_E_INVALID, text, "wants a port, since the service names none");
    s->dns |= !is_address(host);
    return 0;
}

static bool is_segment(const char *p, size_t n, bool domain) {
    static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_",
                      upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (!n || (!domain && ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!memchr(lower, p[i], sizeof(lower) - 1) && (domain || !memchr(upper, p[i], sizeof(upper) - 1)))
            return false;
    return true;
}

/* spiffe://DOMAIN[/SEGMENT...]; a star is a whole segment, or the last character of the path. */
static int check_peer(struct mesh_collect *c, struct service *s, const struct mesh_node *text) {
    static const char scheme[] = "spiffe://";
    const char *p = text->text, *end = p + text->len;
    bool good = text->len <= PEER_MAX && !strncmp(p, scheme, sizeof(scheme) - 1);
    (void)s;
    p += good ? sizeof(scheme) - 1 : 0;
    for (bool domain = true; good; domain = false) {
        const char *slash = strchr(p, '/'), *to = slash ? slash : end;
        size_t n = (size_t)(to - p);
        bool star = !domain && n && p[n - 1] == '*' && (n == 1 || !slash);
        good = (star && n == 1) || is_segment(p, n - star, domain);
        if (!slash)
            break;
        p = slash + 1;
    }
    return good ? 0
                : mesh_reading_fail(c->r, MESH_E_INVALID, text,
                                    "wants a pattern of SPIFFE IDs, as in spiffe://shop/ns/*/sa/web");
}

static int check_address(struct mesh_collect *c, struct service *s, const struct mesh_node *text) {
    (void)s;
    return is_address(text->text) ? 0 : mesh_reading_fail(c->r, MESH_E_INVALID, text, "wants an IP address");
}

/* YAML 1.1 writers make a boolean of `off`. */
static int check_tls(struct mesh_collect *c, struct service *s) {
    const char *tls = s->tls ? s->tls->text : "";
    s->plain = !strcmp(tls, "off") || !strcmp(tls, "false");
    s->mutual = !strcmp(tls, "mutual") || s->peers;
    if (s->tls && !s->plain && strcmp(tls, "mutual"))
        return mesh_reading_fail(c->r, MESH_E_INVALID, s->tls, "tls: wants off or mutual");
    if (s->plain && s->peers)
        return mesh_reading_fail(c->r, MESH_E_INVALID, s->tls,
                                 "tls: off leaves nobody to check against peers");
    if (s->peers && s->peers->kind == MESH_NODE_LIST && !s->peers->n)
        return mesh_reading_fail(c->r, MESH_E_INVALID, s->peers, "peers: names nobody");
    return 0;
}

static const char *const policies[][2] = {{"round_robin", "ROUND_ROBIN"},
                                          {"least_request", "LEAST_REQUEST"},
                                          {"ring_hash", "RING_HASH"},
                                          {"random", "RANDOM"},
                                          {"maglev", "MAGLEV"},
                                          {"pick_first", "LOAD_BALANCING_POLICY_CONFIG"},
                                          {"peak_ewma", "LOAD_BALANCING_POLICY_CONFIG"}};

static const char *policy_of(const struct service *s) {
    for (size_t i = 0; s->policy && i < MESH_ARRAY_LEN(policies); i++)
        if (!strcmp(policies[i][0], s->policy->text))
            return policies[i][1];
    return NULL;
}

static int check(struct mesh_collect *c, struct service *s) {
    int err = each_text(c, "endpoints", s->endpoints, s, check_endpoint);
    if (!err && s->peers)
        err = each_text(c, "peers", s->peers, s, check_peer);
    if (!err && s->addresses)
        err = each_text(c, "addresses", s->addresses, s, check_address);
    if (!err)
        err = check_tls(c, s);
    if (!err && s->policy && !policy_of(s))
        err = mesh_reading_fail(c->r, MESH_E_INVALID, s->policy, "policy: there is no \"%.40s\"",
                                s->policy->text);
    return err;
}

/* ---- the resources, as text ---- */

static void put_text(struct mesh_out *o, struct mesh_level *l, const char *key, const char *text) {
    mesh_out_key(o, l, key);
    mesh_out_text(o, text, strlen(text));
}

static void put_map(struct mesh_out *o, struct mesh_level *l, const char *key, struct mesh_level *inner) {
    mesh_out_key(o, l, key);
    mesh_out_open(o, inner);
}

/* {"name": NAME, "typed_config": {"@type": TYPE, ... up to the caller */
static void open_extension(struct mesh_out *o, const char *name, const char *type, struct mesh_level *l,
                           struct mesh_level *config) {
    char url[160];
    snprintf(url, sizeof(url), "%s%s", type_prefix, type);
    put_text(o, l, "name", name);
    put_map(o, l, "typed_config", config);
    put_text(o, config, "@type", url);
}

static void put_address(struct mesh_out *o, struct mesh_level *l, const char *host, uint16_t port) {
    struct mesh_level address, socket;
    char number[8];
    snprintf(number, sizeof(number), "%u", port);
    put_map(o, l, "address", &address);
    put_map(o, &address, "socket_address", &socket);
    put_text(o, &socket, "address", host);
    mesh_out_key(o, &socket, "port_value");
    mesh_out_word(o, number);
    mesh_out_close(o, &socket, false);
    mesh_out_close(o, &address, false);
}

static void put_endpoint(struct mesh_out *o, struct mesh_level *list, const struct service *s,
                         const char *text) {
    struct mesh_level entry, endpoint;
    char host[HOST_CAP] = "";
    uint16_t port = 0;
    split(text, host, &port);
    mesh_out_item(o, list);
    mesh_out_open(o, &entry);
    put_map(o, &entry, "endpoint", &endpoint);
    put_address(o, &endpoint, host, port ? port : s->port);
    mesh_out_close(o, &endpoint, false);
    mesh_out_close(o, &entry, false);
}

static void put_assignment(struct mesh_out *o, struct mesh_level *cluster, const struct service *s) {
    struct mesh_level assignment, localities, locality, endpoints;
    put_map(o, cluster, "load_assignment", &assignment);
    put_text(o, &assignment, "cluster_name", s->name);
    put_map(o, &assignment, "endpoints", &localities);
    mesh_out_item(o, &localities);
    mesh_out_open(o, &locality);
    put_map(o, &locality, "lb_endpoints", &endpoints);
    for (uint32_t i = 0; i < s->endpoints->n; i++)
        put_endpoint(o, &endpoints, s, s->endpoints->items[i]->text);
    mesh_out_close(o, &endpoints, true);
    mesh_out_close(o, &locality, false);
    mesh_out_close(o, &localities, true);
    mesh_out_close(o, &assignment, false);
}

static void put_regex(struct mesh_out *o, struct mesh_level *matcher, const char *pattern) {
    char regex[PEER_MAX * 3 + 8], *to = regex; /* a slash and a star become six, a dot two */
    struct mesh_level l;
    for (const char *p = pattern; *p; p++) {
        const char *part = *p != '*' ? NULL : p[1] ? "[^/]+" : ".*";
        if (part) {
            memcpy(to, part, strlen(part));
            to += strlen(part);
            continue;
        }
        if (*p == '.')
            *to++ = '\\';
        *to++ = *p;
    }
    *to = '\0';
    put_map(o, matcher, "safe_regex", &l);
    put_text(o, &l, "regex", regex);
    mesh_out_close(o, &l, false);
}

static void put_peer(struct mesh_out *o, struct mesh_level *list, const char *pattern) {
    struct mesh_level san, matcher;
    mesh_out_item(o, list);
    mesh_out_open(o, &san);
    put_text(o, &san, "san_type", "URI");
    put_map(o, &san, "matcher", &matcher);
    if (strchr(pattern, '*'))
        put_regex(o, &matcher, pattern);
    else
        put_text(o, &matcher, "exact", pattern);
    mesh_out_close(o, &matcher, false);
    mesh_out_close(o, &san, false);
}

static void put_peers(struct mesh_out *o, struct mesh_level *config, const struct service *s) {
    struct mesh_level common, context, sans;
    put_map(o, config, "common_tls_context", &common);
    if (s->peers) {
        put_map(o, &common, "validation_context", &context);
        put_map(o, &context, "match_typed_subject_alt_names", &sans);
        for (uint32_t i = 0; i < s->peers->n; i++)
            put_peer(o, &sans, s->peers->items[i]->text);
        mesh_out_close(o, &sans, true);
        mesh_out_close(o, &context, false);
    }
    mesh_out_close(o, &common, false);
}

static void put_transport(struct mesh_out *o, struct mesh_level *cluster, const struct service *s) {
    struct mesh_level socket, config;
    put_map(o, cluster, "transport_socket", &socket);
    if (s->plain) {
        open_extension(o, "envoy.transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer",
                       &socket, &config);
    } else {
        open_extension(o, "envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext",
                       &socket, &config);
        put_peers(o, &config, s);
    }
    mesh_out_close(o, &config, false);
    mesh_out_close(o, &socket, false);
}

static void put_policy(struct mesh_out *o, struct mesh_level *cluster, const char *name, const char *type) {
    struct mesh_level lb, list, policy, extension, config;
    put_map(o, cluster, "load_balancing_policy", &lb);
    put_map(o, &lb, "policies", &list);
    mesh_out_item(o, &list);
    mesh_out_open(o, &policy);
    put_map(o, &policy, "typed_extension_config", &extension);
    open_extension(o, name, type, &extension, &config);
    mesh_out_close(o, &config, false);
    mesh_out_close(o, &extension, false);
    mesh_out_close(o, &policy, false);
    mesh_out_close(o, &list, true);
    mesh_out_close(o, &lb, false);
}

static void put_cluster(struct mesh_out *o, const struct service *s) {
    struct mesh_level l;
    const char *policy = policy_of(s);
    mesh_out_open(o, &l);
    put_text(o, &l, "name", s->name);
    put_text(o, &l, "type", s->dns ? "STRICT_DNS" : "STATIC");
    if (policy)
        put_text(o, &l, "lb_policy", policy);
    if (policy && !strcmp(s->policy->text, "pick_first"))
        put_policy(o, &l, "envoy.load_balancing_policies.pick_first",
                   "load_balancing_policies.pick_first.v3.PickFirst");
    if (policy && !strcmp(s->policy->text, "peak_ewma"))
        put_policy(o, &l, "envoy.load_balancing_policies.peak_ewma",
                   "load_balancing_policies.peak_ewma.v3alpha.PeakEwma");
    put_assignment(o, &l, s);
    if (s->plain || s->mutual)
        put_transport(o, &l, s);
    mesh_out_close(o, &l, false);
}

static void put_proxy(struct mesh_out *o, struct mesh_level *listener, const struct service *s) {
    struct mesh_level chains, chain, filters, filter, config;
    put_map(o, listener, "filter_chains", &chains);
    mesh_out_item(o, &chains);
    mesh_out_open(o, &chain);
    put_map(o, &chain, "filters", &filters);
    mesh_out_item(o, &filters);
    mesh_out_open(o, &filter);
    open_extension(o, "envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", &filter,
                   &config);
    put_text(o, &config, "stat_prefix", s->name);
    put_text(o, &config, "cluster", s->name);
    mesh_out_close(o, &config, false);
    mesh_out_close(o, &filter, false);
    mesh_out_close(o, &filters, true);
    mesh_out_close(o, &chain, false);
    mesh_out_close(o, &chains, true);
}

static void put_listener(struct mesh_out *o, const struct service *s, const char *address) {
    struct mesh_level l;
    char name[HOST_CAP + 8];
    snprintf(name, sizeof(name), "%.255s_%u", address, s->port);
    mesh_out_open(o, &l);
    put_text(o, &l, "name", name);
    put_text(o, &l, "traffic_direction", "OUTBOUND");
    put_address(o, &l, address, s->port);
    put_proxy(o, &l, s);
    mesh_out_close(o, &l, false);
}

/* Reads what was written, as if it stood at `at`. */
static int add_text(struct mesh_collect *c, struct mesh_out *o, const ProtobufCMessageDescriptor *d,
                    const struct mesh_node *at) {
    struct mesh_doc *doc;
    char *text;
    int err = mesh_out_done(o, &text);
    if (err)
        return mesh_reading_fail(c->r, err, at, "out of memory");
    err = mesh_doc_parse(text, strlen(text), c->r->path.text, &doc, c->r->why);
    free(text);
    if (err)
        return err;
    err = mesh_collect_add(c, mesh_doc_root(doc), d, at);
    mesh_doc_free(doc);
    return err;
}

static int add_listener(struct mesh_collect *c, struct service *s, const struct mesh_node *address) {
    struct mesh_out o;
    mesh_out_init(&o, false, 0);
    put_listener(&o, s, address->text);
    return add_text(c, &o, &mesh__listener__listener__descriptor, address);
}

static int expand(struct mesh_collect *c, const struct mesh_node *key, const struct mesh_node *map) {
    struct service s = {.key = key};
    struct mesh_out o;
    int err = parse_name(c, &s);
    if (!err)
        err = take_keys(c, &s, map);
    if (!err)
        err = check(c, &s);
    if (err)
        return err;
    mesh_out_init(&o, false, 0);
    put_cluster(&o, &s);
    err = add_text(c, &o, &mesh__cluster__cluster__descriptor, key);
    return err || !s.addresses ? err : each_text(c, "addresses", s.addresses, &s, add_listener);
}

int mesh_short_expand(struct mesh_collect *c, const struct mesh_node *services) {
    if (services->kind != MESH_NODE_MAP)
        return mesh_reading_fail(c->r, MESH_E_INVALID, services, "wants a map of names");
    for (uint32_t i = 0; i < services->n; i++) {
        size_t mark = mesh_path_field(&c->r->path, services->items[2 * i]->text);
        int err = expand(c, services->items[2 * i], services->items[2 * i + 1]);
        if (err)
            return err;
        mesh_path_up(&c->r->path, mark);
    }
    return 0;
}
