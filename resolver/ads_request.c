/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "proto/discovery.pb-c.h"
#include "resolver/ads_inner.h"

enum { CODE_INVALID_ARGUMENT = 3, NODE_SOTW = 2, NODE_DELTA = 1, TAG_BYTES = 6 };

static size_t put_length(uint8_t *to, size_t n) {
    size_t i = 0;
    for (; n > 0x7f; n >>= 7)
        to[i++] = (uint8_t)(n | 0x80);
    to[i++] = (uint8_t)n;
    return i;
}

/* The order of fields means nothing, so the node's bytes go behind the message as they are. */
static int send_message(struct mesh_ads *a, const ProtobufCMessage *m, unsigned node_field) {
    size_t n = protobuf_c_message_get_packed_size(m), node = a->is_node_sent ? 0 : a->node.n;
    uint8_t *p = malloc(n + TAG_BYTES + node);
    if (!p)
        return MESH_E_NOMEM;
    n = protobuf_c_message_pack(m, p);
    if (node) {
        p[n++] = (uint8_t)(node_field << 3 | MESH_WIRE_BYTES);
        n += put_length(p + n, node);
        memcpy(p + n, a->node.p, node);
        n += node;
    }
    int rc = a->owner->send(a->arg, p, n);
    free(p);
    if (rc == 0)
        a->is_node_sent = true;
    return rc;
}

static Mesh__Pb__Status *error_of(const struct ads_type *t, Mesh__Pb__Status *status) {
    if (!t->error)
        return NULL;
    mesh__pb__status__init(status);
    status->code = CODE_INVALID_ARGUMENT;
    status->message = t->error;
    return status;
}

static char *text_of(const char *text) {
    return (char *)(uintptr_t)(text ? text : "");
}

static void answered(struct mesh_ads *a, struct ads_type *t) {
    if (t->is_answer_due)
        ++*(t->error ? &a->nacks : &a->acks);
    t->is_answer_due = false;
    t->answer_at = 0;
    free(t->error);
    t->error = NULL;
}

/* ---- state of the world -----------------------------------------------------------------------------------
 * An empty list of LDS or CDS would ask for everything: the names of the last list stay in it when all are
 * gone. */
static bool is_listed(const struct ads_name *n, bool keeps_all) {
    return n->is_wanted || (keeps_all && n->is_sent);
}

static size_t list_names(struct ads_type *t, bool keeps_all, char **names) {
    size_t n = 0;
    for (struct ads_name *i = (struct ads_name *)t->names.first; i; i = (struct ads_name *)i->item.next)
        if (is_listed(i, keeps_all) && *i->text)
            names[n++] = i->text;
    return n;
}

static bool keeps_all(const struct ads_type *t, enum mesh_ads_type type) {
    return mesh_ads_is_full(type) && !t->bytes && !t->is_wildcard;
}

static void names_sent(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now) {
    struct ads_type *t = &a->types[type];
    bool all = keeps_all(t, type);
    for (struct ads_name *i = (struct ads_name *)t->names.first, *next; i; i = next) {
        next = (struct ads_name *)i->item.next;
        if (is_listed(i, all))
            mesh_ads_sent(a, type, i, now);
        else if (!t->is_wildcard)
            mesh_ads_drop(t, i);
    }
}

/* At the start of a stream a version says that all of it is here; a server may then send nothing. */
static const char *version_of(const struct ads_type *t) {
    bool whole = true;
    for (struct ads_name *i = (struct ads_name *)t->names.first; i && !t->is_requested;
         i = (struct ads_name *)i->item.next)
        whole = whole && (i->is_present || !i->is_wanted);
    return whole ? t->version : NULL;
}

static int send_sotw(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now) {
    struct ads_type *t = &a->types[type];
    Mesh__Discovery__DiscoveryRequest m = MESH__DISCOVERY__DISCOVERY_REQUEST__INIT;
    Mesh__Pb__Status status;
    char **names = malloc((t->names.n + 1) * sizeof(*names));
    if (!names)
        return MESH_E_NOMEM;
    m.n_resource_names = list_names(t, keeps_all(t, type), names);
    m.resource_names = names;
    m.version_info = text_of(version_of(t));
    m.response_nonce = text_of(t->nonce);
    m.type_url = text_of(mesh_ads_type_url(type));
    m.error_detail = error_of(t, &status);
    /* Nothing was ever asked for, and nothing is. */
    bool idle = !m.n_resource_names && !t->is_requested && !t->is_wildcard && type != MESH_ADS_NAMES;
    int rc = idle ? 0 : send_message(a, &m.base, NODE_SOTW);
    free(names);
    if (rc)
        return rc;
    t->is_requested = t->is_requested || !idle;
    t->is_changed = false;
    answered(a, t);
    names_sent(a, type, now);
    return 0;
}

const struct ads_ops mesh_ads_sotw = {MESH_ADS_PATH_SOTW, false, send_sotw};

/* ---- Delta ------------------------------------------------------------------------------------------------
 */
struct changes { /* as many as go into one request */
    char **subscribe, **unsubscribe;
    Mesh__Discovery__DeltaDiscoveryRequest__InitialResourceVersionsEntry *versions, **entries;
    size_t nsubscribe, nunsubscribe, nversions, left;
};

static bool fits(struct changes *c, const char *a, const char *b) {
    size_t n = strlen(a) + NAME_COST + (b ? strlen(b) + NAME_COST : 0);
    if (n > c->left)
        return false;
    c->left -= n;
    return true;
}

static bool gather(struct ads_type *t, struct changes *c) {
    static char all[] = "*";
    bool whole = true;
    if (t->is_wildcard && !t->is_requested)
        c->subscribe[c->nsubscribe++] = all;
    for (struct ads_name *i = (struct ads_name *)t->names.first; i && whole;
         i = (struct ads_name *)i->item.next) {
        if (i->is_wanted && !i->is_sent && *i->text && (whole = fits(c, i->text, NULL)))
            c->subscribe[c->nsubscribe++] = i->text;
        else if (!i->is_wanted && i->is_sent && *i->text && (whole = fits(c, i->text, NULL)))
            c->unsubscribe[c->nunsubscribe++] = i->text;
    }
    return whole;
}

/* What does not fit is sent again by the server, no more. */
static void gather_versions(struct ads_type *t, struct changes *c) {
    for (struct ads_name *i = (struct ads_name *)t->names.first; i; i = (struct ads_name *)i->item.next) {
        if (!i->is_present || !i->version || !(i->is_wanted || t->is_wildcard) ||
            !fits(c, i->text, i->version))
            continue;
        mesh__discovery__delta_discovery_request__initial_resource_versions_entry__init(
            &c->versions[c->nversions]);
        c->versions[c->nversions].key = i->text;
        c->versions[c->nversions].value = i->version;
        c->entries[c->nversions] = &c->versions[c->nversions];
        c->nversions++;
    }
}

static void changes_done(struct changes *c) {
    free(c->subscribe);
    free(c->unsubscribe);
    free(c->versions);
    free(c->entries);
}

static int changes_open(struct changes *c, size_t n) {
    *c = (struct changes){.left = REQUEST_MAX - REQUEST_ROOM};
    c->subscribe = calloc(n, sizeof(*c->subscribe));
    c->unsubscribe = calloc(n, sizeof(*c->unsubscribe));
    c->versions = calloc(n, sizeof(*c->versions));
    c->entries = calloc(n, sizeof(*c->entries));
    if (c->subscribe && c->unsubscribe && c->versions && c->entries)
        return 0;
    changes_done(c);
    return MESH_E_NOMEM;
}

static void changes_sent(struct mesh_ads *a, enum mesh_ads_type type, const struct changes *c, uint64_t now) {
    struct ads_type *t = &a->types[type];
    for (size_t i = 0; i < c->nsubscribe; i++) {
        struct ads_name *n = mesh_dict_find(&t->names, c->subscribe[i], strlen(c->subscribe[i]));
        if (n)
            mesh_ads_sent(a, type, n, now);
    }
    for (size_t i = 0; i < c->nunsubscribe; i++)
        mesh_ads_drop(t, mesh_dict_find(&t->names, c->unsubscribe[i], strlen(c->unsubscribe[i])));
}

/* One request of changes; *ret_whole: nothing is left to say. */
static int send_changes(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now, bool *ret_whole) {
    struct ads_type *t = &a->types[type];
    Mesh__Discovery__DeltaDiscoveryRequest m = MESH__DISCOVERY__DELTA_DISCOVERY_REQUEST__INIT;
    struct changes c;
    int rc = changes_open(&c, t->names.n + 1);
    if (rc)
        return rc;
    *ret_whole = gather(t, &c);
    if (!t->is_requested)
        gather_versions(t, &c);
    m.type_url = text_of(mesh_ads_type_url(type));
    m.n_resource_names_subscribe = c.nsubscribe;
    m.resource_names_subscribe = c.subscribe;
    m.n_resource_names_unsubscribe = c.nunsubscribe;
    m.resource_names_unsubscribe = c.unsubscribe;
    m.n_initial_resource_versions = c.nversions;
    m.initial_resource_versions = c.entries;
    bool unnamed = type == MESH_ADS_NAMES && t->bytes && !t->is_requested; /* its list is empty */
    bool idle = !c.nsubscribe && !c.nunsubscribe && !unnamed;
    rc = idle ? 0 : send_message(a, &m.base, NODE_DELTA);
    t->is_requested = t->is_requested || (rc == 0 && !idle);
    if (rc == 0)
        changes_sent(a, type, &c, now);
    if (rc == 0 && unnamed)
        mesh_ads_sent(a, type, (struct ads_name *)t->names.first, now);
    changes_done(&c);
    return rc;
}

/* An answer never carries a change of subscriptions: istiod takes it for a mismatch. */
static int send_answer(struct mesh_ads *a, enum mesh_ads_type type) {
    struct ads_type *t = &a->types[type];
    Mesh__Discovery__DeltaDiscoveryRequest m = MESH__DISCOVERY__DELTA_DISCOVERY_REQUEST__INIT;
    Mesh__Pb__Status status;
    m.type_url = text_of(mesh_ads_type_url(type));
    m.response_nonce = text_of(t->nonce);
    m.error_detail = error_of(t, &status);
    int rc = send_message(a, &m.base, NODE_DELTA);
    if (rc == 0)
        answered(a, t);
    return rc;
}

static int send_delta(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now) {
    struct ads_type *t = &a->types[type];
    int rc = t->is_answer_due && t->answer_at <= now ? send_answer(a, type) : 0;
    bool whole = false;
    while (rc == 0 && t->is_changed && !whole)
        rc = send_changes(a, type, now, &whole);
    if (rc == 0)
        t->is_changed = false;
    return rc;
}

const struct ads_ops mesh_ads_delta = {MESH_ADS_PATH_DELTA, true, send_delta};
