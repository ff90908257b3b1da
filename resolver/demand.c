/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/demand.h"
#include <arpa/inet.h>
#include <linux/futex.h>
#include <stdio.h>
#include "resolver/waker.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"

enum { PROBES = 64 };

static struct view_demand *slot_at(const struct mesh_view *v, uint32_t i) {
    return &mesh_view_head(v)->demands[i % VIEW_DEMANDS];
}

static bool is_posted(uint32_t state) {
    return state >= DEMAND_ASKED && state <= DEMAND_DENIED;
}

static bool same(const struct view_demand *d, uint64_t hash, const char *name, size_t len, uint16_t port) {
    return d->hash == hash && d->port == port && d->len == len && memcmp(d->text, name, len) == 0;
}

static struct view_demand *find(const struct mesh_view *v, const char *name, size_t len, uint16_t port) {
    uint64_t hash = mesh_hash_bytes(name, len, 0);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct view_demand *d = slot_at(v, (uint32_t)hash + i);
        if (is_posted(atomic_load_explicit(&d->state, memory_order_acquire)) &&
            same(d, hash, name, len, port))
            return d;
    }
    return NULL;
}

/* ---- asking -----------------------------------------------------------------------------------------------
 */
static bool is_old(const struct view_demand *d, uint64_t now) {
    uint64_t answered = atomic_load(&((struct view_demand *)d)->answered);
    return now > answered && now - answered >= DEMAND_DENIED_FOR;
}

int mesh_demand_look(const struct mesh_view *v, const char *name, size_t len, uint16_t port) {
    const struct view_demand *d = find(v, name, len, port);
    if (!d)
        return MESH_E_AGAIN;
    switch (atomic_load_explicit(&((struct view_demand *)d)->state, memory_order_acquire)) {
    case DEMAND_DENIED:
    case DEMAND_KNOWN: /* and the view does not list it: there is nothing behind it that we could use */
        return is_old(d, mesh_now_coarse()) ? MESH_E_AGAIN : MESH_E_DENIED;
    case DEMAND_SILENT:
        return 0;
    default:
        return MESH_E_AGAIN;
    }
}

/* Free, or left half-written by a process that died. */
static bool claim(struct view_demand *d) {
    uint32_t state = DEMAND_FREE, me = (uint32_t)mesh_sys_getpid(), writer = atomic_load(&d->writer);
    if (atomic_compare_exchange_strong(&d->state, &state, DEMAND_WRITING)) {
        atomic_store(&d->writer, me);
        return true;
    }
    return state == DEMAND_WRITING && writer && mesh_sys_kill((int)writer, 0) == -ESRCH &&
           atomic_compare_exchange_strong(&d->writer, &writer, me);
}

static int post(struct mesh_view *v, const char *name, size_t len, uint16_t port, uint64_t now) {
    uint64_t hash = mesh_hash_bytes(name, len, 0);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct view_demand *d = slot_at(v, (uint32_t)hash + i);
        if (is_posted(atomic_load(&d->state)) || !claim(d))
            continue;
        d->hash = hash;
        d->port = port;
        d->len = (uint16_t)len;
        memcpy(d->text, name, len);
        d->text[len] = 0;
        atomic_store(&d->asked, now);
        atomic_store(&d->answered, 0);
        atomic_store_explicit(&d->state, DEMAND_ASKED, memory_order_release);
        atomic_store(&d->writer, 0);
        return 0;
    }
    return MESH_E_LIMIT;
}

/* True: somebody has to look at it. */
static bool renew(struct view_demand *d, uint64_t now) {
    uint32_t state = atomic_load(&d->state);
    atomic_store(&d->asked, now);
    return (state == DEMAND_DENIED || state == DEMAND_KNOWN) && is_old(d, now) &&
           atomic_compare_exchange_strong(&d->state, &state, DEMAND_ASKED);
}

int mesh_view_ask(struct mesh_view *v, const char *name, uint16_t port) {
    char normal[MESH_NAME_MAX + 1];
    size_t len = mesh_name_normal(name, normal);
    struct view_demand *d;
    int rc = 0;
    if (!len)
        return MESH_E_INVALID;
    if (!v->bootstrap)
        return MESH_E_NOTFOUND;
    d = find(v, normal, len, port);
    if (d && !renew(d, mesh_now()))
        return 0;
    if (!d)
        rc = post(v, normal, len, port, mesh_now());
    if (rc < 0)
        return rc;
    atomic_fetch_add(&mesh_view_head(v)->demands_posted, 1);
    (void)mesh_sys_futex(&mesh_view_head(v)->demands_posted, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    mesh_waker_wake(v);
    return 0;
}

/* ---- listeners --------------------------------------------------------------------------------------------
 */
static bool inbound_name(const struct sockaddr *sa, bool any, char ret_name[MESH_NAME_MAX + 1]) {
    char addr[INET6_ADDRSTRLEN];
    const struct sockaddr_in *in = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;
    if (sa->sa_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, addr, sizeof addr);
        snprintf(ret_name, MESH_NAME_MAX + 1, DEMAND_INBOUND "%s:%u", any ? "0.0.0.0" : addr,
                 ntohs(in->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, addr, sizeof addr);
        snprintf(ret_name, MESH_NAME_MAX + 1, DEMAND_INBOUND "[%s]:%u", any ? "::" : addr,
                 ntohs(in6->sin6_port));
    }
    return sa->sa_family == AF_INET || sa->sa_family == AF_INET6;
}

void mesh_view_inbound_ask(struct mesh_view *v, const struct sockaddr *at) {
    char name[MESH_NAME_MAX + 1];
    if (v->learns && inbound_name(at, false, name))
        (void)!mesh_view_ask(v, name, 0); /* full: it stays unknown, and closed */
}

static bool is_answered(const struct mesh_view *v, const char *name) {
    const struct view_demand *d = find(v, name, strlen(name), 0);
    uint32_t state = d ? atomic_load(&((struct view_demand *)d)->state) : DEMAND_FREE;
    return state == DEMAND_KNOWN || state == DEMAND_DENIED;
}

bool mesh_view_inbound_cannot(const struct mesh_view *v) {
    return v->bootstrap && !v->bootstrap->is_wildcard && !v->bootstrap->server_template;
}

bool mesh_view_inbound_known(const struct mesh_view *v, const struct sockaddr *local) {
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
    char name[MESH_NAME_MAX + 1];
    if (!v->learns)
        return true;
    if (!v->bootstrap || atomic_load(&v->is_stale))
        return false;
    if (v->bootstrap->is_wildcard)
        return atomic_load(&mesh_view_head(v)->confirmed) != 0;
    if (!inbound_name(local, false, name))
        return false;
    if (is_answered(v, name) || (inbound_name(local, true, name) && is_answered(v, name)))
        return true;
    any6.sin6_port =
        local->sa_family == AF_INET ? ((const struct sockaddr_in *)(const void *)local)->sin_port : 0;
    return any6.sin6_port && inbound_name((const void *)&any6, true, name) && is_answered(v, name);
}

int mesh_view_asked(const struct mesh_view *v, const char *name, uint16_t port) {
    char normal[MESH_NAME_MAX + 1];
    size_t len = mesh_name_normal(name, normal);
    return v->bootstrap && len && mesh_demand_look(v, normal, len, port) != MESH_E_DENIED ? MESH_E_AGAIN
                                                                                          : MESH_E_DENIED;
}

void mesh_view_call(const struct mesh_view *v) {
    mesh_waker_wake(v);
}

uint32_t mesh_view_answers(const struct mesh_view *v) {
    return atomic_load(&mesh_view_head(v)->demand_answers);
}

void mesh_view_wait(const struct mesh_view *v, uint32_t seen, uint64_t ns) {
    struct timespec t = {(time_t)(ns / MESH_SEC), (long)(ns % MESH_SEC)};
    (void)mesh_sys_futex(&mesh_view_head(v)->demand_answers, FUTEX_WAIT, (int)seen, &t, NULL, 0);
}

void mesh_demand_use(const struct mesh_view *v, uint64_t hash) {
    _Atomic uint32_t *use = &mesh_view_head(v)->uses[hash % VIEW_USES];
    uint32_t now = (uint32_t)(mesh_now_coarse() / MESH_SEC);
    if (v->learns && atomic_load_explicit(use, memory_order_relaxed) != now)
        atomic_store_explicit(use, now, memory_order_relaxed);
}

/* ---- answering --------------------------------------------------------------------------------------------
 */
bool mesh_demand_read(const struct mesh_view *v, uint32_t slot, struct mesh_demand *ret) {
    const struct view_demand *d = slot_at(v, slot);
    char copy[MESH_NAME_MAX + 1];
    uint32_t state = atomic_load_explicit(&((struct view_demand *)d)->state, memory_order_acquire);
    if (!is_posted(state))
        return false;
    ret->slot = slot;
    ret->state = (enum demand_state)state;
    ret->asked = atomic_load(&((struct view_demand *)d)->asked);
    ret->hash = d->hash;
    ret->port = d->port;
    memcpy(copy, d->text, MESH_NAME_MAX);
    copy[MESH_NAME_MAX] = 0;
    ret->len = mesh_name_normal(copy, ret->name);
    return ret->len && ret->hash == mesh_hash_bytes(ret->name, ret->len, 0);
}

static struct view_demand *slot_of(struct mesh_view *v, const struct mesh_demand *d) {
    struct view_demand *s = slot_at(v, d->slot);
    return is_posted(atomic_load(&s->state)) && same(s, d->hash, d->name, d->len, d->port) ? s : NULL;
}

void mesh_demand_answer(struct mesh_view *v, const struct mesh_demand *d, enum demand_state state,
                        uint64_t now) {
    struct view_demand *s = slot_of(v, d);
    if (!s || atomic_load(&s->state) == state)
        return;
    atomic_store(&s->answered, now);
    atomic_store_explicit(&s->state, state, memory_order_release);
}

void mesh_demand_wake(struct mesh_view *v) {
    struct view_head *h = mesh_view_head(v);
    atomic_fetch_add(&h->demand_answers, 1);
    (void)mesh_sys_futex(&h->demand_answers, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

uint64_t mesh_demand_used(const struct mesh_view *v, const struct mesh_demand *d) {
    uint64_t used = (uint64_t)atomic_load(&mesh_view_head(v)->uses[d->hash % VIEW_USES]) * MESH_SEC;
    return used > d->asked ? used : d->asked;
}

void mesh_demand_free(struct mesh_view *v, const struct mesh_demand *d) {
    struct view_demand *s = slot_of(v, d);
    if (s)
        atomic_store(&s->state, DEMAND_FREE);
}
