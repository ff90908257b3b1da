/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/engine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/door.h"
#include "shim/heavy.h"
#include "shim/preload.h"
#include "shim/rotation.h"
#include "shim/proc.h"
#include "shim/start.h"
#include "shim/steward.h"
#include "shim/ticket_file.h"

static _Atomic(struct mesh_view *) view;
static _Atomic int view_state; /* 0 not tried, 1 being opened, 2 done */
static _Atomic uint64_t view_looked;
static _Atomic int joined; /* the view's ledger knows this process */

static struct mesh_identity_source *source;
static _Atomic int crypto_state;
static _Atomic uint64_t crypto_failed; /* when it was last tried in vain; 0: it is there, or not tried */
static _Atomic uint64_t identity_looked;
static struct mesh_why identity_why;
static bool unreadable;    /* our own last look at the files failed */
static uint32_t fed;       /* the publication last taken; both guarded by mesh_guard */
static uint32_t published; /* the identity last published, the publisher's alone */

static _Atomic int owner_pid;  /* the process whose tables these are */
static _Atomic int *fork_mark; /* a page that a real fork wipes and vfork shares */

/* ---- the view ---- */

static void view_sink(const char *line, size_t len) {
    struct mesh_view *v = atomic_load_explicit(&view, memory_order_acquire);
    if (v)
        mesh_why_push(v, line, len);
}

static void trace_view(const char *what, const struct mesh_why *why) {
    struct mesh_line l;
    mesh_line_begin(&l, why && why->text[0] ? MESH_TRACE_ERROR : MESH_TRACE_INFO, "view");
    mesh_line_str(&l, "state", what);
    mesh_line_str(&l, "file", mesh_env()->view);
    mesh_line_str(&l, "detail", why && why->text[0] ? why->text : NULL);
    mesh_line_end(&l);
}

static void view_attach(void) {
    struct mesh_view_config cfg;
    mesh_env_view_config(mesh_env(), mesh_sys_geteuid(), &cfg);
    struct mesh_view *v = NULL;
    bool private_ = false;
    struct mesh_why why = {""};
    mesh_heavy_load(); /* reading a view file needs the protos' tables */
    int err = mesh_view_open(&cfg, &v, &private_, &why);
    if (err && cfg.run_dir) { /* refused, not merely unusable: the view is ours alone then */
        trace_view("unshared", &why);
        cfg.run_dir = NULL;
        err = mesh_view_open(&cfg, &v, &private_, &why);
    }
    if (err && !why.text[0])
        (void)mesh_why(&why, err, "%s", mesh_err_text(err));
    trace_view(err ? "unusable" : private_ ? "private" : "attached", &why);
    view_looked = mesh_now_coarse();
    if (err)
        return;
    atomic_store_explicit(&view, v, memory_order_release);
    mesh_trace_sink = view_sink;
}

/* A program that comes while another thread attaches waits for it: the answer must not depend on who was
 * first. */
static void once(_Atomic int *state, void (*run)(void)) {
    int none = 0;
    if (atomic_compare_exchange_strong(state, &none, 1)) {
        run();
        atomic_store(state, 2);
        (void)mesh_sys_futex(state, 1 /* FUTEX_WAKE */, INT32_MAX, NULL, NULL, 0);
        return;
    }
    while (atomic_load(state) == 1) {
        struct timespec t = {0, 1000000};
        (void)mesh_sys_futex(state, 0 /* FUTEX_WAIT */, 1, &t, NULL, 0);
    }
}

struct mesh_view *mesh_engine_view(void) {
    if (!mesh_env()->any) /* mesh by what the last program left alone */
        return NULL;
    if (mesh_unlikely(atomic_load_explicit(&view_state, memory_order_acquire) != 2))
        once(&view_state, view_attach);
    struct mesh_view *v = atomic_load_explicit(&view, memory_order_acquire);
    uint64_t now = mesh_now_coarse(), last = atomic_load_explicit(&view_looked, memory_order_relaxed);
    int done = 2;
    if (mesh_unlikely(!v) && now - last > MESH_SEC && /* no memory, no descriptor: not for ever */
        atomic_compare_exchange_strong(&view_state, &done, 0)) {
        once(&view_state, view_attach);
        v = atomic_load_explicit(&view, memory_order_acquire);
    }
    if (v && now - last > MESH_SEC && atomic_compare_exchange_strong(&view_looked, &last, now)) {
        struct mesh_why why = {""};
        (void)mesh_ledger_settle(v, mesh_now()); /* what a kill -9 left counted */
        int r = mesh_view_refresh(v, mesh_now(), &why);
        if (r)
            trace_view(r > 0 ? "replaced" : "kept", &why);
        char spec[128];
        if (mesh_ledger_take_trace(v, mesh_engine_tree(), mesh_sys_getpid(), spec, sizeof spec))
            if (mesh_trace_set(spec))
                mesh_trace_refused("trace-spec", "value", spec);
    }
    if (v && mesh_view_learns(v))
        mesh_steward_look(v, now);
    return v;
}

struct mesh_view *mesh_engine_view_if_any(void) {
    return atomic_load_explicit(&view, memory_order_acquire);
}

/* ---- identity ---- */

static int crypto_start(void) {
    const struct mesh_env *e = mesh_env();
    mesh_heavy_load();
    int err = mesh_tls_start();
    if (err || !e->cert || !e->key || !e->ca || e->bad_identity)
        return err;
    mesh_ticket_file_use(e->run_dir);
    return mesh_identity_source_new(e->cert, e->key, e->ca, &source);
}

static void crypto_load(void) {
    atomic_store(&crypto_failed, crypto_start() ? mesh_now_coarse() : 0);
}

/* guard held. What another process of the tree published, when our own look failed. */
static int identity_feed(struct mesh_why *why) {
    struct mesh_pem pem;
    struct mesh_rotation_copy *c = mesh_rotation_copy(&fed, &pem);
    int r = c ? mesh_identity_source_feed(source, &pem, mesh_wall(), why) : 0;
    mesh_rotation_copy_free(c);
    return r;
}

/* guard held */
static int identity_look(struct mesh_why *why) {
    int r = mesh_identity_source_poll(source, mesh_wall(), why);
    if (r)
        unreadable = r < 0;
    if (unreadable && mesh_rotation_published())
        r = identity_feed(why);
    return r;
}

static void identity_poll(void) {
    struct mesh_guard g = mesh_guard_enter();
    struct mesh_why why = {""};
    int r = identity_look(&why);
    if (r < 0)
        identity_why = why;
    mesh_guard_leave(g);
    if (!r)
        return;
    struct mesh_identity *id = mesh_identity_source_get(source);
    struct mesh_line l;
    mesh_line_begin(&l, r < 0 ? MESH_TRACE_ERROR : MESH_TRACE_INFO, "config");
    mesh_line_str(&l, "identity", r < 0 ? "kept" : "loaded");
    mesh_line_str(&l, "id", id ? mesh_identity_spiffe(id) : NULL);
    mesh_line_str(&l, "detail", r < 0 ? why.text : NULL);
    mesh_line_end(&l);
    struct mesh_view *v = atomic_load(&view);
    if (v && id)
        mesh_ledger_identity(v, mesh_engine_tree(), mesh_sys_getpid(), mesh_identity_spiffe(id));
    mesh_identity_unref(id);
}

int mesh_engine_crypto(struct mesh_why *why) {
    uint64_t failed = atomic_load_explicit(&crypto_failed, memory_order_relaxed);
    int done = 2;
    if (mesh_unlikely(failed) && mesh_now_coarse() - failed > MESH_SEC)
        (void)atomic_compare_exchange_strong(&crypto_state, &done, 0);
    if (mesh_unlikely(atomic_load_explicit(&crypto_state, memory_order_acquire) != 2))
        once(&crypto_state, crypto_load);
    return atomic_load(&crypto_failed) ? mesh_why(why, MESH_E_NOMEM, "no memory for cryptography") : 0;
}

struct mesh_identity *mesh_engine_identity(struct mesh_why *why) {
    const struct mesh_env *e = mesh_env();
    if (mesh_engine_crypto(why))
        return NULL;
    if (!source) {
        const char *missing = !e->cert ? "MESH_CERT" : !e->key ? "MESH_KEY" : !e->ca ? "MESH_CA" : NULL;
        (void)mesh_why(why, MESH_E_IDENTITY, missing ? "%s is not set" : "identity cannot be used", missing);
        return NULL;
    }
    uint64_t now = mesh_now_coarse(), last = atomic_load(&identity_looked);
    if ((last == 0 || now - last > MESH_SEC) && atomic_compare_exchange_strong(&identity_looked, &last, now))
        identity_poll();
    struct mesh_identity *id = mesh_identity_source_get(source);
    if (!id)
        (void)mesh_why(why, MESH_E_IDENTITY, "%s", identity_why.text[0] ? identity_why.text : "no identity");
    return id;
}

void mesh_engine_identity_publish(void) {
    struct mesh_why why = {""};
    struct mesh_pem pem;
    struct mesh_identity *id = mesh_engine_identity(&why);
    if (!id)
        return;
    uint32_t digest;
    memcpy(&digest, mesh_identity_digest(id), sizeof digest);
    struct mesh_guard g = mesh_guard_enter();
    if (!unreadable && digest != published && mesh_identity_source_pem(source, &pem) &&
        mesh_rotation_publish(&pem))
        published = digest;
    mesh_guard_leave(g);
    mesh_identity_unref(id);
}

/* ---- verdicts ---- */

static bool excluded(const struct sockaddr *to) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)to;
    return to->sa_family == AF_INET
               ? mesh_cidr_has(mesh_env()->exclude, 4, &in->sin_addr, ntohs(in->sin_port))
               : mesh_cidr_has(mesh_env()->exclude, 6, &in6->sin6_addr, ntohs(in6->sin6_port));
}

int mesh_engine_route(const struct sockaddr *to, socklen_t len, struct mesh_route *ret) {
    const struct mesh_env *e = mesh_env();
    struct mesh_view *v = mesh_engine_view();
    int err = v ? mesh_view_route(v, to, len, mesh_random(), ret) : MESH_E_NOTFOUND;
    /* what MESH_CAPTURE would have said nobody knows, or there is no view to say it: nothing goes out in
     * clear */
    if (err == MESH_E_NOTFOUND && (e->bad_capture || (!v && e->capture)) && !excluded(to))
        return MESH_E_IDENTITY;
    return err;
}

enum { ASK_STEP_MS = 50 };
#define ASK_IMPATIENT MESH_SEC

int mesh_engine_route_ask(const struct sockaddr *to, socklen_t len, bool patient, struct mesh_route *ret) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)to;
    bool four = to->sa_family == AF_INET;
    bool mapped = !four && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
    const void *addr = four ? (const void *)&in->sin_addr : in6->sin6_addr.s6_addr + (mapped ? 12 : 0);
    uint16_t port = ntohs(four ? in->sin_port : in6->sin6_port);
    uint64_t wait = mesh_env()->resolve_timeout_ns, now = mesh_now();
    uint64_t deadline = now + (!patient && wait > ASK_IMPATIENT ? ASK_IMPATIENT : wait);
    char name[MESH_NAME_MAX + 1];
    int err = MESH_E_NOROUTE;
    struct mesh_view *v = mesh_engine_view();
    if (!v || !mesh_view_learns(v) || mesh_view_name_of(v, four || mapped ? 4 : 6, addr, name, sizeof name) ||
        mesh_view_ask(v, name, port))
        return err;
    for (; err == MESH_E_NOROUTE && now < deadline; now = mesh_now()) {
        uint32_t seen = mesh_view_answers(v);
        int asked = mesh_view_asked(v, name, port);
        err = mesh_view_route(v, to, len, mesh_random(), ret);
        if (err != MESH_E_NOROUTE || asked == MESH_E_DENIED)
            break;
        uint64_t left = deadline - now;
        mesh_view_wait(v, seen, left < ASK_STEP_MS * MESH_MS ? left : ASK_STEP_MS * MESH_MS);
        (void)mesh_engine_view(); /* sees to it that somebody is there to answer */
    }
    return err;
}

enum mesh_inbound_mode mesh_engine_inbound(uint16_t port) {
    const struct mesh_env *e = mesh_env();
    if (!e->any)
        return MESH_INBOUND_OFF;
    return e->bad_inbound ? MESH_INBOUND_STRICT : mesh_env_inbound_mode(e, port);
}

int mesh_errno(int err) {
    switch (err) {
    case MESH_E_NOENDPOINT:
    case MESH_E_FAMILY:
        return EHOSTUNREACH;
    case MESH_E_OVERLOAD:
    case MESH_E_NOROUTE:
    case MESH_E_REFUSED:
        return ECONNREFUSED;
    case MESH_E_TIMEOUT:
        return ETIMEDOUT;
    case MESH_E_NOMEM:
        return ENOBUFS;
    case MESH_E_LIMIT:
        return EMFILE;
    default:
        return EACCES;
    }
}

/* ---- processes ---- */

/* The view's ledger gets to know this process, and who it is: without that no connection of it is counted. */
static void join(struct mesh_view *v) {
    int pid = mesh_sys_getpid();
    if (mesh_ledger_join(v, mesh_slab_tree(), pid, mesh_now()))
        return;
    struct mesh_identity *id = source ? mesh_identity_source_get(source) : NULL;
    if (id)
        mesh_ledger_identity(v, mesh_slab_tree(), pid, mesh_identity_spiffe(id));
    mesh_identity_unref(id);
}

uint64_t mesh_engine_tree(void) {
    if (mesh_slab_need())
        return 1;
    struct mesh_view *v = mesh_engine_view_if_any();
    if (mesh_unlikely(v && !atomic_load_explicit(&joined, memory_order_relaxed)) &&
        !atomic_exchange(&joined, 1))
        join(v);
    return mesh_slab_tree();
}

void mesh_engine_start(void) {
    void *p;
    atomic_store(&owner_pid, mesh_sys_getpid());
    if (mesh_sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p) == 0) {
        fork_mark = p;
        *fork_mark = 1;
        if (mesh_sys_madvise(p, 4096, MADV_WIPEONFORK)) {
            (void)mesh_sys_munmap(p, 4096);
            fork_mark = NULL;
        }
    }
    mesh_preload_remember(environ);
    mesh_proc_start();
}

bool mesh_engine_foreign(void) {
    int pid = mesh_sys_getpid();
    if (pid == atomic_load(&owner_pid))
        return false;
    if (!fork_mark || *fork_mark == 1)
        return true;
    mesh_proc_found_out();
    return false;
}

void mesh_engine_look_around(void) {
    if (mesh_unlikely(fork_mark && *fork_mark == 0))
        mesh_proc_found_out();
}

void mesh_engine_after_fork(void) {
    atomic_store(&owner_pid, mesh_sys_getpid());
    if (fork_mark)
        *fork_mark = 1;
    mesh_rotation_after_fork();
    published = 0;
    int one = 1; /* whoever was attaching in the parent is not here */
    atomic_compare_exchange_strong(&view_state, &one, 0);
    one = 1;
    atomic_compare_exchange_strong(&crypto_state, &one, 0);
    struct mesh_view *v = atomic_load(&view);
    atomic_store(&joined, 0);
    if (v && mesh_slab)
        (void)mesh_engine_tree();
}
