/* SPDX-License-Identifier: Apache-2.0
 *
 * A control plane that sends anything, in any order, to the xDS client. The first byte chooses the form of
 * the protocol, the dialect, and two features; then come commands of one byte, most with a short piece of the
 * input: raw messages, messages whose frame is right around resources from the input, time, streams that end,
 * wants.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/discovery.pb-c.h"
#include "resolver/ads.h"
#include "resolver/xds.h"
#include "shim/base/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct in {
    const uint8_t *p, *end;
};
struct peer {
    struct mesh_channel_config cfg;
    bool is_open, is_up, restarts;
};
static struct peer peers[2];
static struct mesh_xds *xds;
static uint64_t now;
static bool is_wildcard;

static void must(bool holds) {
    if (!holds)
        abort();
}

static uint8_t byte(struct in *in) {
    return in->p < in->end ? *in->p++ : 0;
}

static struct mesh_bytes piece(struct in *in) {
    size_t n = byte(in), left = (size_t)(in->end - in->p);
    struct mesh_bytes b = {in->p, n < left ? n : left};
    in->p += b.n;
    return b;
}

/* ---- the transport ----------------------------------------------------------------------------------------
 */
static int peer_open(const struct mesh_channel_config *cfg, struct mesh_channel **ret) {
    struct peer *p = &peers[cfg->server->uri[0] - 'a'];
    must(!p->is_open);
    *p = (struct peer){.cfg = *cfg, .is_open = true};
    *ret = (struct mesh_channel *)(void *)p;
    return 0;
}
static void peer_close(struct mesh_channel *ch) {
    ((struct peer *)(void *)ch)->is_open = ((struct peer *)(void *)ch)->is_up = false;
}
static void peer_path(struct mesh_channel *ch, const char *path) {
    ((struct peer *)(void *)ch)->cfg.path = path;
}
static bool is_delta(const struct peer *p) {
    return strcmp(p->cfg.path, MESH_ADS_PATH_DELTA) == 0;
}

/* A server must be able to read it, and an empty list of LDS or CDS means everything. */
static int peer_send(struct mesh_channel *ch, const uint8_t *bytes, size_t n) {
    struct peer *p = (struct peer *)(void *)ch;
    ProtobufCMessage *m = NULL;
    if (!p->is_up)
        return MESH_E_AGAIN;
    const ProtobufCMessageDescriptor *d = is_delta(p) ? &mesh__discovery__delta_discovery_request__descriptor
                                                      : &mesh__discovery__discovery_request__descriptor;
    must(mesh_proto_unpack(d, bytes, n, &m) == 0 && n < 4 << 20);
    if (!is_delta(p)) {
        const Mesh__Discovery__DiscoveryRequest *r = (void *)m;
        for (int i = 0; i < MESH_ADS_TYPES; i++) {
            bool is_full = i == MESH_ADS_LISTENER || i == MESH_ADS_CLUSTER;
            if (strcmp(r->type_url, mesh_ads_type_url((enum mesh_ads_type)i)) == 0 && is_full)
                must((r->n_resource_names == 0) == is_wildcard);
        }
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}
static void peer_restart(struct mesh_channel *ch, const char *why) {
    ((struct peer *)(void *)ch)->restarts = true;
}
static uint32_t peer_fill(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    return 0;
}
static void peer_drive(struct mesh_channel *ch, uint64_t at) {
}
static void peer_describe(const struct mesh_channel *ch, struct mesh_channel_info *ret) {
}
static const struct mesh_xds_transport transport = {peer_open,    peer_close, peer_path,  peer_send,
                                                    peer_restart, peer_fill,  peer_drive, peer_describe};

/* ---- messages ---------------------------------------------------------------------------------------------
 */
enum { PARTS_MAX = 8, TEXT_MAX = 32 };
struct parts {
    Mesh__Pb__Any any[PARTS_MAX];
    Mesh__Pb__Any *anys[PARTS_MAX];
    Mesh__Pb__Duration ttl;
    Mesh__Discovery__Resource wrapped[PARTS_MAX];
    Mesh__Discovery__Resource *wraps[PARTS_MAX];
    uint8_t bytes[PARTS_MAX][TEXT_MAX + 256];
    char *removed[1];
    size_t n;
};

/* Field 1, the name, from a few, so that resources lead to each other; the rest from the input. */
static void add_part(struct parts *x, struct in *in, enum mesh_ads_type type) {
    static char *const names[] = {"a", "b", "c", "a:80", "b:80", "outbound|80||c", "r", "x"};
    size_t i = x->n, len = 0;
    char *name = names[byte(in) % 8];
    struct mesh_bytes rest = piece(in);
    if (type != MESH_ADS_NAMES) {
        x->bytes[i][len++] = 0x0a;
        x->bytes[i][len++] = (uint8_t)strlen(name);
        memcpy(x->bytes[i] + len, name, strlen(name));
        len += strlen(name);
    }
    if (rest.n)
        memcpy(x->bytes[i] + len, rest.p, rest.n);
    mesh__pb__any__init(&x->any[i]);
    x->any[i].type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
    x->any[i].value = (ProtobufCBinaryData){len + rest.n, x->bytes[i]};
    mesh__discovery__resource__init(&x->wrapped[i]);
    x->wrapped[i].name = type == MESH_ADS_NAMES ? "" : name;
    x->wrapped[i].version = i % 2 ? "1" : "2";
    x->wrapped[i].resource = rest.n % 16 == 15 ? NULL : &x->any[i];
    x->wrapped[i].ttl = rest.n % 8 == 7 ? &x->ttl : NULL;
    x->anys[i] = &x->any[i];
    x->wraps[i] = &x->wrapped[i];
    x->n++;
}

static void deliver(struct peer *p, const uint8_t *bytes, size_t n) {
    if (p->is_open && p->is_up)
        p->cfg.events->message(p->cfg.arg, bytes, n);
}

static void send_framed(struct peer *p, struct in *in) {
    static struct parts x;
    uint8_t out[PARTS_MAX * (TEXT_MAX + 512)];
    enum mesh_ads_type type = (enum mesh_ads_type)(byte(in) % MESH_ADS_TYPES);
    int n = byte(in) % PARTS_MAX;
    if (!p->is_open || !p->is_up)
        return;
    x.n = 0;
    mesh__pb__duration__init(&x.ttl);
    x.ttl.seconds = 5;
    for (int i = 0; i < n; i++)
        add_part(&x, in, type);
    Mesh__Discovery__DiscoveryResponse sotw = MESH__DISCOVERY__DISCOVERY_RESPONSE__INIT;
    Mesh__Discovery__DeltaDiscoveryResponse delta = MESH__DISCOVERY__DELTA_DISCOVERY_RESPONSE__INIT;
    sotw.type_url = delta.type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
    sotw.nonce = delta.nonce = "n";
    sotw.version_info = "v";
    sotw.n_resources = delta.n_resources = x.n;
    sotw.resources = x.anys;
    delta.resources = x.wraps;
    x.removed[0] = "a";
    delta.n_removed_resources = n % 2;
    delta.removed_resources = x.removed;
    size_t len = protobuf_c_message_pack(is_delta(p) ? &delta.base : &sotw.base, out);
    deliver(p, out, len);
}

/* ---- commands ---------------------------------------------------------------------------------------------
 */
static void stream(struct peer *p, uint8_t how) {
    if (!p->is_open)
        return;
    if (p->is_up || how & 1) {
        p->is_up = false;
        p->cfg.events->down(p->cfg.arg, how & 2 ? 12 : 14, how & 4, "fuzz");
    } else {
        p->is_up = true;
        p->cfg.events->up(p->cfg.arg);
    }
}

static void command(struct in *in) {
    static const char *const names[] = {"a", "b", "c", "d"};
    uint8_t c = byte(in);
    struct peer *p = &peers[c >> 7];
    struct mesh_bytes raw;
    switch (c & 7) {
    case 0:
        raw = piece(in);
        deliver(p, raw.p, raw.n);
        break;
    case 1:
    case 2:
    case 3:
        send_framed(p, in);
        break;
    case 4:
        now += (uint64_t)byte(in) * MESH_SEC;
        break;
    case 5:
        stream(p, (c >> 3) & 7);
        break;
    case 6:
        must(mesh_xds_want(xds, names[(c >> 3) & 3], c & 32 ? 80 : 0, now) == 0);
        break;
    default:
        mesh_xds_unwant(xds, names[(c >> 3) & 3], c & 32 ? 80 : 0, now);
    }
}

static void settle(void) {
    uint64_t deadline = UINT64_MAX;
    mesh_xds_drive(xds, now);
    mesh_xds_fill(xds, NULL, 0, &deadline);
    for (int i = 0; i < 2; i++)
        if (peers[i].is_open && peers[i].restarts) {
            peers[i].restarts = false;
            if (peers[i].is_up)
                stream(&peers[i], 4);
        }
}

/* What is published can be walked, and is there once. */
static void look(void) {
    struct mesh_xds_change change;
    bool settled;
    if (!mesh_xds_changed(xds, now, &change, &settled))
        return;
    const struct mesh_resources *r = mesh_xds_resources(xds);
    must(r != NULL);
    for (size_t i = 0; i < r->n; i++) {
        const uint8_t *p;
        size_t n;
        must(r->items[i].msg && r->items[i].name && r->items[i].type == r->items[i].msg->descriptor);
        for (size_t k = 0; k < i; k++)
            must(r->items[k].type != r->items[i].type || strcmp(r->items[k].name, r->items[i].name) != 0);
        if (mesh_xds_assignment(xds, r->items[i].name, &p, &n)) {
            static const struct mesh_scan_assignment_sink none;
            must(mesh_scan_assignment(p, n, &none, NULL) == 0);
        }
    }
    mesh_xds_taken(xds);
    must(!mesh_xds_changed(xds, now, &change, &settled));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct in in = {data, data + size};
    uint8_t flags = byte(&in);
    struct mesh_xds_server servers[] = {{.uri = "a"}, {.uri = "b"}};
    servers[0].is_delta = flags & 1;
    servers[0].fails_on_data_errors = flags & 2;
    servers[0].keeps_deleted = flags & 4;
    servers[1].is_delta = flags & 8;
    is_wildcard = flags & 16;
    uint8_t node[] = {0x0a, 1, 'n'};
    struct mesh_bootstrap b = {.servers = servers,
                               .nservers = 2,
                               .client_template = "%s",
                               .is_wildcard = is_wildcard,
                               .node = node,
                               .node_len = sizeof(node)};
    struct mesh_xds_config cfg = {.bootstrap = &b, .transport = &transport};
    memset(peers, 0, sizeof(peers));
    now = MESH_SEC;
    must(mesh_xds_new(&cfg, &xds) == 0);
    settle();
    while (in.p < in.end) {
        command(&in);
        settle();
        look();
    }
    mesh_xds_free(xds);
    return 0;
}
