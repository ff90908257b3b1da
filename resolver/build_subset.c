/* SPDX-License-Identifier: Apache-2.0
 *
 * Selection of a cluster's endpoints by metadata (Envoy's lb_subset_config, the keys of envoy.lb). A route
 * asks for values of some keys. The selector with exactly these keys is used; when no endpoint has the
 * values, the selector's own fallback decides, else the cluster's. What a route gets is worked out once, by
 * the build: a subset is a cluster of its own to readers, with its own table, and costs a pick nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include "resolver/builder.h"
#include "shim/base/mem.h"

typedef Mesh__Cluster__Cluster__LbSubsetConfig Config;
typedef Mesh__Cluster__Cluster__LbSubsetConfig__LbSubsetSelector Selector;
#define OWN_FALLBACK(x)                                                                                      \
    MESH__CLUSTER__CLUSTER__LB_SUBSET_CONFIG__LB_SUBSET_SELECTOR__LB_SUBSET_SELECTOR_FALLBACK_POLICY__##x
#define FALLBACK(x) MESH__CLUSTER__CLUSTER__LB_SUBSET_CONFIG__LB_SUBSET_FALLBACK_POLICY__##x

/* ---- metadata ---------------------------------------------------------------------------------------------
 */
const Mesh__Pb__Struct *mesh_metadata_of(const Mesh__Core__Metadata *m, const char *filter) {
    for (size_t i = 0; m && i < m->n_filter_metadata; i++)
        if (m->filter_metadata[i]->key && strcmp(m->filter_metadata[i]->key, filter) == 0)
            return m->filter_metadata[i]->value;
    return NULL;
}

const Mesh__Pb__Value *mesh_metadata_field(const Mesh__Pb__Struct *s, const char *key) {
    for (size_t i = 0; s && i < s->n_fields; i++)
        if (s->fields[i]->key && strcmp(s->fields[i]->key, key) == 0)
            return s->fields[i]->value;
    return NULL;
}

bool mesh_metadata_same(const Mesh__Pb__Value *a, const Mesh__Pb__Value *b) {
    if (!a || !b || a->kind_case != b->kind_case)
        return false;
    switch (a->kind_case) {
    case MESH__PB__VALUE__KIND_STRING_VALUE:
        return strcmp(a->string_value, b->string_value) == 0;
    case MESH__PB__VALUE__KIND_BOOL_VALUE:
        return !a->bool_value == !b->bool_value;
    case MESH__PB__VALUE__KIND_NUMBER_VALUE:
        return a->number_value == b->number_value;
    default:
        return a->kind_case == MESH__PB__VALUE__KIND_NULL_VALUE;
    }
}

/* With list_as_any an endpoint's list has each of its values. */
static bool has_value(const Config *c, const Mesh__Pb__Value *own, const Mesh__Pb__Value *asked) {
    if (!own || !c->list_as_any || own->kind_case != MESH__PB__VALUE__KIND_LIST_VALUE)
        return mesh_metadata_same(own, asked);
    for (size_t i = 0; i < own->list_value->n_values; i++)
        if (mesh_metadata_same(own->list_value->values[i], asked))
            return true;
    return false;
}

/* ---- what a route asks ------------------------------------------------------------------------------------
 */
static int add_item(struct build_match *m, const char *key, const Mesh__Pb__Value *value) {
    uint32_t at = 0;
    while (at < m->n && strcmp(m->items[at].key, key) < 0)
        at++;
    if (at < m->n && strcmp(m->items[at].key, key) == 0)
        return 0;
    if (m->n == MESH_ARRAY_LEN(m->items))
        return MESH_E_LIMIT;
    memmove(&m->items[at + 1], &m->items[at], (m->n - at) * sizeof m->items[0]);
    m->items[at].key = key;
    m->items[at].value = value;
    m->n++;
    return 0;
}

int mesh_match_add(struct build_match *m, const Mesh__Core__Metadata *metadata) {
    const Mesh__Pb__Struct *s = mesh_metadata_of(metadata, "envoy.lb");
    int rc = 0;
    for (size_t i = 0; s && i < s->n_fields && rc == 0; i++)
        if (s->fields[i]->key && s->fields[i]->value)
            rc = add_item(m, s->fields[i]->key, s->fields[i]->value);
    return rc;
}

static void value_text(const Mesh__Pb__Value *v, char *ret_text, size_t cap) {
    switch (v->kind_case) {
    case MESH__PB__VALUE__KIND_STRING_VALUE:
        snprintf(ret_text, cap, "%s", v->string_value);
        break;
    case MESH__PB__VALUE__KIND_BOOL_VALUE:
        snprintf(ret_text, cap, "%s", v->bool_value ? "true" : "false");
        break;
    case MESH__PB__VALUE__KIND_NUMBER_VALUE:
        snprintf(ret_text, cap, "%.17g", v->number_value);
        break;
    default:
        snprintf(ret_text, cap, "?");
    }
}

void mesh_subset_name(const char *cluster, const struct build_match *m, char *ret_text, size_t cap) {
    char value[256];
    size_t n = (size_t)snprintf(ret_text, cap, "%s{", cluster);
    for (uint32_t i = 0; m && i < m->n && n < cap; i++) {
        value_text(m->items[i].value, value, sizeof value);
        n += (size_t)snprintf(ret_text + n, cap - n, "%s%s=%s", i ? "," : "", m->items[i].key, value);
    }
    if (n < cap)
        snprintf(ret_text + n, cap - n, "}");
}

/* ---- which endpoints --------------------------------------------------------------------------------------
 */
struct choice {
    const Config *config;
    const Mesh__Core__Metadata *const *metadata;
    uint32_t n;
    bool *in; /* n */
};

static bool fits(const struct choice *x, const struct build_match *m, uint32_t i) {
    const Mesh__Pb__Struct *own = mesh_metadata_of(x->metadata[i], "envoy.lb");
    for (uint32_t k = 0; k < m->n; k++)
        if (!has_value(x->config, mesh_metadata_field(own, m->items[k].key), m->items[k].value))
            return false;
    return true;
}

static uint32_t mark(struct choice *x, const struct build_match *m, bool only_one) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        x->in[i] = fits(x, m, i) && !(only_one && count);
        count += x->in[i];
    }
    return count;
}

static void mark_all(struct choice *x) {
    struct build_match nothing = {0};
    mark(x, &nothing, false);
}

static void mark_default(struct choice *x) {
    struct build_match m = {0};
    const Mesh__Pb__Struct *s = x->config->default_subset;
    for (size_t i = 0; s && i < s->n_fields; i++)
        if (s->fields[i]->key && s->fields[i]->value)
            (void)!add_item(&m, s->fields[i]->key, s->fields[i]->value);
    mark(x, &m, false);
}

static void fall_back(struct choice *x) {
    memset(x->in, 0, x->n * sizeof *x->in);
    if (x->config->fallback_policy == FALLBACK(ANY_ENDPOINT))
        mark_all(x);
    else if (x->config->fallback_policy == FALLBACK(DEFAULT_SUBSET))
        mark_default(x);
}

static bool has_key(char *const *keys, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

static const Selector *selector_of(const Config *c, const struct build_match *m) {
    for (size_t i = 0; i < c->n_subset_selectors; i++) {
        const Selector *s = c->subset_selectors[i];
        bool same = s->n_keys == m->n;
        for (uint32_t k = 0; k < m->n && same; k++)
            same = has_key(s->keys, s->n_keys, m->items[k].key);
        if (same)
            return s;
    }
    return NULL;
}

/* A selector's own fallback to fewer keys leads to another selector, each time with fewer. */
static void choose(struct choice *x, const struct build_match *match) {
    struct build_match m = *match;
    for (;;) {
        const Selector *s = selector_of(x->config, &m);
        if (s && mark(x, &m, s->single_host_per_subset))
            return;
        switch (s ? s->fallback_policy : OWN_FALLBACK(NOT_DEFINED)) {
        case OWN_FALLBACK(NO_FALLBACK):
            return; /* nobody is marked */
        case OWN_FALLBACK(ANY_ENDPOINT):
            mark_all(x);
            return;
        case OWN_FALLBACK(DEFAULT_SUBSET):
            mark_default(x);
            return;
        case OWN_FALLBACK(KEYS_SUBSET):
            break;
        default:
            fall_back(x);
            return;
        }
        struct build_match fewer = {0};
        for (uint32_t k = 0; k < m.n; k++)
            if (has_key(s->fallback_keys_subset, s->n_fallback_keys_subset, m.items[k].key))
                fewer.items[fewer.n++] = m.items[k];
        m = fewer;
    }
}

static bool is_available(const struct mesh_endpoint *e) {
    return e->health != MESH_HEALTH_UNHEALTHY && e->health != MESH_HEALTH_DRAINING &&
           e->health != MESH_HEALTH_TIMEOUT;
}

/* Envoy's: a locality weighs by what the subset has of it, but at least 1. */
static void scale(const struct choice *x, struct mesh_endpoint *e) {
    for (uint32_t i = 0; i < x->n; i++) {
        uint32_t all = 0, some = 0;
        if (!x->in[i] || !e[i].locality_weight)
            continue;
        for (uint32_t k = 0; k < x->n; k++) {
            all += e[k].locality == e[i].locality;
            some += e[k].locality == e[i].locality && x->in[k];
        }
        double weight = (double)e[i].locality_weight * some / all + 0.5;
        e[i].spare[0] = weight < 1 ? 1 : (uint32_t)weight;
    }
    for (uint32_t i = 0; i < x->n; i++) {
        if (x->in[i] && e[i].locality_weight)
            e[i].locality_weight = (uint32_t)e[i].spare[0];
        e[i].spare[0] = 0;
    }
}

int mesh_subset_select(const Config *c, const struct build_match *match,
                       const Mesh__Core__Metadata *const *metadata, struct mesh_endpoint *e, uint32_t n,
                       uint32_t *ret_n) {
    struct choice x = {c, metadata, n, calloc(n + 1u, sizeof *x.in)};
    uint32_t out = 0, available = 0;
    if (!x.in)
        return MESH_E_NOMEM;
    if (match && match->n)
        choose(&x, match);
    else
        fall_back(&x);
    for (uint32_t i = 0; i < n; i++)
        available += x.in[i] && is_available(&e[i]);
    if (c->panic_mode_any && !available)
        mark_all(&x);
    if (c->scale_locality_weight)
        scale(&x, e);
    for (uint32_t i = 0; i < n; i++)
        if (x.in[i])
            e[out++] = e[i];
    free(x.in);
    *ret_n = out;
    return 0;
}

/* ---- is it sound? -----------------------------------------------------------------------------------------
 */
static void check_fallback_keys(struct build_reading *x, const Selector *s) {
    bool wanted = s->fallback_policy == OWN_FALLBACK(KEYS_SUBSET);
    if (wanted != (s->n_fallback_keys_subset > 0))
        mesh_build_bad(x, "fallback_keys_subset", "goes with KEYS_SUBSET, and with that alone");
    if (wanted && s->n_fallback_keys_subset >= s->n_keys)
        mesh_build_bad(x, "fallback_keys_subset", "must be fewer keys than the selector's");
    for (size_t i = 0; i < s->n_fallback_keys_subset; i++)
        if (!has_key(s->keys, s->n_keys, s->fallback_keys_subset[i]))
            mesh_build_bad(x, "fallback_keys_subset", "has a key that is not the selector's");
}

static bool same_keys(const Selector *a, const Selector *b) {
    bool same = a->n_keys == b->n_keys;
    for (size_t i = 0; i < a->n_keys && same; i++)
        same = has_key(b->keys, b->n_keys, a->keys[i]);
    return same;
}

int mesh_subset_check(struct build_reading *x, const Config *c) {
    for (size_t i = 0; i < c->n_subset_selectors && !x->rc; i++) {
        const Selector *s = c->subset_selectors[i];
        snprintf(x->at, sizeof x->at, "lb_subset_config.subset_selectors[%zu].", i);
        if (!s->n_keys)
            mesh_build_bad(x, "keys", "must not be empty");
        if (s->single_host_per_subset && s->n_keys > 1)
            mesh_build_bad(x, "single_host_per_subset", "wants a selector of one key");
        if (s->fallback_policy < 0 || s->fallback_policy > OWN_FALLBACK(KEYS_SUBSET))
            mesh_build_bad(x, "fallback_policy", "is not known");
        check_fallback_keys(x, s);
        for (size_t k = 0; k < i; k++)
            if (same_keys(s, c->subset_selectors[k]))
                mesh_build_bad(x, "keys", "are those of another selector");
    }
    snprintf(x->at, sizeof x->at, "lb_subset_config.");
    if (c->fallback_policy < 0 || c->fallback_policy > FALLBACK(DEFAULT_SUBSET))
        mesh_build_bad(x, "fallback_policy", "is not known");
    if (c->scale_locality_weight && !c->locality_weight_aware)
        mesh_build_bad(x, "scale_locality_weight", "goes with locality_weight_aware");
    x->at[0] = 0;
    return x->rc;
}
