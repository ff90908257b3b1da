/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/view.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"

/* ---- reading ----------------------------------------------------------------------------------------------
 */
/* Too old at the start, and no control plane has confirmed it since? */
static bool still_stale(const struct mesh_view *v) {
    const struct view_head *h = mesh_view_head(v);
    if (atomic_load_explicit(&((struct view_head *)h)->confirmed, memory_order_acquire) == v->stale_since)
        return true;
    atomic_store(&((struct mesh_view *)v)->is_stale, false);
    return false;
}

const struct view_root *mesh_view_begin(const struct mesh_view *v, uint64_t *ret_seq) {
    const struct view_head *h = mesh_view_head(v);
    uint32_t len;
    *ret_seq = atomic_load_explicit(&((struct view_head *)h)->recycled, memory_order_acquire);
    if (mesh_unlikely(atomic_load_explicit(&v->is_stale, memory_order_relaxed)) && still_stale(v))
        return NULL;
    uint64_t root = atomic_load_explicit(&((struct view_head *)h)->root, memory_order_acquire);
    return mesh_view_rec(v, (uint32_t)root, KIND_ROOT, sizeof(struct view_root), &len);
}

bool mesh_view_still(const struct mesh_view *v, uint64_t seq) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&mesh_view_head(v)->recycled, memory_order_relaxed) == seq;
}

bool mesh_view_text(const void *rec, uint32_t len, const struct view_span *where, char *ret_text,
                    size_t cap) {
    uint32_t n;
    const char *p = mesh_view_span(rec, len, where, 1, &n);
    if (!p) {
        ret_text[0] = 0;
        return false;
    }
    if (n >= cap)
        n = (uint32_t)cap - 1;
    memcpy(ret_text, p, n);
    ret_text[n] = 0;
    return true;
}

const struct view_cluster *mesh_cluster_at(const struct mesh_view *v, const struct view_root *root,
                                           uint32_t id, uint32_t *ret_flags, uint32_t *ret_len) {
    struct view_reader r;
    if (!mesh_pages_open(v, &root->clusters, &r))
        return NULL;
    uint64_t slot = mesh_pages_get(&r, id);
    *ret_flags = (uint32_t)(slot >> 32);
    return mesh_view_rec(v, (uint32_t)slot, KIND_CLUSTER, sizeof(struct view_cluster), ret_len);
}

/* ---- configuration ----------------------------------------------------------------------------------------
 */
static int copy_text(const char *text, char **ret) {
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? MESH_E_NOMEM : 0;
}

static int copy_list(const struct mesh_cidr_list *l, struct mesh_cidr_list **ret) {
    if (!l) {
        *ret = NULL;
        return 0;
    }
    size_t n = sizeof *l + l->n * sizeof l->items[0];
    *ret = malloc(n);
    if (!*ret)
        return MESH_E_NOMEM;
    memcpy(*ret, l, n);
    return 0;
}

static int copy_domain(struct mesh_view *v, const char *p, size_t n) {
    struct view_domain *d = &v->domains[v->ndomains];
    while (n && *p == ' ')
        p++, n--;
    while (n && p[n - 1] == ' ')
        n--;
    d->or_libc = n && p[n - 1] == '?';
    n -= d->or_libc;
    while (n && (*p == '.' || *p == '*'))
        p++, n--;
    if (n == 0)
        return 0;
    if (n > MESH_NAME_MAX || v->ndomains == VIEW_DOMAINS_MAX - 1)
        return MESH_E_LIMIT;
    char text[MESH_NAME_MAX + 1];
    memcpy(text, p, n);
    text[n] = 0;
    d->len = (uint16_t)mesh_name_normal(text, d->text);
    v->ndomains += d->len > 0;
    return 0;
}

static int copy_domains(struct mesh_view *v, const char *text) {
    if (!text)
        return 0;
    v->domains = calloc(VIEW_DOMAINS_MAX, sizeof *v->domains);
    if (!v->domains)
        return MESH_E_NOMEM;
    while (*text) {
        size_t n = strcspn(text, ",");
        int rc = copy_domain(v, text, n);
        if (rc < 0)
            return rc;
        text += n + (text[n] == ',');
    }
    return 0;
}

static int default_ranges(const struct mesh_view_config *cfg, struct mesh_cidr_list **ret,
                          struct mesh_why *why) {
    if (cfg->virtual_ranges)
        return copy_list(cfg->virtual_ranges, ret);
    return mesh_cidr_parse("241.0.0.0/8,fd6d:6573:6800::/48", false, ret, why);
}

static int copy_config(struct mesh_view *v, const struct mesh_view_config *cfg, struct mesh_why *why) {
    int rc = copy_text(cfg->file, &v->source);
    if (rc == 0)
        rc = copy_text(cfg->seed, &v->seed);
    if (rc == 0)
        rc = copy_text(cfg->hash_key, &v->hash_text);
    if (rc == 0)
        rc = copy_list(cfg->exclude, &v->exclude);
    if (rc == 0)
        rc = copy_list(cfg->capture, &v->capture);
    if (rc == 0)
        rc = default_ranges(cfg, &v->virtual_ranges, why);
    if (rc == 0)
        rc = copy_domains(v, cfg->domains);
    v->tls = cfg->tls;
    v->uid = cfg->uid;
    return rc;
}

/* ---- digest -----------------------------------------------------------------------------------------------
 */
struct digest {
    uint64_t a, b;
};

static void digest_add(struct digest *d, const void *p, size_t n) {
    d->a = mesh_hash_bytes(p, n, d->a + n);
    d->b = mesh_hash_bytes(p, n, d->b ^ d->a);
}

static void digest_text(struct digest *d, const char *text) {
    digest_add(d, text ? text : "\1", text ? strlen(text) + 1 : 1);
}

static void digest_list(struct digest *d, const struct mesh_cidr_list *l) {
    uint32_t n = l ? l->n : 0;
    digest_add(d, &n, sizeof n);
    for (uint32_t i = 0; i < n; i++) {
        const struct mesh_cidr *c = &l->items[i];
        digest_add(d, &c->family, 1);
        digest_add(d, &c->bits, 1);
        digest_add(d, &c->port, sizeof c->port);
        digest_add(d, c->addr, sizeof c->addr);
        digest_text(d, c->family ? NULL : c->name);
    }
}

/* Process ids in the view are looked up by whoever maps it, so a pid namespace has a view of its own. */
static uint64_t pid_namespace(void) {
    struct stat st;
    return mesh_sys_stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void digest_of(const struct mesh_view *v, const struct mesh_view_config *cfg, uint8_t ret_digest[16]) {
    struct digest d = {1, 2};
    uint64_t fixed[4] = {MESH_VIEW_LAYOUT, v->uid, (uint64_t)v->tls, pid_namespace()};
    digest_add(&d, fixed, sizeof fixed);
    digest_text(&d, v->source);
    if (v->bootstrap) {
        digest_add(&d, v->bootstrap->digest, sizeof v->bootstrap->digest);
    } else if (v->learns) { /* a wrong one */
        digest_text(&d, cfg->bootstrap);
        digest_text(&d, cfg->bootstrap_text);
    }
    for (uint32_t i = 0; i < v->ndomains; i++)
        digest_text(&d, v->domains[i].text);
    digest_list(&d, v->exclude);
    digest_list(&d, v->capture);
    digest_list(&d, v->virtual_ranges);
    memcpy(ret_digest, &d.a, 8);
    memcpy(ret_digest + 8, &d.b, 8);
}

/* ---- the control plane's side -----------------------------------------------------------------------------
 */
/* A wrong bootstrap is no error of the view: its names are refused, and `why` says so. */
static int load_bootstrap(struct mesh_view *v, const struct mesh_view_config *cfg, struct mesh_why *why) {
    v->learns = cfg->bootstrap || cfg->bootstrap_text;
    if (!v->learns)
        return 0;
    int rc = mesh_bootstrap_load(cfg->bootstrap, cfg->bootstrap_text, &v->bootstrap, why);
    return rc == MESH_E_NOMEM ? rc : 0;
}

static void judge_age(struct mesh_view *v, uint64_t max_age) {
    int64_t confirmed = atomic_load(&mesh_view_head(v)->confirmed);
    if (!v->learns || !max_age || !atomic_load(&mesh_view_head(v)->root) ||
        mesh_wall() - confirmed <= (int64_t)(max_age / MESH_SEC))
        return;
    v->stale_since = confirmed;
    atomic_store(&v->is_stale, true);
}

/* ---- open, close ------------------------------------------------------------------------------------------
 */
int mesh_view_open(const struct mesh_view_config *cfg, struct mesh_view **ret_view, bool *ret_private,
                   struct mesh_why *why) {
    uint8_t digest[16];
    if (why)
        why->text[0] = 0;
    struct mesh_view *v = calloc(1, sizeof *v);
    if (!v)
        return MESH_E_NOMEM;
    struct mesh_why bad = {""};
    int rc = copy_config(v, cfg, why);
    if (rc == 0)
        rc = load_bootstrap(v, cfg, &bad);
    if (rc < 0)
        goto free_view;
    digest_of(v, cfg, digest);
    v->boot = mesh_boot_id();
    rc = mesh_view_map(v, cfg->run_dir, digest, why);
    if (rc < 0)
        goto free_view;
    judge_age(v, cfg->max_age);
    rc = mesh_source_first(v, 0, why);
    if (rc == MESH_E_NOMEM)
        goto free_view;
    if (bad.text[0] && why)
        *why = bad;
    *ret_view = v;
    *ret_private = v->is_private;
    return 0;
free_view:
    mesh_view_close(v);
    return rc;
}

void mesh_view_close(struct mesh_view *v) {
    if (!v)
        return;
    if (v->base)
        mesh_sys_munmap(v->base, v->span);
    free(v->path);
    free(v->source);
    free(v->seed);
    mesh_bootstrap_free(v->bootstrap);
    free(v->hash_text);
    free(v->exclude);
    free(v->capture);
    free(v->virtual_ranges);
    free(v->domains);
    free(v);
}

/* ---- describe ---------------------------------------------------------------------------------------------
 */
static void copy_error(const struct view_head *h, char *ret_text, size_t cap) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint32_t before = atomic_load((_Atomic uint32_t *)&h->error_sequence);
        memcpy(ret_text, h->error, cap);
        ret_text[cap - 1] = 0;
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) && before == atomic_load((_Atomic uint32_t *)&h->error_sequence))
            return;
    }
    ret_text[0] = 0;
}

int mesh_view_describe(const struct mesh_view *v, struct mesh_view_info *ret) {
    struct mesh_view_info info;
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        const struct view_root *root = mesh_view_begin(v, &seq);
        memset(&info, 0, sizeof info);
        snprintf(info.path, sizeof info.path, "%s", v->path ? v->path : "");
        snprintf(info.source, sizeof info.source, "%s",
                 v->source      ? v->source
                 : v->bootstrap ? v->bootstrap->servers[0].uri
                                : "");
        info.learns = v->learns;
        info.confirmed = atomic_load(&mesh_view_head(v)->confirmed);
        copy_error(mesh_view_head(v), info.error, sizeof info.error);
        if (root) {
            info.version = root->version;
            info.built_wall = root->built_wall;
            info.names = root->names_n;
            info.clusters = root->clusters_n;
            info.endpoints = root->endpoints_n;
            info.listeners = root->listeners_n;
        }
        if (mesh_view_still(v, seq)) {
            *ret = info;
            return 0;
        }
    }
    return MESH_E_AGAIN;
}
